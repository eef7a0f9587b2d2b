"""Where merged rows go: a folder being written, or a dict; a live model is in resident.py.

A sink receives rows in the dtype the plan states, each row once, in any order of tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from merger.checkpoint import Writer, torch_dtype
from merger.plan import Step


class Sink(Protocol):
    """Takes blocks of rows; `finished` names the tensors that it has already."""

    finished: frozenset[str]

    def put(self, step: Step, row: int, block: Tensor) -> None:
        """Take rows (rows, cols) of a tensor, from `row` on; the memory is the sink's from now.

        Of a row too long for memory come pieces: entries (n, 1), and `row` counts entries.
        """


class WriterSink:
    """Rows written to their place in a checkpoint folder."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.finished = writer.finished

    def put(self, step: Step, row: int, block: Tensor) -> None:
        """Write the rows."""
        self._writer.write(step.name, row, block)


class DiscardSink:
    """Nothing is kept: for sizes that no disk at hand can hold."""

    finished: frozenset[str] = frozenset()

    def put(self, step: Step, row: int, block: Tensor) -> None:
        """Forget the rows."""


class DictSink:
    """Whole tensors in memory, by name: for tests and for small models."""

    def __init__(self, steps: Iterable[Step] = ()) -> None:
        self.tensors: dict[str, Tensor] = {s.name: _empty(s) for s in steps}
        self.finished: frozenset[str] = frozenset()

    def put(self, step: Step, row: int, block: Tensor) -> None:
        """Copy the rows into their tensor."""
        whole = self.tensors.setdefault(step.name, _empty(step))
        whole.view(-1, block.shape[1])[row : row + block.shape[0]] = block


def _empty(step: Step) -> Tensor:
    return torch.empty(step.shape, dtype=torch_dtype(step.dtype))
