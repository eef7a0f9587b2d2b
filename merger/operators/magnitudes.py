"""The exact k-th largest magnitude of a whole tensor, in constant memory and linear time.

A sort would hold the tensor. A sample says between which two numbers the k-th lies; one pass counts
what is above them and at them, and holds the few entries between, among which it is found exactly.
Bounds that missed, or hold too many entries between them (then every so manieth is held, the next
sample), cost one more pass between narrower ones; they cannot change the answer. Exactly k entries
are kept: those at the threshold in the order of their flat index, for which the block in which
their quota is filled is read once more, only when some of them must go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from math import inf, sqrt
from typing import Any, NamedTuple

from merger import native
from merger.late import Tensor, np, torch
from merger.operators.survey import Block, Streams, Survey

EVERY = 1 << 62  # beyond any flat index
_HELD = 1 << 20  # entries held between two bounds; tensors up to this need no sample
_KEPT = 1 << 17  # entries of a tensor up to which they may be kept between surveys
_SAMPLE = 1 << 16  # entries of one stream that a sample holds
_BLOCKS = 8  # over how many blocks it is spread
_SIGMAS = 6.0  # rows differ among themselves, so a sample errs by more than an even one would
_BELOW = -1.0  # less than any magnitude


class Cut(NamedTuple):
    """The k largest: magnitudes above the threshold, and at it up to and including a flat index."""

    threshold: float
    last: int = EVERY


ALL = Cut(_BELOW)
NONE = Cut(inf, -1)


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
    streams: Streams,
    wanted: Sequence[tuple[int, Callable[[int], int]]],
    numel: int,
    *,
    relative: bool = False,
    zeros_count: bool = True,
    name: str = "",
) -> Survey:
    """Survey where the k largest of a stream end, for several streams and ks.

    Args: streams: non-negative entries (m, rows, cols) of a block. wanted: the number of a stream,
    and its count of entries (with `relative`, of those that are not zero) -> k, at most that count;
    0 keeps nothing. numel: entries of one stream. zeros_count: False where it does not matter which
    zeros are kept; then none is sought. name: of streams that are the same whatever the knobs; the
    entries of a small tensor are then kept between surveys, and another k is only looked up.

    Returns:
        One Cut for each that is wanted, in their order.
    """
    seeks = [_Seek(stream, share) for stream, share in wanted]
    if numel > _HELD:
        sample = _Sample(streams)
        yield sample
        entries = np.concatenate(sample.parts, 1)
        for seek in seeks:
            row = entries[seek.stream]
            share = np.count_nonzero(row) / len(row) if relative else 1.0
            seek.aim(row, seek.wanted(round(share * numel)) / numel)
    look = yield _Look(streams, seeks, relative=relative, name=name if numel <= _KEPT else "")
    for seek, seen in zip(seeks, look.seen, strict=True):
        seek.seen, seek.k = seen, seek.wanted(look.nonzero[seek.stream] if relative else numel)
    while unsettled := [seek for seek in seeks if not seek.settled()]:
        yield _Look(streams, unsettled)
    if tied := [s for s in seeks if s.quota and (zeros_count or s.cut.threshold > 0)]:
        yield _Last(streams, tied)
    return [seek.cut for seek in seeks]


class _Sample:
    """Measure: some entries of each stream, spread over a few blocks."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self.parts: list[np.ndarray] = []

    def pick(self, count: int) -> range:
        """Ask for a few blocks."""
        return range(0, count, max(1, count // _BLOCKS))

    def add(self, block: Block) -> None:
        """Take every so manieth entry of the block."""
        flat = self._streams(block).flatten(1)
        # An odd step, so that it runs through all columns of a matrix of even width.
        step = max(1, flat.shape[1] * _BLOCKS // _SAMPLE) | 1
        self.parts.append(flat[:, ::step].cpu().numpy().copy())


class _Look:
    """Measure: what each seek has to see; and how many entries of each stream are not zero."""

    def __init__(
        self, streams: Streams, seeks: Sequence[_Seek], *, relative: bool = False, name: str = ""
    ) -> None:
        self.name = name
        self._streams, self._relative = streams, relative
        self._numbers = [seek.stream for seek in seeks]
        self.nonzero = [0] * (1 + max(self._numbers))
        self.seen = [_Seen(*seek.inner) for seek in seeks]
        for seek, seen in zip(seeks, self.seen, strict=True):
            seek.seen = seen

    def add(self, block: Block) -> None:
        """Show the block to all."""
        entries = self._streams(block).flatten(1)
        if self._relative:
            for i in range(len(self.nonzero)):
                self.nonzero[i] += int(torch.count_nonzero(entries[i]))
        for i, seen in zip(self._numbers, self.seen, strict=True):
            # On the CPU by numpy, whose comparisons and selections take a tenth of torch's time.
            seen.add(entries[i] if entries.is_cuda else entries[i].numpy())


class _Last:
    """Measure: the flat index at which the entries equal to a threshold have filled their quota."""

    def __init__(self, streams: Streams, seeks: Sequence[_Seek]) -> None:
        self._streams, self._seeks = streams, seeks
        self._blocks: Iterator[int] = iter(())

    def pick(self, count: int) -> Sequence[int]:
        """Ask for the blocks in which a quota is filled."""
        blocks = sorted({seek.block for seek in self._seeks})
        self._blocks = iter(blocks)
        return blocks

    def add(self, block: Block) -> None:
        """Find the last entry to keep."""
        entries, number = self._streams(block).flatten(1), next(self._blocks)
        for seek in self._seeks:
            if seek.block == number:
                level = entries[seek.stream].cpu().numpy() == seek.cut.threshold
                last = block.place.start + int(np.flatnonzero(level)[seek.quota - 1])
                seek.cut = seek.cut._replace(last=last)


class _Seen:
    """What one stream holds above two bounds, at them and between them."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.above, self.inside = 0, 0
        self.step = 1  # every so manieth of those inside is held
        self.ends: list[tuple[int, int]] = []  # entries at the bounds, for each block
        self.parts: list[np.ndarray] = []  # entries between them, for each block
        self._held = 0

    def add(self, entries: Any) -> None:
        """Take the entries of the next block, one axis, on the CPU an array."""
        over, reached, bottom, part = tally(entries, self.low, self.high)
        self.above += over
        self.ends.append((bottom, reached - over))
        self.inside += len(part)
        self.parts.append(part[:: self.step].copy())
        self._held += len(self.parts[-1])
        if self._held > _HELD:
            self.step *= 3  # odd, as in a sample
            self.parts = [part[::3].copy() for part in self.parts]
            self._held = sum(map(len, self.parts))

    @cached_property
    def between(self) -> np.ndarray:
        """The entries held, ascending; ask once every block was taken."""
        return np.sort(np.concatenate(self.parts))


class _Seek:
    """One k of one stream, while the bounds between which its entry lies are narrowed."""

    def __init__(self, stream: int, wanted: Callable[[int], int]) -> None:
        self.stream, self.wanted = stream, wanted
        self.k = 0
        self.cut = NONE
        self.block, self.quota = 0, 0  # where entries at the threshold end, and how many it gives
        self.inner = self._outer = (_BELOW, inf)  # where it is looked for, and where it must lie
        self.seen = _Seen(*self.inner)

    def aim(self, sample: np.ndarray, share: float) -> None:
        """Look for the entry that a share of those in a sample are above."""
        n = len(sample)
        margin = _SIGMAS * sqrt(share * (1 - share) / n) + 4 / n
        low, high = (int((1 - share + d) * n) for d in (-margin, margin))
        ordered = np.partition(sample, (max(low, 0), min(high, n - 1)))
        below, above = self._outer
        self.inner = (
            below if low <= 0 else float(ordered[low]),
            above if high >= n else float(ordered[high]),
        )

    def settled(self) -> bool:
        """Narrow by what was seen; say whether the k-th entry itself is known."""
        if self.k <= 0:
            return True
        seen, left = self.seen, self.k - self.seen.above
        at_low, at_high = (list(ends) for ends in zip(*seen.ends, strict=True))
        if left <= 0:
            self.inner = self._outer = (seen.high, self._outer[1])
        elif left <= sum(at_high):
            return self._found(seen.high, left, at_high)
        elif (left := left - sum(at_high)) <= seen.inside:
            if seen.step > 1:
                self._outer = seen.low, seen.high
                self.aim(seen.between, left / seen.inside)
                return False
            value = seen.between[-left]
            left -= len(seen.between) - int(np.searchsorted(seen.between, value, "right"))
            return self._found(value, left, [_count(part == value) for part in seen.parts])
        elif (left := left - seen.inside) <= sum(at_low) or seen.low == _BELOW:
            # Fewer than k numbers in all of the tensor: the rest is NaN, let through on purpose.
            return self._found(max(seen.low, 0.0), left, at_low)
        else:
            self.inner = self._outer = (self._outer[0], seen.low)
        return False

    def _found(self, value: float, quota: int, level: Sequence[int]) -> bool:
        """Keep a quota of the entries that are equal to the k-th, so many in each block."""
        self.cut = Cut(float(value))
        if quota < sum(level):
            before = np.cumsum(level)
            self.block = int(np.searchsorted(before, quota))
            self.quota = quota - int(before[self.block]) + level[self.block]
        return True


def tally(entries: Any, low: float, high: float) -> tuple[int, int, int, np.ndarray]:
    """Count entries above `high`, at or above it, and at a lower bound; return those between."""
    if native.takes(entries):
        return native.tally(entries, low, high)
    top, over = entries >= high, _count(entries > high)
    reached, part, bottom = _count(top), np.empty(0, np.float32), 0
    if low < high:
        part = _taken(entries, (entries > low) ^ top)
        bottom = _count(entries >= low) - len(part) - reached
    return over, reached, bottom, part


def _count(mask: Any) -> int:
    return int(torch.count_nonzero(mask) if torch.is_tensor(mask) else np.count_nonzero(mask))


def _taken(entries: Any, mask: Any) -> np.ndarray:
    if torch.is_tensor(entries):
        return entries[mask].cpu().numpy()
    # Twice as fast as entries[mask], and five times where the mask takes many.
    return np.compress(mask, entries)
