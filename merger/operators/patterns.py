"""Counting bit patterns: the measures behind the exact k-th largest (see magnitudes.py).

Floats of one sign sort like their bit patterns taken as whole numbers. A range is a stretch of
patterns; a tally counts, over a whole tensor, what lies above each range and keeps a histogram of
what lies inside. Histograms are sparse and grow coarser when they fill up, so memory is bounded
whatever the tensor; a coarse answer is a narrower range to look into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from merger.operators.survey import Block, spread

_SAMPLE = 1 << 17  # entries of one stream that a sample holds
_BLOCKS = 16  # over how many blocks it is spread
_SIGMAS = 6.0  # rows differ among themselves, so a sample errs by more than an even one would
_MOST = 1 << 18  # bins of one histogram
_WAIT = 1 << 20  # patterns that wait to be counted
_ORDERED: dict[Any, Any] = {torch.float32: torch.int32, torch.float64: torch.int64}
_ORDERED |= {np.dtype("float32"): np.int32, np.dtype("float64"): np.int64}


class Range(NamedTuple):
    """Patterns low..high of one stream."""

    stream: int
    low: int
    high: int
    dtype: torch.dtype

    @property
    def ends(self) -> tuple[float, float]:
        """The floats whose patterns are low and high."""
        patterns = torch.tensor([self.low, self.high], dtype=_ORDERED[self.dtype])
        low, high = patterns.view(self.dtype).tolist()
        return low, high


def between(stream: int, low: float, high: float, dtype: torch.dtype) -> Range:
    """Return the range of the floats from low to high."""
    first, last = torch.tensor([low, high], dtype=dtype).view(_ORDERED[dtype]).tolist()
    return Range(stream, first, last, dtype)


def widest(stream: int, dtype: torch.dtype) -> Range:
    """Return the range of all non-negative floats, infinity included."""
    return between(stream, 0.0, inf, dtype)


class Sample:
    """Measure: some entries of each stream, spread over a few blocks."""

    def __init__(self, streams: Callable[[Block], Tensor]) -> None:
        self._streams = streams
        self._parts: list[Tensor] = []
        self._sorted: dict[int, np.ndarray] = {}

    def pick(self, count: int) -> Iterable[int]:
        """Ask for a few blocks."""
        return spread(count, _BLOCKS)

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
        ordered = self._sorted[stream]
        n = len(ordered)
        margin = _SIGMAS * sqrt(share * (1 - share) / n) + 4 / n
        first, last = (int((1 - share + d) * n) for d in (-margin, margin))
        low = 0.0 if first < 0 else float(ordered[first])
        high = inf if last >= n else float(ordered[last])
        return between(stream, low, high, self._parts[0].dtype)


class Found(NamedTuple):
    """Where the k-th largest lies: a range, and how many of the entries in it are among the k.

    The rest is known once the range is a single pattern: how many entries have it, and if some of
    them must go, the block in which the quota is filled and how many that block gives.
    """

    range: Range
    quota: int
    level: int = 0
    block: int | None = None
    last: int = 0


class Tally:
    """Measure: for each range, how many entries lie above it and which patterns inside.

    Without ranges (a small tensor) each stream is tallied over all floats. With `relative` the
    entries that are not zero are counted too. Streams are new memory for every block.
    """

    def __init__(
        self,
        streams: Callable[[Block], Tensor],
        ranges: Iterable[Range],
        *,
        relative: bool = False,
    ) -> None:
        self._streams = streams
        self.seen = {wanted: Histogram(wanted) for wanted in ranges}
        self._relative = relative
        self.nonzero: list[int] = []
        self.dtype = torch.float32

    def add(self, block: Block) -> None:
        """Count this block's patterns."""
        entries = self._streams(block).flatten(1)
        if not self.nonzero:
            self._begin(entries)
        if self._relative:
            for i, row in enumerate(entries):
                self.nonzero[i] += int(torch.count_nonzero(row))
        for wanted, histogram in self.seen.items():
            histogram.add(entries[wanted.stream])

    def _begin(self, entries: Tensor) -> None:
        self.nonzero, self.dtype = [0] * len(entries), entries.dtype
        if not self.seen:
            everything = (widest(i, self.dtype) for i in range(len(entries)))
            self.seen = {wanted: Histogram(wanted) for wanted in everything}

    def find(self, wanted: Range, k: int) -> Found | None:
        """Return where the k-th largest of its stream lies; None if not in this range."""
        if wanted not in self.seen:
            return None
        histogram = self.seen[wanted]
        k -= histogram.above
        bins, counts = histogram.counted()
        from_top = counts[::-1].cumsum()
        if not 0 < k <= int(counts.sum()):
            return None
        at = int(np.searchsorted(from_top, k))
        pattern, level = int(bins[-1 - at]), int(counts[-1 - at])
        quota = k - int(from_top[at]) + level
        if histogram.shift == 0:
            one = wanted._replace(low=pattern, high=pattern)
            return Found(one, quota, level, *histogram.block_of(pattern, quota))
        low = pattern << histogram.shift
        high = min(wanted.high, low + (1 << histogram.shift) - 1)
        return Found(wanted._replace(low=max(low, wanted.low), high=high), quota)


