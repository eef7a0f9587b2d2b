"""A checkpoint whose vocabulary rows stand in another order: each row found by its token.

Row i of the target belongs to token i of the target's tokenizer. It is read from the model itself
if that knows the token, else from the first fallback that does: so a task vector is exactly zero
for tokens an expert has never seen. Every other tensor is the model's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from merger.checkpoint.dtypes import dtype_code, torch_dtype
from merger.checkpoint.header import TensorInfo
from merger.checkpoint.reader import Checkpoint, out_of_rows


class Rows(NamedTuple):
    """Where the target's rows lie in one checkpoint: places (rows,) int64, -1 where it has none."""

    checkpoint: Checkpoint
    places: Tensor


class GatheredCheckpoint(Checkpoint):
    """A checkpoint seen through maps of rows for some of its tensors."""

    def __init__(self, own: Checkpoint, maps: Mapping[str, Sequence[Rows]]) -> None:
        self._own, self._maps = own, maps
        self.path, self.config, self.notes = own.path, own.config, own.notes
        self.tensors = {n: self._info(i) for n, i in own.tensors.items()}

    def _info(self, info: TensorInfo) -> TensorInfo:
        if info.name not in self._maps:
            return info
        rows = self._maps[info.name]
        wide = torch_dtype(info.dtype)
        for one in rows:  # a fallback of a finer format must not be rounded
            wide = torch.promote_types(wide, torch_dtype(one.checkpoint.tensors[info.name].dtype))
        shape = (rows[0].places.numel(), *info.shape[1:])
        return replace(info, dtype=dtype_code(wide), shape=shape)

    def entries(self, name: str, start: int, end: int) -> Tensor:
        """Return entries [start, end) of the tensor as the target orders its rows."""
        if name not in self._maps:
            return self._own.entries(name, start, end)
        return out_of_rows(self.tensors[name], start, end, lambda a, b: self._rows(name, a, b))

    def _rows(self, name: str, start: int, end: int) -> Tensor:
        info = self.tensors[name]
        rows = torch.zeros(end - start, info.cols, dtype=torch_dtype(info.dtype))
        missing = torch.ones(end - start, dtype=torch.bool)
        for one in self._maps[name]:
            part = one.places[start:end]
            for to, source, count in _runs(torch.where(missing, part, -1)):
                rows[to : to + count] = one.checkpoint.read(name, source, source + count)
            missing &= part < 0
        return rows

    def digest(self, name: str) -> str:
        """Return a sha256 that stands for a tensor's content: of the sources and the maps."""
        if name not in self._maps:
            return self._own.digest(name)
        told = [
            [one.checkpoint.digest(name), hashlib.sha256(one.places.numpy().tobytes()).hexdigest()]
            for one in self._maps[name]
        ]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def close(self) -> None:
        """Close the model itself; fallbacks are models of their own."""
        self._own.close()


def _runs(index: Tensor) -> list[tuple[int, int, int]]:
    """Return (to, source, count) of rows that follow each other in both, without those of -1."""
    kept = (index >= 0).nonzero().view(-1)
    if not kept.numel():
        return []
    source = index[kept]
    breaks = ((kept[1:] - kept[:-1] != 1) | (source[1:] - source[:-1] != 1)).nonzero().view(-1) + 1
    starts = [0, *breaks.tolist()]
    ends = [*breaks.tolist(), kept.numel()]
    return [(int(kept[a]), int(source[a]), b - a) for a, b in zip(starts, ends, strict=True)]
