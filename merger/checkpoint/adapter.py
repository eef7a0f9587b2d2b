"""A PEFT LoRA folder seen as the model it stands for: base + scale · B A, formed row by row.

No merged copy is ever made: a read forms the rows asked for, in float32, from the base's rows and
two thin factors held in memory. Departing from PEFT, which adds in the base's own format, nothing
is rounded before the merge. Products are taken in tiles of fixed height, so that a row does not
depend on which rows are read with it. DoRA, other adapter kinds and initialisations that change
the base are refused by name. Keys and scales:
https://huggingface.co/docs/peft/developer_guides/checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from merger.checkpoint.dtypes import ITEMSIZE
from merger.checkpoint.folder import inside, read_json
from merger.checkpoint.header import TensorInfo
from merger.checkpoint.reader import Checkpoint, FolderCheckpoint, out_of_rows
from merger.errors import CheckpointError, MismatchError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_FACTOR = re.compile(r"(?P<module>.+)\.(?P<kind>lora_(?:embedding_)?[AB])(?:\.weight)?")
_PREFIX = re.compile(r"^base_model\.model\.")
_CHANGES_BASE = ("pissa", "olora", "loftq", "corda")
_TILE = 64  # rows of a product; fixed, so that sums are taken in one order whatever is read


def is_adapter(folder: Path) -> bool:
    """Say whether a folder holds a PEFT adapter."""
    return (folder / CONFIG).exists()


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


class AdapterCheckpoint(Checkpoint):
    """A LoRA adapter behind the interface of a checkpoint; its base stays the caller's to close."""

    def __init__(self, path: Path, base: Checkpoint) -> None:
        self.path, self.config = path, base.config
        self._base = base
        settings = read_json(inside(path, CONFIG))
        _refuse_kinds(path, settings)
        self._file = FolderCheckpoint(weights_of(path))
        self._deltas, self._whole = _changes(path, self._file, base, settings)
        self.tensors = {n: self._info(i) for n, i in base.tensors.items()}
        touched = len(self._deltas) + len(self._whole)
        self.notes = [f"{path}: LoRA adapter, {touched} tensors of its base changed"]

    def _info(self, info: TensorInfo) -> TensorInfo:
        if info.name not in self._deltas and info.name not in self._whole:
            return info
        size = info.numel * ITEMSIZE["F32"]
        return replace(info, dtype="F32", nbytes=size, file=self._file.path, offset=0)

    def entries(self, name: str, start: int, end: int) -> Tensor:
        """Return entries [start, end): float32 where the adapter changes the tensor."""
        if name not in self._deltas and name not in self._whole:
            return self._base.entries(name, start, end)
        return out_of_rows(self.tensors[name], start, end, lambda a, b: self._rows(name, a, b))

    def _rows(self, name: str, start: int, end: int) -> Tensor:
        whole, delta = self._whole.get(name), self._deltas.get(name)
        rows = self._file.read(whole, start, end) if whole else self._base.read(name, start, end)
        return rows.float() if delta is None else rows.float() + delta.rows(start, end)

    def digest(self, name: str) -> str:
        """Return a sha256 that stands for a tensor's content: of base and factors, unmultiplied."""
        whole, delta = self._whole.get(name), self._deltas.get(name)
        ground = self._file.digest(whole) if whole else self._base.digest(name)
        if delta is None:
            return ground
        return hashlib.sha256(json.dumps([ground, delta.digest]).encode()).hexdigest()

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
    found = ""
    if kind != "LORA":
        found = f"a {kind or 'nameless'} adapter"
    elif settings.get("use_dora"):
        found = "a DoRA adapter (use_dora)"
    elif settings.get("lora_bias"):
        found = "an adapter with biases of its own (lora_bias)"
    elif start.startswith(_CHANGES_BASE):
        found = f"an adapter whose start changed the base (init_lora_weights={start})"
    if found:
        code = "from peft import AutoPeftModelForCausalLM as M; "
        code += f"M.from_pretrained('{path}').merge_and_unload().save_pretrained('{path}-merged')"
        raise CheckpointError(f"{path} is {found}; only plain LoRA is read", f'python -c "{code}"')


