"""A PEFT LoRA folder seen as the model it stands for: base + scale · B A, formed row by row.

No merged copy is ever made: a read forms the rows asked for, in float32, from the base's rows and
two thin factors held in memory. Departing from PEFT, which adds in the base's own format, nothing
is rounded before the merge. Products are taken in tiles of fixed height, so that a row does not
depend on which rows are read with it. DoRA, other adapter kinds and initialisations that change
the base are refused by name. Keys and scales:
https://huggingface.co/docs/peft/developer_guides/checkpoint.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from merger.checkpoint.fingerprint import digest_all
from merger.checkpoint.folder import inside, read_json
from merger.checkpoint.reader import Checkpoint, FolderCheckpoint, View
from merger.errors import CheckpointError, MismatchError
from merger.late import Tensor, torch

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_FACTOR = re.compile(r"(?P<module>.+)\.(?P<kind>lora_(?:embedding_)?[AB])(?:\.weight)?")
_PREFIX = re.compile(r"^base_model\.model\.")
_TILE = 64  # rows of a product; fixed, so that sums are taken in one order whatever is read


@dataclass(frozen=True)
class Delta:
    """One tensor's change: scale · left @ right in float32, left (rows, r), right (r, cols)."""

    left: Tensor
    right: Tensor
    scale: float
    digest: str

    def rows(self, start: int, end: int) -> Tensor:
        """Return rows [start, end) of the change, the same whatever else is asked for."""
        first = start // _TILE * _TILE
        tiles = [self._tile(row) for row in range(first, end, _TILE)]
        return torch.cat(tiles)[start - first : end - first] * self.scale

    def _tile(self, row: int) -> Tensor:
        part = self.left[row : row + _TILE]
        if part.shape[0] < _TILE:
            part = torch.cat([part, part.new_zeros(_TILE - part.shape[0], part.shape[1])])
        return part @ self.right


class AdapterCheckpoint(View):
    """A LoRA adapter behind the interface of a checkpoint; its base stays the caller's to close."""

    def __init__(self, path: Path, base: Checkpoint) -> None:
        self.path, self.own = path, base
        self._settings = read_json(inside(path, CONFIG))
        _refuse_kinds(path, self._settings)
        self._file = FolderCheckpoint(weights_of(path))
        factors, self._whole = self._sorted()
        self._deltas = {f"{m}.weight": self._delta(m, parts) for m, parts in factors.items()}
        changed = {n: base.tensors[n] for n in (*self._deltas, *self._whole)}
        place: dict[str, Any] = {"dtype": "F32", "file": self._file.path, "offset": 0}
        super().__init__(path, base, {n: replace(i, **place) for n, i in changed.items()})
        touched = len(self._deltas) + len(self._whole)
        self.notes = [f"{path}: LoRA adapter, {touched} tensors of its base changed"]

    def _sorted(self) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        """Sort the file's keys: the factors of each module by kind, and whole tensors by name."""
        factors: dict[str, dict[str, str]] = {}
        whole: dict[str, str] = {}
        for key, info in self._file.tensors.items():
            # PEFT saves an adapted embedding's own rows too, in case its vocabulary was resized.
            name = _PREFIX.sub("", key).replace(".base_layer.", ".")
            if found := _FACTOR.fullmatch(name):
                factors.setdefault(found["module"], {})[found["kind"]] = key
            elif name in self.own.tensors and info.shape == self.own.tensors[name].shape:
                whole[name] = key
            else:
                self._misfit(key, f"{list(info.shape)} has no like in the base")
        return factors, whole

    def _delta(self, module: str, parts: dict[str, str]) -> Delta:
        embedding = any("embedding" in kind for kind in parts)
        names = [f"lora_embedding_{x}" if embedding else f"lora_{x}" for x in "AB"]
        info = self.own.tensors.get(f"{module}.weight")
        if info is None or len(info.shape) != 2 or set(parts) != set(names):
            self._misfit(module, "the base lacks this matrix, or a factor is missing")
        a, b = (self._file.read(parts[n]).float() for n in names)
        rank = a.shape[0]
        turned = embedding or bool(self._settings.get("fan_in_fan_out"))
        left, right = (a.T.contiguous(), b.T.contiguous()) if turned else (b, a)
        if left.shape != (info.rows, rank) or right.shape != (rank, info.cols):
            shapes = [list(one.shape) for one in (a, b)]
            self._misfit(module, f"factors {shapes[0]}, {shapes[1]} for {list(info.shape)}")
        scale = self._scale(module, rank)
        factors = [self._file.digest(parts[n]) for n in names]
        return Delta(left, right, scale, digest_all(factors, scale, turned))

    def _scale(self, module: str, rank: int) -> float:
        stated = self._stated("r", "rank", module)
        alpha = self._stated("lora_alpha", "alpha", module)
        if stated != rank or not isinstance(alpha, int | float):
            self._misfit(module, f"rank {rank} in the file, {stated} in {CONFIG} (alpha {alpha})")
        return float(alpha) / (math.sqrt(rank) if self._settings.get("use_rslora") else rank)

    def _stated(self, key: str, kind: str, module: str) -> Any:
        # As in PEFT: a pattern is the end of the module's name, and may itself be an expression. It
        # is a stranger's, so it may hold nothing that could take exponential time to match.
        table = self._settings.get(f"{kind}_pattern")
        for pattern, value in table.items() if isinstance(table, dict) else ():
            costly = "(" in pattern or len(pattern) > 300 or sum(map(pattern.count, "*+{?")) > 3
            try:
                if not costly and re.fullmatch(rf"(.*\.)?({pattern.removeprefix('^')})", module):
                    return value
            except re.error:
                costly = True
            if costly:
                law = f"{self.path}: {CONFIG}: the pattern {pattern[:80]!a} is wrong, or too costly"
                raise CheckpointError(law, "Write the names of the modules instead.")
        return self._settings.get(key)

    def _misfit(self, what: str, why: str) -> NoReturn:
        law = f"{self.path}: {what} does not fit the base: {why}"
        raise MismatchError(law, f"Name the base that the adapter was trained on ({CONFIG}).")

    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Return rows [start, end) of a tensor that the adapter changes, float32."""
        whole, delta = self._whole.get(name), self._deltas.get(name)
        rows = self._file.read(whole, start, end) if whole else self.own.read(name, start, end)
        return rows.float() if delta is None else rows.float() + delta.rows(start, end)

    def source(self, name: str) -> str:
        """Return the digest of base and factors, unmultiplied."""
        whole, delta = self._whole.get(name), self._deltas.get(name)
        ground = self._file.digest(whole) if whole else self.own.digest(name)
        return ground if delta is None else digest_all(ground, delta.digest)

    def close(self) -> None:
        """Give the adapter's file back; the base is the caller's."""
        self._file.close()


def weights_of(path: Path) -> Path:
    """Return the file of an adapter's tensors; a CheckpointError for a pickle or none."""
    if (path / WEIGHTS).exists():
        return inside(path, WEIGHTS)
    if (path / "adapter_model.bin").exists():
        code = "from peft import PeftModel, AutoPeftModelForCausalLM as M; "
        code += f"M.from_pretrained('{path}').save_pretrained('{path}-st')"
        law = f"{path} holds a pickled adapter (adapter_model.bin)"
        raise CheckpointError(law, f'Convert it once, if you trust it: python -c "{code}"')
    raise CheckpointError(f"{path} lacks {WEIGHTS}", "Fetch the adapter again.")


