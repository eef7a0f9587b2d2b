"""Write a checkpoint whose every byte has its place before the first is computed.

Headers are written first, then blocks of rows at their positions, from any thread and in any
order. What is written goes to the disk behind the work, and the page cache forgets it: a merge
larger than memory else drives its own inputs out, and in a virtual machine a fresh page costs four
times what is written into it. A shard whose rows are all there is synced and marked; `commit` syncs
the rest, writes the index and gives the folder its name. Nothing stands under the final name until
then. Killed, it resumes at the first unfinished shard; failed, it leaves the disk as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from merger.checkpoint import journal
from merger.checkpoint.dtypes import ITEMSIZE, bytes_of, torch_dtype
from merger.checkpoint.folder import INDEX
from merger.checkpoint.handles import allow_many_files
from merger.checkpoint.layout import Planned, Shard, layout
from merger.checkpoint.place import (
    check_place,
    check_space,
    hold,
    partial_of,
    said,
    sync,
    take_place,
)
from merger.errors import OutputError

SHARD_SIZE = 5_000_000_000
_SIDECAR = 32 << 20  # room asked for beside the weights: tokenizer, config, cards
_BEHIND = 64 << 20  # bytes written to a shard between two syncs


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
        sidecar_bytes: int = _SIDECAR,
    ) -> None:
        allow_many_files()
        self.out = Path(os.path.abspath(out))  # noqa: PTH100 - a link as OUT must stay visible
        self.folder = partial_of(self.out)
        self.shards = layout(planned, shard_size, self.folder)
        self._of = {info.name: (shard, info) for shard in self.shards for info in shard.tensors}
        self._missing = {s.name: sum(i.numel for i in s.tensors) for s in self.shards}
        self._blocks: dict[str, list[tuple[int, int]]] = {}
        self._fds: dict[str, int] = {}
        self._lock, self._pool = threading.Lock(), ThreadPoolExecutor(1, "sync")
        self._dirty = Counter[str]()
        self._syncing: dict[str, Future[None]] = {}
        self._made: list[Path] = []
        self._held: list[int] = []
        self.finished: frozenset[str] = frozenset()
        self._key = journal.key_of(spec_hash, self.shards)
        try:
            with said(self.out):
                kept = self._begin(force, resume, sidecar_bytes, joins=share[0] > 0)
        except BaseException:
            self.close()
            raise
        with said(self.out):
            self._take({s.name for s in self.shards[share[0] :: share[1]]} - kept)

    def _begin(self, force: bool, resume: bool, sidecar_bytes: int, *, joins: bool) -> set[str]:
        """Make the folder, or go on in it; return the shards that are finished."""
        kept: set[str] = set()
        if not joins:
            if self.folder.is_dir() and not self.folder.is_symlink():
                self._held.append(hold(self.folder))
            check_place(self.out, force=force, resume=resume)
        self.resumed = joins or (resume and self.folder.exists())
        if self.resumed:
            kept = journal.finished(self.folder, self._key, self.shards)
        if not joins:
            needed = sum(s.size for s in self.shards if s.name not in kept) + sidecar_bytes
            check_space(self.out, needed - self._reusable(kept))
        if not self.resumed:
            self._new_folder()
        return kept

    def _take(self, mine: set[str]) -> None:
        """Open the shards that are to be written here; the rest counts as finished."""
        self.finished = frozenset(n for n, (s, _) in self._of.items() if s.name not in mine)
        self._missing |= {s.name: 0 for s in self.shards if s.name not in mine}
        try:
            for shard in self.shards:
                if shard.name in mine:
                    self._open(shard)
        except BaseException:
            self.abort()
            raise

    def _reusable(self, kept: set[str]) -> int:
        """Return the bytes already taken on the disk by what will be written over."""
        files = [f for f in self.folder.glob("*") if f.name not in kept and f.is_file()]
        return sum(f.stat().st_blocks * 512 for f in files)

    def _new_folder(self) -> None:
        if self.folder.exists():
            shutil.rmtree(self.folder)
        parents = [p for p in self.folder.parents if not p.exists()]
        self.folder.mkdir(parents=True)
        self._made = parents
        self._held.append(hold(self.folder))
        journal.begin(self.folder, self._key)

    def _open(self, shard: Shard) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        fd = self._fds[shard.name] = os.open(self.folder / shard.name, flags, 0o666)
        os.ftruncate(fd, shard.size)
        _pwrite(fd, memoryview(shard.header), 0)
        if not self._missing[shard.name]:
            self._finish(shard)

    def write(self, name: str, row_start: int, block: Tensor) -> None:
        """Write rows of a tensor at their position: block is (rows, cols) in the planned dtype.

        A block (n, 1) holds entries of a long row, and `row_start` counts entries. Raises an
        OutputError if the disk refuses; a block of another shape or dtype, or rows written twice,
        are bugs (ValueError).
        """
        shard, info = self._of[name]
        width = block.shape[1] if block.dim() == 2 else 0
        start, end = row_start * width, row_start * width + block.numel()
        fits = width in (1, info.cols) and block.dtype == torch_dtype(info.dtype)
        if not fits or end > info.numel:
            law = f"{name}: a block {tuple(block.shape)} {block.dtype} at row {row_start}"
            raise ValueError(f"{law} does not fit {info.dtype} {info.shape}")
        if not block.numel():
            return
        raw = bytes_of(block.detach().contiguous())
        with said(self.out):
            offset = info.offset + start * ITEMSIZE[info.dtype]
            _pwrite(self._fds[shard.name], raw, offset)
            if self._count(shard, name, start, end):
                self._finish(shard)
            else:
                self._sync_behind(shard.name, len(raw))

    def _count(self, shard: Shard, name: str, start: int, end: int) -> bool:
        with self._lock:
            blocks = self._blocks.setdefault(name, [])
            if any(a < end and start < b for a, b in blocks):
                raise ValueError(f"{name}: entries {start}:{end} are written twice")
            _merge(blocks, start, end)
            self._missing[shard.name] -= end - start
            return self._missing[shard.name] == 0

    def _sync_behind(self, shard: str, written: int) -> None:
        with self._lock:
            self._dirty[shard] += written
            before = self._syncing.get(shard)
            if self._dirty[shard] >= _BEHIND and (before is None or before.done()):
                if before is not None:
                    before.result()  # what the disk refused is told once: it must not be lost
                self._dirty[shard] = 0
                self._syncing[shard] = self._pool.submit(_sync, self._fds[shard])

    def _finish(self, shard: Shard) -> None:
        fd = self._fds[shard.name]
        if before := self._syncing.pop(shard.name, None):
            before.result()
            _sync(fd)
        os.fsync(fd)
        journal.mark(self.folder, shard)
        with self._lock:
            os.close(self._fds.pop(shard.name))

    def commit(self) -> Path:
        """Write the index, sync everything and give the folder its name; return that name."""
        if any(self._missing.values()):
            lacking = [n for n, rows in self._missing.items() if rows]
            raise ValueError(f"{self.out}: rows are missing in {', '.join(lacking)}")
        with said(self.out):
            whole = journal.finished(self.folder, self._key, self.shards)
            if lacking := [s.name for s in self.shards if s.name not in whole]:
                law = f"{self.folder} lacks {', '.join(lacking)}, left to another process"
                raise OutputError(law, "Run it again with --resume.")
            if len(self.shards) > 1:
                (self.folder / INDEX).write_text(self._index())
            journal.erase(self.folder)
            for file in self.folder.rglob("*"):
                if file.is_file() and not file.name.endswith(".safetensors"):
                    sync(file)
            sync(self.folder)
            take_place(self.folder, self.out)
        self.close()
        return self.out

    def _index(self) -> str:
        total = sum(info.nbytes for _, info in self._of.values())
        table = {name: shard.name for name, (shard, _) in sorted(self._of.items())}
        document = {"metadata": {"total_size": total}, "weight_map": table}
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    def close(self) -> None:
        """Stop writing and keep OUT.partial, whose finished shards a later run can use."""
        self._pool.shutdown(cancel_futures=True)
        with self._lock:
            for fd in (*self._fds.values(), *self._held):
                os.close(fd)
            self._fds.clear()
            self._held.clear()

    def abort(self) -> None:
        """Stop writing and leave the disk as it was: a new OUT.partial goes, an old one stays."""
        self.close()
        if self.resumed:
            for shard in self.shards:
                if self._missing[shard.name]:
                    (self.folder / shard.name).unlink(missing_ok=True)
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


def _merge(blocks: list[tuple[int, int]], start: int, end: int) -> None:
    # Neighbours join, so a tensor written in order keeps one interval however many its blocks.
    for a, b in list(blocks):
        if b == start or a == end:
            blocks.remove((a, b))
            start, end = min(a, start), max(b, end)
    blocks.append((start, end))


def _sync(fd: int) -> None:
    os.fdatasync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _pwrite(fd: int, raw: memoryview, offset: int) -> None:
    done = 0
    while done < len(raw):
        done += os.pwrite(fd, raw[done:], offset + done)
