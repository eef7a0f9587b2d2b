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

from merger.operators.patterns import Found, Range, Sample, Tally, Ties, widest
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


def trim(changes: Tensor, cut: Cut, start: int) -> None:
    """Zero all but the k largest of one expert's changes (rows, cols), in place."""
    end = start + changes.numel()
    if cut.last < start or cut.last >= end:
        # Shrinking zeroes magnitudes up to its bound, so to keep the threshold the bound is just
        # below it. It is a single pass, where a mask takes three.
        at = torch.tensor(max(cut.threshold, 0.0), dtype=changes.dtype)
        bound = at if cut.last < start else torch.nextafter(at, torch.zeros_like(at))
        torch.hardshrink(changes, float(bound), out=changes)
    else:
        changes.mul_(kept(changes.abs(), cut, start))


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
    seeks = {
        (i, slot): _Seek(k, Found(guesses.get((i, slot)) or widest(i, tally.dtype), 0))
        for i, row in enumerate(ks)
        for slot, k in enumerate(row)
        if 0 < k <= numel
    }
    open_ = [s for s in seeks.values() if not s.settled(tally)]
    while open_:
        tally = Tally(streams, {s.found.range for s in open_})
        yield tally
        open_ = [s for s in open_ if not s.settled(tally)]
    ties = Ties(streams, (s.found for s in seeks.values() if s.cuts(zeros_count=zeros_count)))
    if ties.blocks:
        yield ties

    def cut(i: int, slot: int, k: int) -> Cut:
        if not 0 < k <= numel:
            return NONE if k <= 0 else ALL
        found = seeks[i, slot].found
        return Cut(found.range.ends[0], ties.last(found))

    return [[cut(i, slot, k) for slot, k in enumerate(row)] for i, row in enumerate(ks)]


@dataclass
class _Seek:
    """One k of one stream while the range that holds it is narrowed to a single pattern."""

    k: int
    found: Found

    def settled(self, tally: Tally) -> bool:
        """Narrow by what was counted; say whether a single pattern is left."""
        wanted = self.found.range
        everything = widest(wanted.stream, tally.dtype)
        found = tally.find(wanted, self.k)
        if found is None and wanted == everything and wanted in tally.seen:
            # Fewer than k numbers in all of the tensor: the rest is NaN, let through on purpose.
            found = Found(everything, 1, 1)
        self.found = found or Found(everything, 0)
        return self.found.level > 0

    def cuts(self, *, zeros_count: bool) -> bool:
        """Say whether entries at the threshold must go, and it matters which."""
        found = self.found
        return found.quota < found.level and (zeros_count or found.range.low > 0)