def _refuse_kinds(path: Path, settings: Mapping[str, Any]) -> None:
    kind = str(settings.get("peft_type", "")).upper()
    start = str(settings.get("init_lora_weights", True)).lower()
    marks = {
        f"a {kind or 'nameless'} adapter": kind != "LORA",
        "a DoRA adapter (use_dora)": settings.get("use_dora"),
        "an adapter with biases of its own (lora_bias)": settings.get("lora_bias"),
        f"one whose start changed the base (init_lora_weights={start})": start.startswith(
            ("pissa", "olora", "loftq", "corda")
        ),
    }
    if found := next((what for what, so in marks.items() if so), ""):
        code = "from peft import AutoPeftModelForCausalLM as M; "
        code += f"M.from_pretrained('{path}').merge_and_unload().save_pretrained('{path}-merged')"
        raise CheckpointError(f"{path} is {found}; only plain LoRA is read", f'python -c "{code}"')


def open_checkpoint(
    path: str | Path, base: Checkpoint | None = None, *, bare: bool = False
) -> Checkpoint:
    """Open a model folder or a .safetensors file, having checked all it says about itself.

    A folder that holds a LoRA adapter stands for `base` with its change, and needs one; `bare`, it
    is its own tensors and settings. Raises a CheckpointError for anything broken, missing, or of a
    kind that is not read.
    """
    folder = Path(path)
    if not (folder / CONFIG).exists():
        return FolderCheckpoint(folder)
    if bare:
        alone = FolderCheckpoint(weights_of(folder))
        alone.config = read_json(inside(folder, CONFIG))
        return alone
    if base is None:
        trained = read_json(inside(folder, CONFIG)).get("base_model_name_or_path")
        law = f"{folder} is a LoRA adapter, which is no model without its base ({trained})"
        raise CheckpointError(law, "Name the base of the merge: `base_model:` or --base.")
    return AdapterCheckpoint(folder, base)


def open_models(folders: Mapping[str, Path], base: str | None) -> dict[str, Checkpoint]:
    """Open several models by name, the adapters among them through `base`."""
    found: dict[str, Checkpoint] = {}
    for name in sorted(folders, key=lambda n: n != base):
        found[name] = open_checkpoint(folders[name], found.get(base or ""))
    return {name: found[name] for name in folders}
