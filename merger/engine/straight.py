"""Weighted sums from file to file: bytes in, bytes out, and no tensor between.

A merge by coefficients alone (linear, task arithmetic) of plain folders needs no more than a loop
over their bytes, and is done while torch would still be loading. It writes what the walk in run.py
writes, bit for bit; that is taken wherever this does not suit: another device, adapters, formats
that are mixed or have no compiled loop.
"""

from collections.abc import Callable, Mapping
from ctypes import addressof, c_char
from mmap import mmap
from threading import local
from typing import Any

from merger import native
from merger.checkpoint import ITEMSIZE, Checkpoint, dtype_name
from merger.checkpoint.reader import FolderCheckpoint
from merger.operators import OPERATORS
from merger.plan import Step

# Called with a tensor's name, the first entry, and the bytes of entries in the dtype planned.
RawSink = Callable[[str, int, memoryview], None]


def stored_in(step: Step, checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """Return the one format in which plain folders hold what a step reads; None in other cases."""
    read = [(checkpoints[s.model], s.tensor) for s in step.inputs]
    plain = all(isinstance(one, FolderCheckpoint) for one, _ in read)
    stored = {one.tensors[name].dtype for one, name in read}
    return stored.pop() if plain and len(stored) == 1 else None


class Straight:
    """One step that needs no tensor."""

    def __init__(self, step: Step, checkpoints: Mapping[str, Checkpoint], entries: int) -> None:
        self.step, self._entries = step, max(1, min(entries, step.numel))  # at a time
        sources = (step.base, *step.sources) if step.base else step.sources
        self._places: list[tuple[Any, str]] = [(checkpoints[s.model], s.tensor) for s in sources]
        operator = OPERATORS[step.operator] if step.operator else None
        self._weights = operator.coefficients(step.knobs) if operator else ()

    @staticmethod
    def suits(step: Step, checkpoints: Mapping[str, Checkpoint]) -> bool:
        """Say whether a step can be made so."""
        code = stored_in(step, checkpoints)
        if code is None or step.operator is None:
            return code == step.dtype
        loops = all(native.sums(dtype_name(one)) for one in (code, step.dtype))
        return OPERATORS[step.operator].line is not None and loops

    def run(self, put: RawSink, doubt: Callable[[], None] | None) -> None:
        """Make all entries of the step; at the first block not all of numbers, call `doubt`."""
        step, (first, name) = self.step, self._places[0]
        codes = first.tensors[name].dtype, step.dtype
        read, written = ITEMSIZE[codes[0]], ITEMSIZE[codes[1]]
        kinds = dtype_name(codes[0]), dtype_name(codes[1])
        sizes = [read] * len(self._places) + [written] * (step.operator is not None)
        rooms = [_room(i, self._entries * size) for i, size in enumerate(sizes)]
        places, out = [address for _, address in rooms], rooms[-1][0]
        for start in range(0, step.numel, self._entries):
            count = min(self._entries, step.numel - start)
            for (checkpoint, name), (room, _) in zip(self._places, rooms, strict=False):
                checkpoint.read_bytes(name, start, room[: count * read])
            if step.operator:
                sound = native.sum_up(kinds, count, places[:-1], self._weights, places[-1])
                if not sound and doubt:
                    doubt()
                    doubt = None
            put(step.name, start, out[: count * written])


_held = local()


def _room(number: int, size: int) -> tuple[memoryview, int]:
    """Return memory of this thread, and where it lies: what one step touched serves the next."""
    held: dict[int, mmap] = vars(_held).setdefault("rooms", {})
    if number not in held or len(held[number]) < size:
        held[number] = mmap(-1, size)
    return memoryview(held[number]), addressof(c_char.from_buffer(held[number]))
