"""Fingerprints: one sha256 for the content of a checkpoint, whatever its shards or their order.

Two levels: XXH3-128 of each tensor's bytes, then the sha256 of the sorted lines (name, dtype,
shape, digest). So a live model, a folder and a single file of equal content have one fingerprint,
and tensors may be hashed in any order. XXH3 sees every byte at the speed of memory, a fortieth of
sha256's time, and so costs a merge nothing; 128 bits find every change by accident, while nothing
here defends against somebody who makes two models of one fingerprint on purpose. Size, mtime and
samples alone would be as cheap and miss a change. Digests of files are kept in
memory, keyed by (device, inode, size, mtime, offset). https://github.com/Cyan4973/xxHash
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from xxhash import xxh3_128, xxh3_128_hexdigest

from merger.checkpoint.dtypes import bytes_of
from merger.checkpoint.header import TensorInfo, fill

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 20
_Key = tuple[object, ...]
_known: dict[_Key, str] = {}


def fingerprint_of(entries: Iterable[tuple[str, str, tuple[int, ...], str]]) -> str:
    """Combine (name, dtype code, shape, digest of the bytes) of all tensors into one sha256."""
    lines = sorted(json.dumps([name, dtype, list(shape), d]) for name, dtype, shape, d in entries)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def digest_all(*parts: object) -> str:
    """Return the sha256 of some facts, which are what JSON can say."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def tensor_digest(tensor: Tensor) -> str:
    """Return the digest of a tensor's bytes in row-major order, as a file would hold them."""
    return xxh3_128_hexdigest(bytes_of(tensor.detach().cpu().contiguous()))


def digest_of(fd: int, info: TensorInfo) -> str:
    """Return the digest of a tensor's bytes in its file, streamed in pieces of 1 MiB."""
    key = _key(fd, info)
    if key not in _known:
        _known[key] = _stream(fd, info)
    return _known[key]


def known() -> str:
    """Return all digests taken so far, as text that `learn` reads in another process."""
    return json.dumps([[*key, digest] for key, digest in _known.items()])


def learn(told: str) -> None:
    """Take over the digests of a process that works on the same files."""
    _known.update({tuple(key): digest for *key, digest in json.loads(told)})


class Follower(threading.local):
    """Hashes on the way what a thread reads of a tensor in order, from its first byte to its last.

    A merge so has the digests of its inputs without reading them again.
    """

    def __init__(self) -> None:
        self._running: dict[str, tuple[int, xxh3_128, _Key]] = {}

    def see(self, fd: int, info: TensorInfo, start: int, raw: memoryview) -> None:
        """Take the bytes at `start` of a tensor; out of order, they count for nothing."""
        if start == 0 and (key := _key(fd, info)) not in _known:
            self._running[info.name] = 0, xxh3_128(), key
        at, total, key = self._running.get(info.name, (-1, None, ()))
        if at != start or total is None:
            return
        total.update(raw)
        self._running[info.name] = at + len(raw), total, key
        if at + len(raw) == info.nbytes:
            del self._running[info.name]
            if key == _key(fd, info):  # written to meanwhile, it would be nobody's digest
                _known[key] = total.hexdigest()


def _key(fd: int, info: TensorInfo) -> _Key:
    state = os.fstat(fd)
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, info.offset, info.nbytes


def _stream(fd: int, info: TensorInfo) -> str:
    total, buffer = xxh3_128(), memoryview(bytearray(min(_CHUNK, info.nbytes)))
    for start in range(0, info.nbytes, _CHUNK):
        part = buffer[: info.nbytes - start]
        fill(fd, part, info.offset + start, info)
        total.update(part)
    return total.hexdigest()