class Histogram:
    """Counts of the patterns in a range, by the bins that occur; the bins widen when too many.

    The two ends are counted by themselves: in task vectors of bfloat16 models a few values, zero
    before all, are taken by many entries, and to look for them is cheaper than to gather them.
    """

    def __init__(self, wanted: Range) -> None:
        self._low, self._high = wanted.ends
        self._ends = wanted.low, wanted.high
        self.above = 0  # entries beyond the range
        self.shift = 0  # a bin is 2^shift patterns
        self._at_ends: tuple[list[int], list[int]] = [], []  # one for each block
        self._parts: list[Any] | None = []  # one for each block, until they are too many
        self._waiting: list[Any] = []
        self._size = 0
        self._bins = self._counts = np.empty(0, np.int64)

    def add(self, row: Tensor) -> None:
        """Take the entries of the next block, one axis."""
        # On the CPU by numpy, whose comparisons and selections take a tenth of torch's time.
        entries = row if row.is_cuda else row.numpy()
        high, over = entries >= self._high, _count(entries > self._high)
        self.above += over
        self._at_ends[1].append(_count(high) - over)
        if self._low == self._high:
            return
        beyond = entries > self._low
        self._at_ends[0].append(_count(entries >= self._low) - _count(beyond))
        inside = _taken(entries, beyond ^ high)
        patterns = inside.view(_ORDERED[inside.dtype])
        self._waiting.append(patterns)
        if self._parts is not None:
            self._parts.append(patterns)
        self._size += len(patterns)
        if self._size > _WAIT:
            self._parts = None
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            bins, counts = _unique(self._waiting)
            self._waiting, self._size = [], 0
            bins = np.concatenate([self._bins, bins >> self.shift])
            self._bins, self._counts = _joined(bins, np.concatenate([self._counts, counts]))
        while len(self._bins) > _MOST and self._parts is None:
            self.shift += 1
            self._bins, self._counts = _joined(self._bins >> 1, self._counts)

    def counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the bins that occur, ascending, and how many entries each has."""
        self._flush()
        ends = np.array(self._ends) >> self.shift
        more = np.array([sum(parts) for parts in self._at_ends])
        bins = np.concatenate([self._bins, ends[more > 0]])
        return _joined(bins, np.concatenate([self._counts, more[more > 0]]))

    def block_of(self, pattern: int, quota: int) -> tuple[int | None, int]:
        """Return the block that holds the last of the first `quota` entries, and how many of it."""
        counts: Iterable[int] = (_count(part == pattern) for part in self._parts or ())
        if pattern in self._ends:
            counts = self._at_ends[int(pattern == self._ends[1])]
        for i, here in enumerate(counts):
            if here >= quota:
                return i, quota
            quota -= here
        return None, 0


class Ties:
    """Measure: the flat index at which the entries equal to a threshold have filled their quota."""

    def __init__(self, streams: Callable[[Block], Tensor], tied: Iterable[Found]) -> None:
        self._streams, tied = streams, set(tied)
        self._blocks: Iterator[int] = iter(())
        self.blocks = {f.block for f in tied}
        everywhere = None in self.blocks
        self._left = {f: f.quota if everywhere else f.last for f in tied}
        self._last: dict[Found, int] = {}

    def pick(self, count: int) -> Sequence[int]:
        """Ask for the blocks that hold the last entries, or for all where one is not known."""
        known = sorted(b for b in self.blocks if b is not None)
        blocks = range(count) if None in self.blocks else known
        self._blocks = iter(blocks)
        return blocks

    def add(self, block: Block) -> None:
        """Look for the last entry to keep; a threshold that is full is looked for no further."""
        entries, number = self._streams(block).flatten(1), next(self._blocks)
        for found, left in self._left.items():
            if not left or (None not in self.blocks and found.block != number):
                continue
            row = entries[found.range.stream]
            level = (row.cpu().numpy() == found.range.ends[0]).nonzero()[0]
            if len(level) >= left:
                self._last[found] = block.place.start + int(level[left - 1])
            self._left[found] = max(0, left - len(level))

    def last(self, found: Found) -> int:
        """Return the flat index up to which entries at a threshold are kept."""
        return self._last.get(found, 1 << 62)


def _count(mask: Any) -> int:
    return int(torch.count_nonzero(mask) if torch.is_tensor(mask) else np.count_nonzero(mask))


def _taken(entries: Any, mask: Any) -> Any:
    # Twice as fast as entries[mask], and five times where the mask takes many.
    return entries[mask] if torch.is_tensor(mask) else np.compress(mask, entries)


def _unique(parts: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    if not torch.is_tensor(parts[0]):
        return np.unique(np.concatenate(parts), return_counts=True)
    bins, counts = torch.unique(torch.cat(parts), return_counts=True)
    return bins.cpu().numpy(), counts.cpu().numpy()


def _joined(bins: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add up the counts of equal bins."""
    found, place = np.unique(bins, return_inverse=True)
    return found, np.bincount(place, weights=counts).astype(np.int64)
