"""A checkpoint on disk: headers first, then rows of tensors by positioned reads.

`open_checkpoint` checks every header, the index and the config before a byte of weights is read. A
read asks the kernel for exactly the bytes of the rows wanted, into a buffer of its own: no mapping
of whole files, so memory is what the caller holds, and any number of threads may read at once.
"""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from merger.checkpoint.dtypes import ITEMSIZE, bytes_of, dtype_name, torch_dtype
from merger.checkpoint.fingerprint import Follower, digest_of, fingerprint_of
from merger.checkpoint.folder import inside, read_json, weight_files
from merger.checkpoint.header import TensorInfo, fill, read_header
from merger.checkpoint.refuse import refuse_quantised
from merger.errors import CheckpointError
from merger.late import Tensor, np, torch


class Checkpoint(ABC):
    """What every checkpoint can do: a model folder, an adapter seen through its base, or a view."""

    path: Path
    tensors: dict[str, TensorInfo]
    config: dict[str, Any] | None
    notes: list[str]

    @property
    def folder(self) -> Path:
        """The folder that holds config and tokenizer, also where `path` is one file."""
        return self.path if self.path.is_dir() else self.path.parent

    @abstractmethod
    def entries(self, name: str, start: int, end: int) -> Tensor:
        """Return entries [start, end) of a tensor in row-major order, at least one, flat."""

    def floats(self, name: str, start: int, end: int) -> "np.ndarray":
        """Return entries [start, end) of a tensor as float32, flat."""
        found: np.ndarray = self.entries(name, start, end).float().cpu().numpy()
        return found

    @abstractmethod
    def digest(self, name: str) -> str:
        """Return the digest of what one tensor's bytes follow from: for a folder, the bytes."""

    @abstractmethod
    def close(self) -> None:
        """Give the file handles back; a later read opens them again."""

    def read(
        self,
        name: str,
        row_start: int = 0,
        row_end: int | None = None,
        *,
        cols: int | None = None,
    ) -> Tensor:
        """Return rows [row_start, row_end) of a tensor, shape (rows, cols), in its own dtype.

        With `cols` the tensor is seen as rows of that many entries, instead of its last axis: so a
        single row too long for memory can be read in pieces. An unknown name or a row outside the
        tensor is a bug; a file cut or changed since it was opened is a CheckpointError.
        """
        info = self.tensors[name]
        rows = info.rows if cols in (None, info.cols) else info.numel // cols
        cols = info.cols if cols is None else cols
        row_end = rows if row_end is None else row_end
        if not 0 <= row_start <= row_end <= rows:
            raise ValueError(f"{name}: rows {row_start}:{row_end} of {rows}")
        if row_start == row_end or not cols:
            return torch.empty(row_end - row_start, cols, dtype=torch_dtype(info.dtype))
        return self.entries(name, row_start * cols, row_end * cols).view(-1, cols)

    def fingerprint(self) -> str:
        """Return the sha256 of all names, dtypes, shapes and bytes, the same for any sharding.

        Reads what no merge has read yet once, then remembers it.
        """
        infos = self.tensors.values()
        return fingerprint_of((i.name, i.dtype, i.shape, self.digest(i.name)) for i in infos)

    def header_fingerprint(self) -> str:
        """Return the sha256 of all names, dtypes and shapes: no weights are read."""
        return fingerprint_of((i.name, i.dtype, i.shape, "") for i in self.tensors.values())


class View(Checkpoint):
    """Another model, seen with some of its tensors changed: those are made row by row."""

    def __init__(self, path: Path, own: Checkpoint, changed: Mapping[str, TensorInfo]) -> None:
        self.path, self.own, self.changed = path, own, changed
        self.config, self.notes = own.config, own.notes
        self.tensors = own.tensors | dict(changed)

    @abstractmethod
    def rows(self, name: str, start: int, end: int) -> Tensor:
        """Return rows [start, end) of a changed tensor."""

    @abstractmethod
    def source(self, name: str) -> str:
        """Return the digest of what a changed tensor is made of."""

    def entries(self, name: str, start: int, end: int) -> Tensor:
        """Return entries [start, end) of a tensor, changed or not."""
        if name not in self.changed:
            return self.own.entries(name, start, end)
        cols = self.tensors[name].cols
        first, last = start // cols, -(-end // cols)
        return self.rows(name, first, last).view(-1)[start - first * cols : end - first * cols]

    def digest(self, name: str) -> str:
        """Return a hash that stands for a tensor's content: of what it is made of."""
        return self.source(name) if name in self.changed else self.own.digest(name)

    def close(self) -> None:
        """Close the model itself."""
        self.own.close()


