"""The header of one safetensors file, read and checked before any byte of weights.

A file is an 8-byte little-endian length, a JSON object of that length, then the data. The object
maps each tensor name to `dtype`, `shape` and `data_offsets` [begin, end) within the data. We ask
what the format asks: no name twice, sizes that follow from dtype and shape, data without holes or
overlaps, a file exactly as long as it says. A hostile header costs at most its own length, never
the data's. Format: https://github.com/huggingface/safetensors#format.
"""

import json
import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from merger.checkpoint.dtypes import FLOATS, ITEMSIZE, UNREAD
from merger.errors import CheckpointError

# The limit of the reference implementation; the largest models on the Hub stay under 10 MB.
MAX_HEADER = 100_000_000
_AGAIN = "The file is damaged, or of another kind: fetch or export it again."


class Shaped:
    """What follows from shape and format; rows are of the last axis, a vector is a single row."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all elements as they are stored."""
        return self.numel * ITEMSIZE[self.dtype]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def cols(self) -> int:
        """Length of a row: the last axis, 1 for a scalar."""
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        """Number of rows: all axes but the last, 1 for vectors and scalars."""
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class TensorInfo(Shaped):
    """Where one tensor lies in its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int  # of the first byte, from the start of the file

    @property
    def is_float(self) -> bool:
        """Say whether the tensor can be merged (whole numbers and flags are only copied)."""
        return self.dtype in FLOATS


def read_header(fd: int, file: Path) -> list[TensorInfo]:
    """Read and check the header of an open file; return its tensors in the order of their bytes.

    Raises a CheckpointError that names the file, the tensor and the two numbers that disagree.
    """
    size = os.fstat(fd).st_size
    if size < 8:
        _refuse(file, f"holds {size} bytes, and a safetensors file has at least 8")
    (length,) = struct.unpack("<Q", _pread(fd, 8, 0, file))
    if length > MAX_HEADER:
        _refuse(file, f"announces a header of {length:,} bytes; the limit is {MAX_HEADER:,}")
    if 8 + length > size:
        _refuse(file, f"is truncated: its header ends at byte {8 + length:,} of {size:,}")
    entries = _parse(_pread(fd, length, 8, file), file)
    infos = [_entry(name, entry, file, 8 + length) for name, entry in entries.items()]
    infos.sort(key=lambda info: (info.offset, info.offset + info.nbytes))
    _check_layout(infos, file, 8 + length, size)
    return infos


def fill(fd: int, raw: memoryview, offset: int, info: TensorInfo) -> None:
    """Read bytes of a tensor from their place in its file until `raw` is full."""
    done = 0
    while done < len(raw):
        try:
            got = os.preadv(fd, [raw[done:]], offset + done)
        except OSError as error:
            law = f"{info.file}: {info.name!r} cannot be read: {error.strerror}"
            raise CheckpointError(law, "Check the disk, then run it again.") from error
        if not got:
            law = f"{info.file} ends at byte {offset + done:,}, inside {info.name!r}"
            raise CheckpointError(law, "The file has changed since it was opened: fetch it again.")
        done += got


def load_json(text: bytes, file: Path) -> dict[str, Any]:
    """Parse a JSON object in which no key may stand twice; a CheckpointError names the file."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        _refuse(file, f"does not hold the JSON it should: {str(error)[:200]}", error)
    if not isinstance(value, dict):
        _refuse(file, f"holds a JSON {type(value).__name__} where an object was expected")
    return value


def printable(text: str) -> bool:
    """Say whether a string of JSON is text: it may hold half a surrogate pair, which is not."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _refuse(file: Path, law: str, cause: Exception | None = None) -> NoReturn:
    raise CheckpointError(f"{file} {law}", _AGAIN) from cause


def _pread(fd: int, length: int, offset: int, file: Path) -> bytes:
    found = os.pread(fd, length, offset)
    if len(found) < length:
        _refuse(file, f"ends at byte {offset + len(found):,} while its header is read")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the name {key!r} stands twice")
        table[key] = value
    return table


def _parse(text: bytes, file: Path) -> dict[str, Any]:
    if not text.startswith(b"{"):
        _refuse(file, "has a header that does not begin with '{'")
    table = load_json(text, file)
    table.pop("__metadata__", None)  # free text of the writer; nothing we act upon
    return table


def _whole(value: object) -> bool:
    # bool is an int in Python; 2**63 is where the format's own numbers end.
    return type(value) is int and 0 <= value < 2**63


def _entry(name: str, entry: object, file: Path, start: int) -> TensorInfo:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(file, f"describes {name!r} by something else than dtype, shape and data_offsets")
    if not printable(name):
        _refuse(file, f"names a tensor {name!a}, which is no text")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not all(map(_whole, shape)) or len(shape) > 64:
        _refuse(file, f"gives {name!r} the shape {str(shape)[:80]}")
    if not isinstance(span, list) or len(span) != 2 or not all(map(_whole, span)):
        _refuse(file, f"gives {name!r} the data_offsets {str(span)[:80]}")
    if not isinstance(dtype, str) or dtype not in ITEMSIZE:
        _refuse_dtype(file, name, dtype)
    info, told = TensorInfo(name, dtype, tuple(shape), file, start + span[0]), span[1] - span[0]
    if told != info.nbytes:
        needed = f"{dtype} {shape} needs {info.nbytes:,}"
        _refuse(file, f"gives {name!r} {told:,} bytes, but {needed}")
    return info


def _refuse_dtype(file: Path, name: str, dtype: object) -> NoReturn:
    if isinstance(dtype, str) and dtype in UNREAD:
        from merger.checkpoint.refuse import dequantise

        law = f"{file}: {name!r} is stored as {dtype}, which is not read"
        raise CheckpointError(law, dequantise(file.parent))
    _refuse(file, f"gives {name!r} the unknown dtype {str(dtype)[:40]!r}")


def _check_layout(infos: list[TensorInfo], file: Path, start: int, size: int) -> None:
    end, last = start, "the header"
    for info in infos:
        if info.offset != end:
            what = "overlaps" if info.offset < end else "leaves a hole after"
            _refuse(file, f"is wrong about {info.name!r}: it {what} {last!r}")
        end, last = info.offset + info.nbytes, info.name
    if end > size:
        cut = next(i.name for i in infos if i.offset + i.nbytes > size)
        law = f"is truncated: {end:,} bytes expected, {size:,} found; {cut!r} is cut"
        raise CheckpointError(f"{file} {law}", "Fetch or copy the file again.")
    if end < size:
        _refuse(file, f"holds {size:,} bytes, but its tensors end at {end:,}")
