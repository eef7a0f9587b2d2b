"""Sums of a whole tensor that no block size, thread count or device can change by a bit.

Entries are taken in fixed tiles of 65,536 (by flat index), widened to float64, folded in halves by
plain additions, and the tiles added in index order. A textbook `sum()` promises none of that: its
order follows the vector width and the number of threads.

Every operator that moves inside the span of its inputs (slerp, Karcher mean, model stock, equal
norm) needs inner products alone: its result is a linear combination whose coefficients follow from
the Gram matrix, so no iterate is ever formed and memory stays that of one block.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations_with_replacement
from math import sqrt

import torch
from torch import Tensor

from merger.operators.survey import Block, Size, Streams, Survey

TILE = 65_536
Matrix = list[list[float]]


class TileSums:
    """Sums of m streams of entries, independent of how the streams were cut into blocks."""

    def __init__(self, tile: int = TILE) -> None:
        self._tile = tile  # a power of two
        self._sums: Tensor | float = 0.0  # (m,) float64
        self._carry: Tensor | None = None  # (m, fewer than a tile): the tile begun

    def add(self, entries: Tensor) -> None:
        """Take the next entries (m, n), in the order of their flat index."""
        if self._carry is not None:
            wanted = -self._carry.shape[1] % self._tile
            begun = torch.cat([self._carry, entries[:, :wanted]], 1)
            self._take(begun)
            entries = entries[:, wanted:]
        if self._carry is None or entries.shape[1]:
            self._take(entries)

    def _take(self, entries: Tensor) -> None:
        """Add up whole tiles and keep the rest for the next call."""
        whole = entries.shape[1] // self._tile * self._tile
        for tile in _fold(entries[:, :whole].reshape(len(entries), -1, self._tile)).unbind(1):
            self._sums = self._sums + tile
        self._carry = entries[:, whole:].clone()

    def totals(self) -> Tensor:
        """Return the m sums, float64; the last tile is filled up with zeros. Ask once."""
        if self._carry is not None and self._carry.shape[1]:
            self.add(self._carry.new_zeros(len(self._carry), self._tile - self._carry.shape[1]))
        return torch.as_tensor(self._sums)


def _fold(tiles: Tensor) -> Tensor:
    """Sum the last axis, a power of two, by halves: (..., 2^n) of any float -> (...) float64."""
    while tiles.shape[-1] > 1:
        half = tiles.shape[-1] // 2
        tiles = tiles[..., :half].double() + tiles[..., half:].double()
    return tiles[..., 0]


def row_sums(entries: Tensor) -> Tensor:
    """Return the sums of rows (..., n) -> (...) float64, folded in a fixed order like tiles."""
    wide = 1 << max(0, entries.shape[-1] - 1).bit_length()
    return _fold(torch.nn.functional.pad(entries, (0, wide - entries.shape[-1]))).double()


class Sums:
    """Measure: the totals of m streams that a function derives from each block."""

    def __init__(self, streams: Streams, tile: int = TILE) -> None:
        self._streams = streams
        self._sums = TileSums(tile)

    def add(self, block: Block) -> None:
        """Add this block's entries to the totals."""
        self._sums.add(self._streams(block).flatten(1))

    @property
    def result(self) -> Tensor:
        """The m totals, float64; ask once, after the last block."""
        return self._sums.totals()


class Gram:
    """Measure: all inner products of the k vectors that a function derives from each block."""

    def __init__(self, vectors: Streams = lambda block: block.changes) -> None:
        self._vectors = vectors
        self._sums: defaultdict[tuple[int, int], TileSums] = defaultdict(TileSums)

    def add(self, block: Block) -> None:
        """Add this block's products; products of float32 are exact in float64."""
        flat = self._vectors(block).flatten(1).double()
        for i, j in combinations_with_replacement(range(len(flat)), 2):
            self._sums[i, j].add((flat[i] * flat[j])[None])

    @property
    def result(self) -> Matrix:
        """The symmetric matrix of inner products; ask once, after the last block."""
        half = {at: float(sums.totals()) for at, sums in self._sums.items()}
        span = range(1 + max(j for _, j in half))
        return [[half[min(i, j), max(i, j)] for j in span] for i in span]


def gram_survey(size: Size) -> Survey:
    """Survey the Gram matrix of the task vectors (of the experts, where there is no base)."""
    gram = Gram()
    yield gram
    return gram.result


def norms(gram: Matrix) -> list[float]:
    """Return the Euclidean norms of the vectors."""
    return [sqrt(max(gram[i][i], 0.0)) for i in range(len(gram))]
