"""Sums of a whole tensor that no block size, thread count or device can change by a bit.

Entries are taken in fixed tiles of 65,536 (by flat index), widened to float64, folded in halves by
plain additions, and the tiles added in index order. A textbook `sum()` promises none of that: its
order follows the vector width and the number of threads.

Every operator that moves inside the span of its inputs (slerp, Karcher mean, model stock, equal
norm) needs inner products alone: its result is a linear combination whose coefficients follow from
the Gram matrix, so no iterate is ever formed and memory stays that of one block.
"""

from collections import defaultdict
from itertools import combinations_with_replacement
from math import sqrt

from merger.late import Tensor, torch
from merger.operators.survey import Block, Size, Streams, Survey

TILE = 65_536
Matrix = list[list[float]]


class Sums:
    """Measure: the totals of m streams that a function derives from each block.

    They do not depend on how the tensor was cut into blocks.
    """

    def __init__(self, streams: Streams, tile: int = TILE) -> None:
        self._streams, self._tile = streams, tile  # a power of two
        self._sums: Tensor | float = 0.0  # (m,) float64
        self._carry: Tensor | None = None  # (m, fewer than a tile): the tile begun

    def add(self, block: Block) -> None:
        """Add this block's entries to the totals."""
        self.take(self._streams(block).flatten(1))

    def take(self, entries: Tensor) -> None:
        """Take the next entries (m, n), in the order of their flat index."""
        if self._carry is not None:
            wanted = -self._carry.shape[1] % self._tile
            self._add_up(torch.cat([self._carry, entries[:, :wanted]], 1))
            entries = entries[:, wanted:]
        if self._carry is None or entries.shape[1]:
            self._add_up(entries)

    def _add_up(self, entries: Tensor) -> None:
        """Add up whole tiles and keep the rest for the next call."""
        whole = entries.shape[1] // self._tile * self._tile
        for tile in _fold(entries[:, :whole].reshape(len(entries), -1, self._tile)).unbind(1):
            self._sums = self._sums + tile
        self._carry = entries[:, whole:].clone()

    @property
    def result(self) -> Tensor:
        """The m totals, float64, the last tile filled up with zeros; ask once, at the end."""
        if self._carry is not None and self._carry.shape[1]:
            self.take(self._carry.new_zeros(len(self._carry), self._tile - self._carry.shape[1]))
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


class Gram:
    """Measure: all inner products of the k vectors that a function derives from each block."""

    def __init__(self, vectors: Streams) -> None:
        self._vectors = vectors
        self.sums = defaultdict[tuple[int, int], Sums](lambda: Sums(vectors))

    def add(self, block: Block) -> None:
        """Add this block's products, pair by pair; products of float32 are exact in float64."""
        flat = self._vectors(block).flatten(1).double()
        for i, j in combinations_with_replacement(range(len(flat)), 2):
            self.sums[i, j].take((flat[i] * flat[j])[None])


def gram_survey(size: Size) -> Survey:
    """Survey the inner products of the task vectors (of the experts, where there is no base)."""
    return inner_products(lambda block: block.changes)


def inner_products(vectors: Streams) -> Survey:
    """Survey the Gram matrix of some vectors."""
    gram = Gram(vectors)
    yield gram
    half = {at: float(sums.result) for at, sums in gram.sums.items()}
    span = range(1 + max(j for _, j in half))
    return [[half[min(i, j), max(i, j)] for j in span] for i in span]


def norms(gram: Matrix) -> list[float]:
    """Return the Euclidean norms of the vectors."""
    return [sqrt(max(gram[i][i], 0.0)) for i in range(len(gram))]
