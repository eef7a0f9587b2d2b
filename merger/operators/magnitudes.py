"""The exact k-th largest magnitude of a whole tensor, in constant memory and linear time.

A positive float's bit pattern grows with its value, so counting patterns finds the k-th largest
exactly, where a sort would hold the tensor. A sample first says where to look: then one pass counts
what lies above a narrow range and tallies every pattern inside it. A range that missed, or is too
wide to tally pattern by pattern, costs one more pass; it cannot change the answer. Exactly k
entries are kept: those at the threshold in the order of their flat index, which takes a pass of its
own only when some of them must go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from merger.operators.patterns import Range, Sample, Tally, Ties, widest
from merger.operators.survey import Block, Survey

EVERY = 1 << 62  # beyond any flat index
_SAMPLED = 1 << 20  # smaller tensors are counted twice sooner than sampled


class Cut(NamedTuple):
    """The k largest: magnitudes above the threshold, and at it up to and including a flat index."""

    threshold: float
    last: int = EVERY


ALL = Cut(-1.0)
NONE = Cut(float("inf"), -1)


def kept(magnitudes: Tensor, cut: Cut, start: int) -> Tensor:
    """Return which entries of one expert's block (rows, cols) belong to the k largest (bool)."""
    if cut.last >= start + magnitudes.numel():
        return magnitudes >= cut.threshold
    above = magnitudes > cut.threshold
    if cut.last < start:
        return above
    level = magnitudes.flatten() == cut.threshold
    level[cut.last - start + 1 :] = False
    return above | level.view_as(above)


def trim(changes: Tensor, cut: Cut, start: int) -> Tensor:
    """Return one expert's changes (rows, cols) with all but the k largest zeroed; new memory."""
    end = start + changes.numel()
    if cut.last < start or cut.last >= end:
        # Shrinking zeroes magnitudes up to its bound, so to keep the threshold the bound is just
        # below it. It is a single pass, where a mask takes three.
        at = torch.tensor(max(cut.threshold, 0.0), dtype=changes.dtype)
        bound = at if cut.last < start else torch.nextafter(at, torch.zeros_like(at))
        return torch.nn.functional.hardshrink(changes, float(bound))
    return changes * kept(changes.abs(), cut, start)


def largest(
    streams: Callable[[Block], Tensor],
    wanted: Callable[[int, int], Sequence[int]],
    numel: int,
    *,
    relative: bool = False,
    zeros_count: bool = True,
) -> Survey:
    """Survey where the k largest of each stream end.

    Args: streams: non-negative entries (m, rows, cols) of a block. wanted: (stream, its count of
    non-zero entries) -> the ks asked for; k ≤ 0 keeps nothing, a k beyond the tensor keeps all
    without looking for the threshold. Asked with an estimate of the count first, then with the
    exact one. numel: entries of one stream. zeros_count: False where it does not matter which zeros
    are kept; then none is sought.

    Returns:
        For each stream one Cut per k, in the order asked.
    """
    guesses: dict[tuple[int, int], Range] = {}
    if numel >= _SAMPLED:
        sample = Sample(streams)
        yield sample
        for i, share in enumerate(sample.nonzero):
            for slot, k in enumerate(wanted(i, round(share * numel))):
                if 0 < k <= numel:
                    guesses[i, slot] = sample.range(i, k / numel)
    tally = Tally(streams, guesses.values(), relative=relative)
    yield tally
    ks = [list(wanted(i, nonzero)) for i, nonzero in enumerate(tally.nonzero)]
    seeks = [
        _Seek(i, k, guesses.get((i, slot)) or widest(i, tally.dtype))
        for i, row in enumerate(ks)
        for slot, k in enumerate(row)
        if 0 < k <= numel
    ]
    while open_ := [s for s in seeks if not s.settled(tally)]:
        tally = Tally(streams, {s.range for s in open_}, tally)
        yield tally
    tied = [(s.stream, s.value(), s.quota) for s in seeks if s.quota < s.level]
    if not zeros_count:
        tied = [t for t in tied if t[1] > 0]
    ties = Ties(streams, tied)
    if tied:
        yield ties
    found = {
        (s.stream, s.k): Cut(s.value(), ties.last(s.stream, s.value(), s.quota)) for s in seeks
    }
    return [
        [NONE if k <= 0 else ALL if k > numel else found[i, k] for k in row]
        for i, row in enumerate(ks)
    ]


@dataclass
class _Seek:
    """One k of one stream while the range that holds it is narrowed to a single pattern."""

    stream: int
    k: int
    range: Range
    quota: int = 0  # how many at the threshold are kept
    level: int = 0  # how many there are

    def settled(self, tally: Tally) -> bool:
        """Narrow by what was counted; say whether a single pattern is left."""
        if self.level:
            return True
        if self.range not in tally.ranges:
            return False
        everything = widest(self.stream, tally.dtype)
        found = tally.find(self.range, self.k)
        if found is None and self.range != everything:
            self.range = everything
            return False
        # Fewer than k numbers in all of the tensor: the rest is NaN, let through on purpose.
        self.range, self.quota, self.level = found or (everything, 1, 1)
        return self.level > 0

    def value(self) -> float:
        """Return the threshold."""
        return self.range.value