class FolderCheckpoint(Checkpoint):
    """A model folder (or one .safetensors file) whose headers have been checked."""

    def __init__(self, path: Path) -> None:
        allow_many_files()
        self.path = path
        self.notes: list[str] = []
        self._files: dict[Path, int] = {}
        self._lock, self._follower = threading.Lock(), Follower()
        folder = path if path.is_dir() else path.parent
        files, index = weight_files(path)
        told = os.path.lexists(folder / "config.json")
        self.config = read_json(inside(folder, "config.json")) if told else None
        refuse_quantised(folder, self.config)
        try:
            self.tensors = self._tensors(files)
            if index is not None:
                _check_index(path, self.tensors, index)
        except BaseException:
            self.close()
            raise

    def _tensors(self, files: list[Path]) -> dict[str, TensorInfo]:
        table: dict[str, TensorInfo] = {}
        for file in files:
            for info in read_header(self._fd(file), file):
                if info.name in table:
                    law = f"{info.name!r} stands in {table[info.name].file.name} and in {file.name}"
                    raise CheckpointError(f"{self.path}: {law}", "Export the model again.")
                table[info.name] = info
        if not table:
            raise CheckpointError(f"{self.path} holds no tensor", "Export the model again.")
        return table

    def _fd(self, file: Path) -> int:
        with self._lock:
            if file not in self._files:
                try:
                    # O_NONBLOCK: a pipe in the place of a shard must not hang us.
                    self._files[file] = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
                except OSError as error:
                    law = f"{file} cannot be opened: {error.strerror}"
                    raise CheckpointError(law, "Check that it can be read.") from error
            return self._files[file]

    def entries(self, name: str, start: int, end: int) -> Tensor:
        """Return entries [start, end) of a tensor, read from their place in its file."""
        found = torch.empty(end - start, dtype=torch_dtype(self.tensors[name].dtype))
        self.read_bytes(name, start, bytes_of(found))
        return found

    def floats(self, name: str, start: int, end: int) -> "np.ndarray":
        """Return entries [start, end) of a tensor as float32, flat; without torch."""
        code = self.tensors[name].dtype
        raw = np.empty((end - start) * ITEMSIZE[code], np.uint8)
        self.read_bytes(name, start, raw.data)
        if code == "BF16":  # the upper half of a float32
            return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        with np.errstate(over="ignore"):
            return raw.view(dtype_name(code)).astype(np.float32, copy=False)

    def read_bytes(self, name: str, start: int, raw: memoryview) -> None:
        """Fill `raw` with the bytes of a tensor's entries from `start` on."""
        info = self.tensors[name]
        fd, first = self._fd(info.file), start * ITEMSIZE[info.dtype]
        fill(fd, raw, info.offset + first, info)
        self._follower.see(fd, info, first, raw)

    def digest(self, name: str) -> str:
        """Return the digest of one tensor's bytes: read once, then remembered."""
        info = self.tensors[name]
        return digest_of(self._fd(info.file), info)

    def close(self) -> None:
        """Give the file handles back; a later read opens them again."""
        with self._lock:
            for fd in self._files.values():
                os.close(fd)
            self._files.clear()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()


def allow_many_files() -> None:
    """Raise this process's soft limit on open files to the hard one: a shard is a file."""
    with suppress(ImportError):  # not a POSIX system
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check_index(path: Path, tensors: Mapping[str, TensorInfo], index: Mapping[str, str]) -> None:
    laws = []
    for name, file in index.items():
        found = tensors[name].file if name in tensors else None
        if found != path / file:
            what = f"but {found.name} holds it" if found else "which does not hold it"
            laws.append(f"the index places {name!r} in {file}, {what}")
    lost = [info for name, info in tensors.items() if name not in index]
    laws += [f"the index does not name {info.name!r} of {info.file.name}" for info in lost]
    if laws:
        law = f"{path}: {laws[0]} ({len(laws)} such)"
        raise CheckpointError(law, "Fetch the shards and the index of one revision.")
