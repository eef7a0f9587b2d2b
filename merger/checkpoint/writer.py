"""Write a checkpoint whose every byte has its place before the first is computed.

Headers are written first, then blocks of rows at their positions, from any thread and in any
order. They go to the disk behind the work and past the page cache, where the system can: a merge
larger than memory else drives its own inputs out, and in a virtual machine a fresh page costs ten
times what is written into it. A shard whose rows are all there is synced and marked; `commit`
writes the index and gives the folder its name. Nothing stands under the final name until then.
Killed, it resumes at the first unfinished shard; failed, it leaves the disk as it was.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from queue import SimpleQueue

from merger.checkpoint import layout
from merger.checkpoint.dtypes import ITEMSIZE, bytes_of, torch_dtype
from merger.checkpoint.folder import INDEX
from merger.checkpoint.layout import Planned, Shard
from merger.checkpoint.place import check_place, hold, partial_of, said, sync, take_place
from merger.checkpoint.reader import allow_many_files
from merger.errors import OutputError
from merger.late import Tensor

SHARD_SIZE = 5_000_000_000
_PAGE = layout.PAGE
_PIECE, _AFOOT = 1 << 20, 8  # bytes of a piece, and how many may be on their way to the disk


class Writer:
    """A folder being written: `write` blocks, then `commit` or `abort`.

    As a context manager it aborts on an error, and on Ctrl-C keeps what is finished for `resume`.
    Other files of the model are put into `folder` before `commit`. Of several processes, `share`
    (rank, size), the first makes the folder and commits it, and each writes every so manieth shard.
    """

    def __init__(
        self,
        out: Path,
        planned: Iterable[Planned],
        shard_size: int = SHARD_SIZE,
        *,
        force: bool = False,
        resume: bool = False,
        share: tuple[int, int] = (0, 1),
        spec_hash: str = "",
    ) -> None:
        allow_many_files()
        self.out = Path(os.path.abspath(out))  # noqa: PTH100 - a link as OUT must stay visible
        self.folder = partial_of(self.out)
        self.shards = layout.layout(planned, shard_size, self.folder)
        self._of = {info.name: (shard, info) for shard in self.shards for info in shard.tensors}
        self._key = layout.key_of(spec_hash, self.shards)
        self._written = defaultdict[str, list[tuple[int, int]]](list)
        self._fds: dict[str, tuple[int, int]] = {}  # and a handle that passes by the page cache
        self._missing: dict[str, int] = {}  # bytes of each shard that is ours to write
        self._made: list[Path] = []
        self.notes: list[str] = []
        self._held: list[int] = []
        self.resumed = True  # until the folder is one of our own
        self._lock, self._pool = threading.Lock(), ThreadPoolExecutor(2, "write")
        self._refused: OSError | None = None
        self._pieces = SimpleQueue[memoryview]()
        for _ in range(_AFOOT):  # memory of whole pages, as the direct way asks for
            self._pieces.put(memoryview(mmap.mmap(-1, _PIECE)))
        try:
            with said(self.out):
                kept = self._begin(force, resume, joins=share[0] > 0)
                for shard in self.shards[share[0] :: share[1]]:
                    if shard.name not in kept:
                        self._open(shard)
        except BaseException:
            self.abort()
            raise
        self.finished = {n for n, (s, _) in self._of.items() if s.name not in self._missing}

    def _begin(self, force: bool, resume: bool, *, joins: bool) -> set[str]:
        """Make the folder, or go on in it; return the shards that are finished."""
        if not joins:
            if self.folder.is_dir() and not self.folder.is_symlink():
                self._held.append(hold(self.folder))
            self.notes = check_place(self.out, force=force, resume=resume)
        if joins or (resume and self.folder.exists() and layout.begun(self.folder)):
            return layout.finished(self.folder, self._key, self.shards)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        parents = [p for p in self.folder.parents if not p.exists()]
        self.folder.mkdir(parents=True)
        self._made, self.resumed = parents, False
        self._held.append(hold(self.folder))
        layout.begin(self.folder, self._key)
        return set()

    def _open(self, shard: Shard) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        self._missing[shard.name] = sum(info.nbytes for info in shard.tensors)
        fd = os.open(self.folder / shard.name, flags, 0o666)
        self._fds[shard.name] = fd, _direct(self.folder / shard.name)
        if sys.platform == "linux":  # a disk too small is found now
            os.posix_fallocate(fd, 0, shard.size)
        else:
            os.ftruncate(fd, shard.size)
        _pwrite(fd, shard.header, 0)
        if not self._missing[shard.name]:
            self._finish(shard)

    def write(self, name: str, row_start: int, block: Tensor) -> None:
        """Write rows of a tensor at their position: block is (rows, cols) in the planned dtype.

        A block (n, 1) holds entries of a long row, and `row_start` counts entries. Its memory is
        the caller's again. Raises an OutputError if the disk has refused something; a block of
        another shape or dtype, or rows written twice, are bugs (ValueError).
        """
        _, info = self._of[name]
        width = block.shape[1] if block.dim() == 2 else 0
        start, end = row_start * width, row_start * width + block.numel()
        fits = width in (1, info.cols) and block.dtype == torch_dtype(info.dtype)
        if not fits or end > info.numel:
            law = f"{name}: a block {tuple(block.shape)} {block.dtype} at row {row_start}"
            raise ValueError(f"{law} does not fit {info.dtype} {info.shape}")
        if block.numel():
            self.put(name, start, bytes_of(block.detach().contiguous()))

    def put(self, name: str, start: int, block: memoryview) -> None:
        """Write the bytes of a tensor's entries from `start` on, in the planned dtype."""
        shard, info = self._of[name]
        width = ITEMSIZE[info.dtype]
        with self._lock:
            _claim(self._written[name], name, start, start + len(block) // width)
        offset = info.offset + start * width
        while len(block):
            self._complain()
            into = offset % _PAGE
            piece = self._pieces.get()
            part = piece[into : into + len(block)]
            part[:] = block[: len(part)]
            self._pool.submit(self._put, shard, piece, part, offset)
            block, offset = block[len(part) :], offset + len(part)

    def _put(self, shard: Shard, piece: memoryview, part: memoryview, offset: int) -> None:
        """Bring part of a piece to the disk, and the shard to its end if nothing is missing."""
        try:
            head = min(-offset % _PAGE, len(part))
            pages = (len(part) - head) // _PAGE * _PAGE
            fd, past = self._fds[shard.name]
            passed = head + _pass_by(past, part[head : head + pages], offset + head)
            _pwrite(fd, part[:head], offset)
            _pwrite(fd, part[passed:], offset + passed)
            with self._lock:
                self._missing[shard.name] -= len(part)
                last = self._missing[shard.name] == 0
            if last:
                self._finish(shard)
        except OSError as error:  # told by the next call
            self._refused = error
        finally:
            self._pieces.put(piece)

    def _complain(self) -> None:
        """Raise what the disk has refused behind the work."""
        with said(self.out):
            if self._refused:
                raise self._refused

    def _finish(self, shard: Shard) -> None:
        handles = self._fds.pop(shard.name)
        try:
            os.fsync(handles[0])
        finally:
            _close(handles)
        layout.mark(self.folder, shard)

    def commit(self) -> Path:
        """Write the index, sync everything and give the folder its name; return that name."""
        self._pool.shutdown()
        self._complain()
        if any(self._missing.values()):
            lacking = [n for n, rows in self._missing.items() if rows]
            raise ValueError(f"{self.out}: rows are missing in {', '.join(lacking)}")
        with said(self.out):
            whole = layout.finished(self.folder, self._key, self.shards)
            if lacking := [s.name for s in self.shards if s.name not in whole]:
                law = f"{self.folder} lacks {', '.join(lacking)}, left to another process"
                raise OutputError(law, "Run it again with --resume.")
            if len(self.shards) > 1:
                (self.folder / INDEX).write_text(self._index())
            for file in self.folder.rglob("*"):
                if file.is_file() and not file.name.endswith(".safetensors"):
                    sync(file)
            sync(self.folder)
            take_place(self.folder, self.out, layout.erase)
        self.close()
        return self.out

    def _index(self) -> str:
        total = sum(info.nbytes for _, info in self._of.values())
        table = {name: shard.name for name, (shard, _) in sorted(self._of.items())}
        document = {"metadata": {"total_size": total}, "weight_map": table}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def close(self) -> None:
        """Stop writing and keep OUT.partial, whose finished shards a later run can use."""
        self._pool.shutdown()
        _close((*chain.from_iterable(self._fds.values()), *self._held))
        self._fds.clear()
        self._held.clear()

    def abort(self) -> None:
        """Stop writing and leave the disk as it was: a new OUT.partial goes, an old one stays."""
        self.close()
        if self.resumed:
            for name in (n for n, lacking in self._missing.items() if lacking):
                (self.folder / name).unlink(missing_ok=True)
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        for parent in self._made:
            with suppress(OSError):
                parent.rmdir()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, Exception):
            self.close()
        else:
            self.abort()


