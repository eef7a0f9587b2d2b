"""Counting bit patterns: the measures behind the exact k-th largest (see magnitudes.py).

Floats of one sign sort like their bit patterns taken as whole numbers. A range is a stretch of
patterns cut into equal bins; a tally counts, over a whole tensor, what lies above each range and
what falls into each of its bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, sqrt
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from merger.operators.survey import Block

_BINS = 1 << 19
_COARSE = 1 << 16  # the first look at all floats: small tensors should not pay for many bins
_SAMPLE = 1 << 17  # entries of one stream that a sample holds
_BLOCKS = 16  # over how many blocks it is spread
_SIGMAS = 6.0  # rows differ among themselves, so a sample errs by more than an even one would
_FLUSH = 1 << 18  # patterns counted at once
_ORDERED = {torch.float32: torch.int32, torch.float64: torch.int64}


class Range(NamedTuple):
    """Patterns low..high of one stream, in bins of 2^shift."""

    stream: int
    low: int
    high: int
    shift: int
    dtype: torch.dtype

    @property
    def value(self) -> float:
        """The float whose pattern is `low`."""
        return _float(self.low, self.dtype)


def bounded(stream: int, low: int, high: int, dtype: torch.dtype, bins: int = _BINS) -> Range:
    """Return the range with the narrowest bins that are not too many."""
    shift = max(0, (high - low + 1).bit_length() - bins.bit_length() + 1)
    return Range(stream, low, high, shift, dtype)


def widest(stream: int, dtype: torch.dtype) -> Range:
    """Return the range of all non-negative floats, infinity included."""
    return bounded(stream, 0, _pattern(inf, dtype), dtype, _COARSE)


class Sample:
    """Measure: some entries of each stream, spread over a few blocks."""

    few = _BLOCKS

    def __init__(self, streams: Callable[[Block], Tensor]) -> None:
        self._streams = streams
        self._parts: list[Tensor] = []
        self._sorted: dict[int, np.ndarray] = {}

    def add(self, block: Block) -> None:
        """Take every so manieth entry of the block."""
        flat = self._streams(block).flatten(1)
        # An odd step, so that it runs through all columns of a matrix of even width.
        step = max(1, flat.shape[1] * _BLOCKS // _SAMPLE) | 1
        self._parts.append(flat[:, ::step].clone())

    @property
    def nonzero(self) -> list[float]:
        """The share of entries of each stream that are not zero."""
        whole = torch.cat(self._parts, 1)
        return [float(s) for s in (whole != 0).double().mean(1)]

    def range(self, stream: int, share: float) -> Range:
        """Return where the entry above which `share` of the stream lies is to be sought."""
        if stream not in self._sorted:
            entries = torch.cat([part[stream] for part in self._parts])
            self._sorted[stream] = np.sort(entries.cpu().numpy())
        ordered, dtype = self._sorted[stream], self._parts[0].dtype
        n = len(ordered)
        margin = _SIGMAS * sqrt(share * (1 - share) / n) + 4 / n
        ends = [int((1 - share + d) * n) for d in (-margin, margin)]
        low = 0.0 if ends[0] < 0 else float(ordered[ends[0]])
        high = inf if ends[1] >= n else float(ordered[ends[1]])
        return bounded(stream, _pattern(low, dtype), _pattern(high, dtype), dtype)


class Tally:
    """Measure: for each range, how many entries lie above it and how many in each bin.

    Without ranges (the first look at a small tensor) each stream is tallied over all floats. With
    `relative` the entries that are not zero are counted too.
    """

    def __init__(
        self,
        streams: Callable[[Block], Tensor],
        ranges: Iterable[Range],
        before: Tally | None = None,
        *,
        relative: bool = False,
    ) -> None:
        self._streams = streams
        self.ranges = dict.fromkeys(ranges, 0)  # -> entries above
        self._waiting: dict[Range, list[Tensor]] = {}
        self._counts: dict[Range, Tensor] = {}
        self._first, self._relative = before is None, relative
        self.nonzero: list[int] = []
        self.dtype: torch.dtype = torch.float32 if before is None else before.dtype

    def add(self, block: Block) -> None:
        """Count this block's patterns."""
        entries = self._streams(block).flatten(1)
        if self._first:
            self._begin(entries)
        for wanted in self.ranges:
            above, inside = _sift(entries[wanted.stream], wanted)
            self.ranges[wanted] += above
            self._wait(wanted, inside)

    def _begin(self, entries: Tensor) -> None:
        self.dtype = entries.dtype
        streams = range(len(entries))
        self.nonzero = self.nonzero or [0 for _ in streams]
        if self._relative:
            for i in streams:
                self.nonzero[i] += int(torch.count_nonzero(entries[i]))
        if not self.ranges:
            self.ranges = {widest(i, self.dtype): 0 for i in streams}

    def _wait(self, wanted: Range, inside: Tensor) -> None:
        """Keep the bins of a few entries until they are worth a count."""
        bits = inside.contiguous().view(_ORDERED[self.dtype])
        waiting = self._waiting.setdefault(wanted, [])
        waiting.append((bits - wanted.low) >> wanted.shift)
        if sum(map(len, waiting)) >= _FLUSH:
            self._flush(wanted)

    def _flush(self, wanted: Range) -> None:
        bins = ((wanted.high - wanted.low) >> wanted.shift) + 1
        counts = torch.bincount(torch.cat(self._waiting.pop(wanted)), minlength=bins)
        if wanted in self._counts:
            counts += self._counts[wanted]
        self._counts[wanted] = counts

    def find(self, wanted: Range, k: int) -> tuple[Range, int, int] | None:
        """Return where the k-th largest lies within a range: narrower range, quota, level.

        The level (entries of that very pattern) is zero while the range holds several patterns; the
        quota is how many of them belong to the k largest. None if the range does not hold it.
        """
        if wanted in self._waiting:
            self._flush(wanted)
        counts = self._counts.get(wanted)
        k -= self.ranges[wanted]
        if counts is None or k < 1:
            return None
        from_top = counts.flip(0).cumsum(0)
        if k > int(from_top[-1]):
            return None
        at = int(torch.searchsorted(from_top, k))
        bin_ = len(counts) - 1 - at
        level = int(counts[bin_])
        low = wanted.low + (bin_ << wanted.shift)
        high = min(wanted.high, low + (1 << wanted.shift) - 1)
        narrow = bounded(wanted.stream, low, high, self.dtype)
        quota = k - (int(from_top[at]) - level)
        return narrow, quota, level if low == high else 0


