"""The exact k-th largest magnitude of a whole tensor, in constant memory and linear time.

A positive float's bit pattern grows with its value, so a histogram over 16 bits of it, then over
the next 16 inside the bin that matters, finds the k-th largest exactly: two passes in float32
(four in float64) where a sort would hold the tensor. Exactly k entries are kept: those at the
threshold, in the order of their flat index, which takes a third pass only when some of them must
go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from merger.operators.survey import Block, Survey

DIGIT = 16  # bits looked at in one pass
EVERY = 1 << 62  # beyond any flat index


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


def largest(
    streams: Callable[[Block], Tensor], wanted: Callable[[int, int], Sequence[int]]
) -> Survey:
    """Survey where the k largest of each stream end.

    Args:
        streams: non-negative entries (m, rows, cols) of a block.
        wanted: (stream, its count of non-zero entries) -> the ks asked for; k ≤ 0 keeps nothing,
            a k beyond the tensor keeps all without looking for the threshold.

    Returns:
        For each stream one Cut per k, in the order asked.
    """
    digits = Digits(streams, {})
    yield digits
    targets = [
        [_Target(i, k, digits.numel) for k in wanted(i, nonzero)]
        for i, nonzero in enumerate(digits.nonzero)
    ]
    flat = [t for row in targets for t in row]
    while True:
        for target in flat:
            target.narrow(digits)
        if digits.shift == 0:
            break
        digits = Digits(streams, {(t.stream, t.prefix) for t in flat if t.open}, digits)
        yield digits
    if any(t.open and t.k < t.level for t in flat):
        yield Ties(streams, flat, digits.dtype)
    return [[t.cut(digits.dtype) for t in row] for row in targets]


class Digits:
    """Measure: a histogram of one 16-bit digit of the bits, under each prefix of interest."""

    def __init__(
        self,
        streams: Callable[[Block], Tensor],
        prefixes: set[tuple[int, int]] | dict[tuple[int, int], int],
        above: Digits | None = None,
    ) -> None:
        self._streams = streams
        self._prefixes = sorted(prefixes)
        self._first = above is None
        self.shift: int = -1 if above is None else above.shift - DIGIT
        self.dtype: torch.dtype = torch.float32 if above is None else above.dtype
        self.counts: dict[tuple[int, int], Tensor] = {}
        self.nonzero: list[int] = []
        self.numel: int = 0 if above is None else above.numel

    def add(self, block: Block) -> None:
        """Count this block's digits."""
        entries = self._streams(block).flatten(1)
        if self._first:
            self._open(entries)
        for i, row in enumerate(entries.unbind(0)):
            bits = _bits(row)
            if self._first:
                self.nonzero[i] += int(torch.count_nonzero(row))
                self._count((i, 0), bits >> self.shift)
            else:
                for stream, prefix in self._prefixes:
                    if stream == i:
                        inside = bits[bits >> (self.shift + DIGIT) == prefix]
                        self._count((i, prefix), (inside >> self.shift) & 0xFFFF)

    def _open(self, entries: Tensor) -> None:
        self.dtype = entries.dtype
        self.shift = entries.element_size() * 8 - DIGIT
        self.nonzero = self.nonzero or [0] * entries.shape[0]
        self.numel += entries.shape[1]

    def _count(self, key: tuple[int, int], digits: Tensor) -> None:
        counts = torch.bincount(digits, minlength=1 << DIGIT)
        self.counts[key] = self.counts[key] + counts if key in self.counts else counts


@dataclass
class _Target:
    """One k of one stream while its bit pattern is being narrowed down."""

    stream: int
    k: int  # how many are still to be kept inside the prefix
    numel: int
    prefix: int = 0
    level: int = 0  # how many entries lie inside the prefix
    last: int = EVERY

    def __post_init__(self) -> None:
        self.open = 0 < self.k <= self.numel

    def narrow(self, digits: Digits) -> None:
        """Step into the bin that holds the k-th largest."""
        if not self.open:
            return
        counts = digits.counts[self.stream, self.prefix]
        from_top = counts.flip(0).cumsum(0)
        at = int(torch.searchsorted(from_top, self.k))
        self.level = int(counts.flip(0)[at])
        self.k -= int(from_top[at]) - self.level
        self.prefix = self.prefix << DIGIT | (counts.numel() - 1 - at)

    def cut(self, dtype: torch.dtype) -> Cut:
        """Return the finished cut."""
        if not self.open:
            return NONE if self.k <= 0 else ALL
        return Cut(_value(self.prefix, dtype), self.last)


class Ties:
    """Measure: the flat index at which the entries equal to a threshold have filled their share."""

    def __init__(
        self, streams: Callable[[Block], Tensor], targets: list[_Target], dtype: torch.dtype
    ) -> None:
        self._streams = streams
        self._values = [(t, _value(t.prefix, dtype)) for t in targets if t.open and t.k < t.level]

    def add(self, block: Block) -> None:
        """Look for the last entry to keep; a target that is full looks no further."""
        entries = self._streams(block).flatten(1)
        for target, value in self._values:
            if target.last < EVERY:
                continue
            hits = (entries[target.stream] == value).nonzero().flatten()
            if hits.numel() >= target.k:
                target.last = block.place.start + int(hits[target.k - 1])
            else:
                target.k -= hits.numel()


def _bits(entries: Tensor) -> Tensor:
    return entries.contiguous().view(torch.int64 if entries.element_size() == 8 else torch.int32)


def _value(bits: int, dtype: torch.dtype) -> float:
    whole = torch.int64 if dtype == torch.float64 else torch.int32
    return float(torch.tensor([bits], dtype=whole).view(dtype))
