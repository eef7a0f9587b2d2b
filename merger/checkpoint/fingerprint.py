"""Fingerprints: one sha256 for the content of a checkpoint, whatever its shards or their order.

Two levels: the sha256 of each tensor's bytes, then the sha256 of the sorted lines (name, dtype,
shape, digest). So a live model, a folder and a single file of equal content have one fingerprint,
and tensors may be hashed in any order. Digests of files are kept in memory, keyed by (path, size,
mtime, offset).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from merger.checkpoint.dtypes import bytes_of
from merger.checkpoint.header import TensorInfo
from merger.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 20
_known: dict[tuple[object, ...], str] = {}


def fingerprint_of(entries: Iterable[tuple[str, str, tuple[int, ...], str]]) -> str:
    """Combine (name, dtype code, shape, digest of the bytes) of all tensors into one sha256."""
    lines = sorted(json.dumps([name, dtype, list(shape), d]) for name, dtype, shape, d in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """Return the sha256 of a tensor's bytes in row-major order, as a file would hold them."""
    return hashlib.sha256(bytes_of(tensor.detach().cpu().contiguous())).hexdigest()


def digest_of(fd: int, info: TensorInfo) -> str:
    """Return the sha256 of a tensor's bytes in its file, streamed in pieces of 1 MiB."""
    state = os.fstat(fd)
    key = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, info.offset, info.nbytes)
    if key not in _known:
        _known[key] = _stream(fd, info)
    return _known[key]


def known() -> str:
    """Return all digests taken so far, as text that `learn` reads in another process."""
    return json.dumps([[*key, digest] for key, digest in _known.items()])


def learn(told: str) -> None:
    """Take over the digests of a process that works on the same files."""
    _known.update({tuple(key): digest for *key, digest in json.loads(told)})


def _stream(fd: int, info: TensorInfo) -> str:
    total, done = hashlib.sha256(), 0
    while done < info.nbytes:
        part = os.pread(fd, min(_CHUNK, info.nbytes - done), info.offset + done)
        if not part:
            law = f"{info.file} ends inside {info.name!r}"
            raise CheckpointError(law, "The file has changed since it was opened: fetch it again.")
        total.update(part)
        done += len(part)
    return total.hexdigest()
