"""From a spec and open checkpoints to a plan: every mismatch found here, all of them at once.

Every tensor of every input ends up merged, copied or dropped, and each drop is named. Nothing but
headers is read (tied embeddings stored twice are compared, to know that they are one).
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from merger.checkpoint import Checkpoint, dtype_code
from merger.checkpoint.folder import stating
from merger.checkpoint.header import TensorInfo
from merger.checkpoint.tied import agree
from merger.errors import MismatchError, SpecError
from merger.names import main_stack, stacks
from merger.plan.configs import config_notes
from merger.plan.model import Drop, Plan, Source, Step
from merger.plan.rows import Row, Tables, length, rows_of, tables_of
from merger.spec import ExpertSpec, MergeSpec

_SHOWN = 40
_LAYERS = "num_hidden_layers"
_SHAPES = "Merge models of one architecture; where only vocabularies differ, use --vocab base."


def make_plan(spec: MergeSpec, checkpoints: Mapping[str, Checkpoint]) -> Plan:
    """Plan a merge from the headers of its models.

    Args:
        spec: what to merge; its models are the keys of `checkpoints`.
        checkpoints: the open models by the name that the spec gives them.

    Raises:
        MismatchError: naming every tensor that is missing, or differs in shape or kind.
    """
    copies = agree({m: checkpoints[m] for m in spec.models})
    tables: Tables = {
        m: {n: i for n, i in checkpoints[m].tensors.items() if n != copies.get(m)}
        for m in spec.models
    }
    config = stating(checkpoints[spec.donor].config, _LAYERS)
    maker = _Maker(spec, tables)
    steps = tuple(s for row in rows_of(spec, tables, config.get(_LAYERS)) if (s := maker.step(row)))
    maker.complain()
    drops, fates = maker.fates(steps)
    drops = [*(Drop(m, n, "a copy of the tied embedding") for m, n in copies.items()), *drops]
    fates["dropped"] += len(copies)
    told = config_notes({m: checkpoints[m].config for m in spec.models}, spec.donor)
    notes = (*spec.notes, *maker.notes(steps), *told)
    return Plan(spec, steps, tuple(drops), notes, _stacked(spec, tables, config), fates)


class _Maker:
    """Turns rows into steps and collects what does not fit."""

    def __init__(self, spec: MergeSpec, tables: Tables) -> None:
        self.spec, self.tables = spec, tables
        self.wrong: list[str] = []
        self.mixed: Counter[tuple[str, str]] = Counter()

    def step(self, row: Row) -> Step | None:
        """Return the step of one output tensor, or None after noting what is wrong with it."""
        spec, ground, base = self.spec, self.spec.ground(row.part), None
        experts = spec.active(row.part)
        if spec.operator.base != "unused" and ground is not None:
            base = Source(ground, row.source(ground))
        sources = tuple(Source(e.model, row.source(e.model)) for e in experts)
        infos = self.infos(row, [*sources, base] if base else sources)
        if infos is None:
            return None
        head = infos[(base or sources[0]).model]
        if not head.is_float or not head.numel:
            # A base that takes no part in the arithmetic may have the tensor, to copy it.
            spare = ground and row.part.whole and row.name in self.tables[ground]
            kept = base or (Source(ground or "", row.name) if spare else sources[0])
            return Step(row.name, None, (kept,), None, {}, head.dtype, head.shape)
        self.mixed.update((m, i.dtype) for m, i in infos.items() if i.dtype != head.dtype)
        knobs = {
            name: tuple(self.value(row, e, name) for e in experts)
            if knob.each
            else self.value(row, None, name)
            for name, knob in spec.operator.knobs.items()
        }
        dtype = dtype_code(spec.written_dtype) if spec.written_dtype else head.dtype
        keys = stream_keys([s.model for s in sources], row.name)
        return Step(row.name, spec.method, sources, base, knobs, dtype, head.shape, keys)

    def infos(self, row: Row, sources: Sequence[Source]) -> dict[str, TensorInfo] | None:
        """Return the headers of a row's tensors by model, or None if they do not fit."""
        found = {s.model: i for s in sources if (i := self.tables[s.model].get(s.tensor))}
        missing = [s for s in sources if s.model not in found]
        self.wrong += [f"{s.tensor} is missing in {s.model}" for s in missing]
        if len({i.shape for i in found.values()}) > 1:
            told = ", ".join(f"{list(i.shape)} in {m}" for m, i in found.items())
            self.wrong.append(f"{row.name} has the shapes {told}")
        elif len({i.is_float for i in found.values()}) > 1:
            told = ", ".join(f"{i.dtype} in {m}" for m, i in found.items())
            self.wrong.append(f"{row.name} has the dtypes {told}")
        elif not missing:
            return found
        return None

    def value(self, row: Row, expert: ExpertSpec | None, name: str) -> Any:
        """Return a knob's value for one tensor: expert, part, whole merge, default."""
        for setting in self.spec.settings(row.part, expert, name):
            if (value := setting.at(row.name, row.depth)) is not None:
                return value
        default = self.spec.operator.knobs[name].default
        if default is None:
            whom = f" of {expert.model}" if expert else ""
            self.wrong.append(f"{row.name} is taken by no filter of {name}{whom}")
        return default

    def complain(self) -> None:
        """Raise one error that lists everything found wrong."""
        if not (wrong := list(dict.fromkeys(self.wrong))):
            return
        told = wrong[:_SHOWN]
        if len(wrong) > 1:
            told = [f"{len(wrong)} tensors do not fit together:", *(f"  {w}" for w in told)]
        if len(wrong) > _SHOWN:
            told.append(f"  and {len(wrong) - _SHOWN} more")
        remedy = "Add a rule without a filter." if "no filter" in wrong[0] else _SHAPES
        raise MismatchError("\n".join(told), remedy)

    def fates(self, steps: tuple[Step, ...]) -> tuple[list[Drop], Counter[str]]:
        """Say of every input tensor what becomes of it: the drops by name, all by their count."""
        known = {s: "copied" for step in steps if not step.operator for s in step.inputs}
        known |= {s: "merged" for step in steps if step.operator for s in step.inputs}
        # A base that takes no part is only asked for what is copied.
        listed = {s.model for s, fate in known.items() if fate == "merged"} or {*self.tables}
        # A copied tensor is the same fact in every model, so the others' are not called dropped.
        same = {step.name for step in steps if not step.operator}
        modules = self.spec.parts[0].module
        reason = "not asked for by its module" if modules else "outside the slices"
        reason = f"not in {self.spec.donor}" if self.spec.experts else reason
        drops, fates = [], Counter({"dropped": 0})
        for source in (Source(m, name) for m, table in self.tables.items() for name in table):
            left = "dropped" if source.model in listed else "not asked for"
            fate = known.get(source, "copied" if source.tensor in same else left)
            fates[fate] += 1
            if fate == "dropped":
                drops.append(Drop(source.model, source.tensor, reason))
        return drops, fates

    def notes(self, steps: tuple[Step, ...]) -> list[str]:
        """Return what a reader should be told beside the table of steps."""
        spec, told = self.spec, []
        if spec.base and spec.operator.base == "unused":
            listed = spec.base in {e.model for e in spec.experts}
            part = "" if listed else "takes no part and "
            told.append(f"base {spec.base}: {part}gives config and tokenizer ({spec.method})")
        if not spec.base:
            told.append(f"no base: config and tokenizer come from {spec.donor}, listed first")
        told += [
            f"{step.name} ({step.dtype}) is copied from {step.sources[0].model}"
            for step in steps
            if not step.operator and step.nbytes
        ]
        for (model, dtype), count in self.mixed.items():
            told.append(f"{model}: {count} tensors are stored as {dtype}, unlike {spec.donor}")
        return told


