"""Sums of a whole tensor that no block size, thread count or device can change by a bit.

Entries are taken in fixed tiles of 65,536 (by flat index), widened to float64, folded in halves by
plain additions, and the tiles added in index order. A textbook `sum()` promises none of that: its
order follows the vector width and the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from merger.operators.survey import Block

TILE = 65_536


class TileSums:
    """Sums of m streams of entries, independent of how the streams were cut into blocks."""

    def __init__(self, tile: int = TILE) -> None:
        self._tile = tile  # a power of two
        self._sums: Tensor | None = None  # (m,) float64
        self._carry: Tensor | None = None  # (m, fewer than a tile): the tile begun

    def add(self, entries: Tensor) -> None:
        """Take the next entries (m, n), in the order of their flat index."""
        for piece in self._pieces(entries):
            tiles = _fold(piece.reshape(piece.shape[0], -1, self._tile))
            for tile in tiles.unbind(1):
                self._sums = tile if self._sums is None else self._sums + tile

    def _pieces(self, entries: Tensor) -> Iterator[Tensor]:
        """Cut what has come so far into whole tiles and keep the rest for the next call."""
        begun = self._carry
        if begun is not None:
            wanted = self._tile - begun.shape[1]
            head, entries = torch.cat([begun, entries[:, :wanted]], 1), entries[:, wanted:]
            self._carry = head if head.shape[1] < self._tile else None
            if self._carry is None:
                yield head
        whole = entries.shape[1] // self._tile * self._tile
        if whole:
            yield entries[:, :whole]
        if entries.shape[1] > whole:
            self._carry = entries[:, whole:].clone()

    def totals(self) -> Tensor:
        """Return the m sums, float64; the last tile is filled up with zeros."""
        if self._carry is not None:
            self.add(self._carry.new_zeros(self._carry.shape[0], self._tile - self._carry.shape[1]))
        return torch.empty(0) if self._sums is None else self._sums

    def total(self) -> list[float]:
        """Return the m sums as Python numbers."""
        return [float(s) for s in self.totals().tolist()]


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
    """Measure: the totals of m streams that a function derives from each block, (m, rows, cols)."""

    def __init__(self, streams: Callable[[Block], Tensor]) -> None:
        self._streams = streams
        self._sums = TileSums()

    def add(self, block: Block) -> None:
        """Add this block's entries to the totals."""
        self._sums.add(self._streams(block).flatten(1))

    @property
    def result(self) -> list[float]:
        """The m totals; ask once, after the last block."""
        return self._sums.total()
