"""One streamed pass over a base and its experts, block of rows by block of rows.

Memory is a block of rows of each model, whatever the models' size. A tensor that an expert lacks,
or has in another shape, is left out and named: how many of them there are is itself a sign that
two models are strangers (see lineage.py).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from merger.checkpoint import Checkpoint, TensorInfo
from merger.errors import MismatchError
from merger.geometry.sums import BLOCK, Sums, flat_sums
from merger.names import module_of, natural, placing


@dataclass
class Geometry:
    """The sums of every tensor that base and experts share, and what could not be compared."""

    base: str
    experts: list[str]
    tensors: dict[str, Sums] = field(default_factory=dict)
    matrices: set[str] = field(default_factory=set)  # tensors of two axes or more
    notes: list[str] = field(default_factory=list)
    unlike: dict[str, int] = field(default_factory=dict)  # expert -> tensors missing or misshapen

    def total(self, keep: Callable[[str], bool] = lambda _: True) -> Sums:
        """Add up the tensors whose name `keep` takes."""
        return sum((s for n, s in self.tensors.items() if keep(n)), Sums.zero(len(self.experts)))

    def by(self, key: Callable[[str], str]) -> dict[str, Sums]:
        """Add up the tensors by a key of their names, in natural order."""
        groups: dict[str, Sums] = {}
        for name, sums in self.tensors.items():
            groups[key(name)] = groups.get(key(name), Sums.zero(len(self.experts))) + sums
        return {k: groups[k] for k in sorted(groups, key=natural)}

    def by_layer(self) -> dict[str, Sums]:
        """Add up by layer (`layer 3`); what lies outside the layers stands under its module."""
        return self.by(placing(self.tensors))

    def by_module(self) -> dict[str, Sums]:
        """Add up by kind of module: embed, attn, mlp, norm, head, other."""
        return self.by(module_of)

    def to_json(self) -> dict[str, Any]:
        """Return everything as one JSON document; pairs are keyed by positions in `experts`."""
        return {
            "base": self.base,
            "experts": self.experts,
            "total": self.total().figures(),
            "modules": {k: s.figures() for k, s in self.by_module().items()},
            "layers": {k: s.figures() for k, s in self.by_layer().items()},
            "tensors": {k: s.figures() for k, s in self.tensors.items()},
            "notes": self.notes,
        }


def measure(
    base: Checkpoint,
    experts: Mapping[str, Checkpoint],
    *,
    base_name: str = "base",
    sample: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> Geometry:
    """Read base and experts once, block by block, and sum up their geometry.

    With `sample`, at most that many entries of each tensor are read (its first rows), enough for a
    verdict on lineage in a second. Tensors that are missing, misshapen or of whole numbers are left
    out and named in the notes. Raises a MismatchError if nothing can be compared.
    """
    found = Geometry(base_name, list(experts), unlike=dict.fromkeys(experts, 0))
    for name, info in base.tensors.items():
        if _comparable(info, experts, found):
            found.tensors[name] = _tensor(base, list(experts.values()), info, sample)
            if len(info.shape) > 1:
                found.matrices.add(name)
        if progress is not None:
            progress(name)
    for expert, checkpoint in experts.items():
        if extra := [n for n in checkpoint.tensors if n not in base.tensors]:
            found.unlike[expert] += len(extra)
            found.notes.append(f"{expert}: {len(extra)} tensors the base lacks ({extra[0]})")
    if not found.tensors:
        fitting = {(n, i.shape) for n, i in base.tensors.items() if i.is_float}
        shared = {e: {(n, i.shape) for n, i in c.tensors.items()} for e, c in experts.items()}
        strange = [e for e, theirs in shared.items() if not theirs & fitting] or list(experts)
        law = f"{base_name} and {', '.join(strange)} share no tensor of one name and shape"
        raise MismatchError(law, "Compare models of one architecture; see `merger inspect`.")
    return found


def _comparable(info: TensorInfo, experts: Mapping[str, Checkpoint], found: Geometry) -> bool:
    if not info.is_float:
        found.notes.append(f"{info.name}: {info.dtype}, not a weight")
        return False
    good = True
    for expert, checkpoint in experts.items():
        other = checkpoint.tensors.get(info.name)
        if other is None or other.shape != info.shape or not other.is_float:
            what = "missing" if other is None else f"{other.dtype} {list(other.shape)}"
            found.notes.append(f"{info.name}: {what} in {expert}, {list(info.shape)} in the base")
            found.unlike[expert] += 1
            good = False
    return good


def _tensor(
    base: Checkpoint, experts: list[Checkpoint], info: TensorInfo, sample: int | None
) -> Sums:
    sums = Sums.zero(len(experts))
    cols = 1 if info.cols > BLOCK else info.cols  # a long row is read in pieces
    for start, end in _blocks(info.numel // max(1, cols), cols, sample):
        ground, *rows = (c.floats(info.name, start * cols, end * cols) for c in (base, *experts))
        sums += flat_sums(ground, rows)
    return sums


def _blocks(rows: int, cols: int, sample: int | None) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK // max(1, cols))
    last = rows if sample is None else min(rows, max(1, sample // max(1, cols)))
    for start in range(0, last, step):
        yield start, min(start + step, last)