def _stacked(spec: MergeSpec, tables: Tables, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config keys that speak of layers, for the layers that slices make.

    Raises a SpecError where a stack gets another number of layers and no key says how many it has.
    """
    changes: dict[str, Any] = {}
    for module, parts in spec.modules.items():
        if parts[0].whole or _LAYERS not in config:
            continue
        counts = stacks(tables_of(module, spec, tables)[spec.donor])
        stack = main_stack(counts, config[_LAYERS]) or ""
        made = sum(map(length, parts))
        if counts[stack] == config[_LAYERS]:
            changes[_LAYERS] = made
            kinds = config.get("layer_types")
            if isinstance(kinds, list) and len(kinds) == config[_LAYERS]:
                spans = [slice(*(part.sources[0].layers or ())) for part in parts]
                changes["layer_types"] = [kind for span in spans for kind in kinds[span]]
        elif made != counts[stack]:
            law = f"{stack} would have {made} layers, and config.json speaks of other {_LAYERS}"
            raise SpecError(law, f"Lay all {counts[stack]} layers of it, or give it models.")
    return changes


def stream_keys(models: list[str], tensor: str) -> tuple[int, ...]:
    """Return the key of each expert's random stream for one tensor.

    An expert is known by the last part of its name, so that the same folder gives the same draws
    wherever it lies; a second one of that name is told apart by its number.
    """
    names = [PurePath(model).name for model in models]
    told = [f"{name}\0{names[: i + 1].count(name)}\0{tensor}" for i, name in enumerate(names)]
    digests = [hashlib.sha256(text.encode()).digest() for text in told]
    return tuple(int.from_bytes(digest[:8], "little", signed=True) for digest in digests)