def _claim(taken: list[tuple[int, int]], name: str, start: int, end: int) -> None:
    """Note a range of entries; those that touch become one, so rows in order keep one range."""
    if any(a < end and start < b for a, b in taken):
        raise ValueError(f"{name}: entries {start}:{end} are written twice")
    for a, b in [span for span in taken if start in span or end in span]:
        taken.remove((a, b))
        start, end = min(a, start), max(b, end)
    taken.append((start, end))


def _direct(file: Path) -> int:
    """Open a file to write whole pages past the page cache; -1 where that is not to be had."""
    try:
        return os.open(file, os.O_WRONLY | getattr(os, "O_DIRECT", 0))
    except OSError:
        return -1


def _pass_by(past: int, pages: memoryview, offset: int) -> int:
    """Write whole pages past the page cache; return how many bytes went that way."""
    try:
        return os.pwrite(past, pages, offset) // _PAGE * _PAGE if pages and past >= 0 else 0
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return 0  # pages are larger here


def _close(handles: Iterable[int]) -> None:
    for fd in handles:
        if fd >= 0:
            os.close(fd)


def _pwrite(fd: int, raw: memoryview | bytes, offset: int) -> None:
    done = 0
    while done < len(raw):
        done += os.pwrite(fd, raw[done:], offset + done)