class Ties:
    """Measure: the flat index at which the entries equal to a threshold have filled their quota."""

    def __init__(
        self, streams: Callable[[Block], Tensor], tied: Iterable[tuple[int, float, int]]
    ) -> None:
        self._streams = streams
        self._left = {t: t[2] for t in tied}  # how many are still to be found
        self._last: dict[tuple[int, float, int], int] = {}

    def add(self, block: Block) -> None:
        """Look for the last entry to keep; a threshold that is full is looked for no further."""
        entries = self._streams(block).flatten(1)
        for tied, left in self._left.items():
            if not left:
                continue
            level = (entries[tied[0]].cpu().numpy() == tied[1]).nonzero()[0]
            if len(level) >= left:
                self._last[tied] = block.place.start + int(level[left - 1])
            self._left[tied] = max(0, left - len(level))

    def last(self, stream: int, value: float, quota: int) -> int:
        """Return the flat index up to which entries at a threshold are kept."""
        return self._last.get((stream, value, quota), 1 << 62)


def _sift(row: Tensor, wanted: Range) -> tuple[int, Tensor]:
    """Return how many entries lie above a range, and those inside it.

    On the CPU by numpy, whose comparisons and selections by mask take a fifth of torch's time.
    """
    low, high = wanted.value, _float(wanted.high, wanted.dtype)
    whole = wanted == widest(wanted.stream, wanted.dtype)
    if row.is_cuda:
        over = row > high
        return int(torch.count_nonzero(over)), row if whole else row[(row >= low) ^ over]
    entries = row.numpy()
    more = entries > high
    inside = entries if whole else entries[(entries >= low) ^ more]
    return int(np.count_nonzero(more)), torch.from_numpy(inside)


def _pattern(value: float, dtype: torch.dtype) -> int:
    return int(torch.tensor([value], dtype=dtype).view(_ORDERED[dtype]))


def _float(pattern: int, dtype: torch.dtype) -> float:
    return float(torch.tensor([pattern], dtype=_ORDERED[dtype]).view(dtype))
