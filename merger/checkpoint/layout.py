"""Which tensor goes where, and which files are whole: shards, their headers and their journal.

Tensors fill shards in the order planned; within a shard the wider formats come first, so that every
tensor starts at a multiple of its element size, the first at a page. Headers are final before any
number is computed. OUT.partial holds a journal, so that what a killed run finished need not be made
again: a key of the work (the spec's hash and the headers) and a marker per finished shard, with the
time of its last write: a shard touched since is made again. Markers are files of their own, so that
several processes can finish shards of one folder without talking to each other.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from merger.checkpoint.dtypes import ITEMSIZE
from merger.checkpoint.folder import SINGLE
from merger.checkpoint.header import MAX_HEADER, TensorInfo
from merger.checkpoint.place import sync
from merger.errors import OutputError

Planned = tuple[str, str, Sequence[int]]
PAGE = 4096
_JOURNAL, _DONE = ".merger-journal", ".done-"


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
    n = len(groups)
    names = [f"model-{i:05}-of-{n:05}.safetensors" for i in range(1, n + 1)] if n > 1 else [SINGLE]
    return [_shard(name, group, folder) for name, group in zip(names, groups, strict=True)]


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
        infos.append(info := TensorInfo(tensor, dtype, tuple(shape), folder / name, end))
        spans = [end, end := end + info.nbytes]
        table[tensor] = {"dtype": dtype, "shape": list(shape), "data_offsets": spans}
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % PAGE)
    if len(text) > MAX_HEADER:
        law = f"the header of {name} passes {MAX_HEADER:,} bytes"
        raise OutputError(law, "Use smaller shards.")
    start = 8 + len(text)
    placed = tuple(replace(info, offset=start + info.offset) for info in infos)
    return Shard(name, struct.pack("<Q", len(text)) + text, placed, start + end)


def key_of(spec_hash: str, shards: Sequence[Shard]) -> str:
    """Hash what must be equal for shards of an earlier run to be ours: the spec and the headers."""
    parts = [spec_hash.encode(), *(s.name.encode() + b"\0" + s.header for s in shards)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def begin(folder: Path, key: str) -> None:
    """Write the journal of a new run."""
    (folder / _JOURNAL).write_text(key)


def begun(folder: Path) -> bool:
    """Say whether a run came as far as its journal, before which it writes nothing."""
    return any(file.name != _JOURNAL or file.stat().st_size for file in folder.iterdir())


def finished(folder: Path, key: str, shards: Sequence[Shard]) -> set[str]:
    """Return the names of the shards that an earlier run finished; refuse another run's folder."""
    try:
        found = (folder / _JOURNAL).read_bytes()
    except OSError as error:
        raise OutputError(f"{folder} has no journal", "Start anew with --force.") from error
    if found != key.encode():
        law = f"{folder} was begun with another spec, other inputs or another shard size"
        raise OutputError(law, "Start anew with --force, or choose another OUT.")
    return {s.name for s in shards if _whole(folder, s)}


def mark(folder: Path, shard: Shard) -> None:
    """Note that a shard is whole and on the disk."""
    (folder / f"{_DONE}{shard.name}").write_text(_written(folder / shard.name))
    sync(folder)


def erase(folder: Path) -> None:
    """Remove the journal and the markers: the folder is complete."""
    for file in (*folder.glob(f"{_DONE}*"), folder / _JOURNAL):
        file.unlink(missing_ok=True)


def _whole(folder: Path, shard: Shard) -> bool:
    file, marker = folder / shard.name, folder / f"{_DONE}{shard.name}"
    if not (marker.is_file() and file.is_file()) or file.is_symlink():
        return False
    return file.stat().st_size == shard.size and marker.read_bytes() == _written(file).encode()


def _written(file: Path) -> str:
    return str(file.stat().st_mtime_ns)