def _changes(
    path: Path, file: FolderCheckpoint, base: Checkpoint, settings: Mapping[str, Any]
) -> tuple[dict[str, Delta], dict[str, str]]:
    """Sort an adapter's tensors into products and whole tensors (name -> key in the file)."""
    factors: dict[str, dict[str, str]] = {}
    whole: dict[str, str] = {}
    for key in file.tensors:
        # PEFT saves an adapted embedding's own rows too, in case its vocabulary was resized.
        name = _PREFIX.sub("", key).replace(".base_layer.", ".")
        if found := _FACTOR.fullmatch(name):
            factors.setdefault(found["module"], {})[found["kind"]] = key
        elif name in base.tensors and file.tensors[key].shape == base.tensors[name].shape:
            whole[name] = key
        else:
            _misfit(path, key, f"{list(file.tensors[key].shape)} has no like in the base")
    deltas = {}
    for module, parts in factors.items():
        deltas[f"{module}.weight"] = _delta(path, module, parts, file, base, settings)
    return deltas, whole


def _delta(
    path: Path,
    module: str,
    parts: dict[str, str],
    file: FolderCheckpoint,
    base: Checkpoint,
    settings: Mapping[str, Any],
) -> Delta:
    embedding = any("embedding" in kind for kind in parts)
    names = [f"lora_embedding_{x}" if embedding else f"lora_{x}" for x in "AB"]
    info = base.tensors.get(f"{module}.weight")
    if info is None or len(info.shape) != 2 or set(parts) != set(names):
        _misfit(path, module, "the base lacks this matrix, or a factor is missing")
    a, b = (file.read(parts[n]).float() for n in names)
    rank = a.shape[0]
    turned = embedding or bool(settings.get("fan_in_fan_out"))
    left, right = (a.T.contiguous(), b.T.contiguous()) if turned else (b, a)
    if left.shape != (info.rows, rank) or right.shape != (rank, info.cols):
        _misfit(path, module, f"factors {list(a.shape)}, {list(b.shape)} for {list(info.shape)}")
    scale = _scale(path, module, rank, settings)
    told = json.dumps([*(file.digest(parts[n]) for n in names), scale, turned])
    return Delta(left, right, scale, hashlib.sha256(told.encode()).hexdigest())


def _scale(path: Path, module: str, rank: int, settings: Mapping[str, Any]) -> float:
    stated = _pattern(path, settings.get("rank_pattern"), module, settings.get("r"))
    alpha = _pattern(path, settings.get("alpha_pattern"), module, settings.get("lora_alpha"))
    if stated != rank or not isinstance(alpha, int | float):
        _misfit(path, module, f"rank {rank} in the file, {stated} in {CONFIG} (alpha {alpha})")
    return float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _pattern(path: Path, table: Any, module: str, default: Any) -> Any:
    # As in PEFT: a pattern is the end of the module's name, and may itself be an expression. It is
    # a stranger's, so it may hold nothing that could take exponential time to match.
    for pattern, value in (table or {}).items() if isinstance(table, dict | None) else ():
        if "(" in pattern or len(pattern) > 300 or sum(map(pattern.count, "*+{?")) > 3:
            _bad_pattern(path, pattern, "too costly")
        try:
            if re.fullmatch(rf"(.*\.)?({pattern.removeprefix('^')})", module):
                return value
        except re.error as error:
            _bad_pattern(path, pattern, str(error))
    return default


def _bad_pattern(path: Path, pattern: str, why: str) -> NoReturn:
    law = f"{path}: {CONFIG} holds the pattern {pattern[:80]!a}, which is not read: {why}"
    raise CheckpointError(law, "Write the names of the modules instead.")


def _misfit(path: Path, what: str, why: str) -> NoReturn:
    law = f"{path}: {what} does not fit the base: {why}"
    raise MismatchError(law, "Name the base that the adapter was trained on (adapter_config.json).")
