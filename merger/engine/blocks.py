"""Blocks of one step: rows of all its tensors side by side, widened, and checked to be numbers.

Rows come from files by positioned reads. A survey of several passes reads them again, out of the
operating system's cache: to hold whole tensors here was no faster and took its memory twice.
Numbers are checked on the first pass only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from merger.checkpoint import Checkpoint
from merger.errors import CheckpointError
from merger.operators import Block, Pick, Place
from merger.plan import Source, Step


class Blocks:
    """A fresh pass over the blocks of a step each time it is called."""

    def __init__(
        self,
        step: Step,
        checkpoints: Mapping[str, Checkpoint],
        rows: int,
        *,
        device: str = "cpu",
        allow_nan: bool = False,
    ) -> None:
        self.step, self.rows, self.device = step, rows, device
        self._checkpoints = checkpoints
        self._unchecked = not allow_nan
        infos = [checkpoints[s.model].tensors[s.tensor] for s in step.inputs]
        wide = any(info.dtype == "F64" for info in infos)
        self._dtype = torch.float64 if wide else torch.float32

    def __call__(self, pick: Pick = range) -> Iterator[Block]:
        """Yield the blocks that are picked, in order; their memory is used again."""
        count = len(self.step.sources)
        shape = (len(self.step.inputs), min(self.rows, self.step.rows), self.step.cols)
        buffer = torch.empty(shape, dtype=self._dtype, device=self.device)
        for i in pick(-(-self.step.rows // self.rows)):
            row, end = i * self.rows, min((i + 1) * self.rows, self.step.rows)
            stacked = buffer[:, : end - row]
            for n, source in enumerate(self.step.inputs):
                stacked[n].copy_(self.read(source, row, end), non_blocking=True)
            if self._unchecked:
                self._check(stacked, row)
            base = stacked[count] if self.step.base else None
            place = Place(row * self.step.cols, self.step.keys)
            yield Block(stacked[:count], base, place)
        self._unchecked = self._unchecked and pick is not range

    def read(self, source: Source, row: int, end: int) -> Tensor:
        """Return rows of one tensor as the step sees them, in their stored form."""
        checkpoint = self._checkpoints[source.model]
        return checkpoint.read(source.tensor, row, end, cols=self.step.cols)

    def _check(self, stacked: Tensor, row: int) -> None:
        # A sum is NaN or infinite if any entry is, and costs a tenth of looking at each; it can
        # overflow by itself, so only then every entry is looked at.
        if torch.isfinite(stacked.sum()):
            return
        for i, source in enumerate(self.step.inputs):
            wrong = (~torch.isfinite(stacked[i])).nonzero()
            if len(wrong):
                raise self._not_a_number(source, stacked[i], wrong[0].tolist(), row)

    def _not_a_number(
        self, source: Source, rows: Tensor, at: Sequence[int], row: int
    ) -> CheckpointError:
        cols = self._checkpoints[source.model].tensors[source.tensor].cols
        where = divmod((row + at[0]) * self.step.cols + at[1], cols)
        value = float(rows[at[0], at[1]])
        law = f"{source.model}: {source.tensor} holds {value} (row {where[0]}, column {where[1]})"
        remedy = "Use a sound checkpoint, or merge such values on purpose with --allow-nan."
        return CheckpointError(law, remedy)
