"""Which tensor goes where: planned tensors cut into shards, and the header of each shard.

Tensors fill shards in the order planned; within a shard the wider formats come first, so that every
tensor starts at a multiple of its element size. Headers are final before any number is computed.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from merger.checkpoint.dtypes import ITEMSIZE
from merger.checkpoint.folder import SINGLE
from merger.checkpoint.header import MAX_HEADER, TensorInfo
from merger.errors import OutputError

Planned = tuple[str, str, Sequence[int]]


@dataclass(frozen=True)
class Shard:
    """One file to be: its name, its header bytes, its tensors, its whole size in bytes."""

    name: str
    header: bytes
    tensors: tuple[TensorInfo, ...]
    size: int


def layout(planned: Iterable[Planned], shard_size: int, folder: Path) -> list[Shard]:
    """Cut the planned (name, dtype code, shape) into shards of at most `shard_size` bytes of data.

    A tensor larger than that has a shard of its own. Raises an OutputError for a name planned
    twice, or a plan without tensors.
    """
    groups = _groups(planned, shard_size)
    total = len(groups)
    names = [f"model-{i:05}-of-{total:05}.safetensors" for i in range(1, total + 1)]
    return [
        _shard(SINGLE if total == 1 else n, g, folder) for n, g in zip(names, groups, strict=True)
    ]


def _groups(planned: Iterable[Planned], shard_size: int) -> list[list[Planned]]:
    groups: list[list[Planned]] = []
    room, seen = 0, set()
    for name, dtype, shape in planned:
        if name in seen:
            raise OutputError(f"the tensor {name!r} is planned twice", "Name each output once.")
        seen.add(name)
        size = math.prod(shape) * ITEMSIZE[dtype]
        if not groups or (size > room and groups[-1]):
            groups.append([])
            room = shard_size
        groups[-1].append((name, dtype, shape))
        room -= size
    if not groups:
        raise OutputError("the plan holds no tensor", "Merge models that have at least one.")
    return groups


def _shard(name: str, group: list[Planned], folder: Path) -> Shard:
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers asks for it
    infos, end = [], 0
    for tensor, dtype, shape in sorted(group, key=lambda p: -ITEMSIZE[p[1]]):
        info = TensorInfo(tensor, dtype, tuple(shape), folder / name, end)
        infos.append(info)
        spans = [end, end := end + info.nbytes]
        table[tensor] = {"dtype": dtype, "shape": list(shape), "data_offsets": spans}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise OutputError(
            f"the header of {name} passes {MAX_HEADER:,} bytes", "Use smaller shards."
        )
    start = 8 + len(text)
    placed = tuple(replace(info, offset=start + info.offset) for info in infos)
    return Shard(name, struct.pack("<Q", len(text)) + text, placed, start + end)
