"""Inner products of a whole tensor's experts, in one pass.

Every operator that moves inside the span of its inputs (slerp, Karcher mean, model stock, equal
norm) can be computed from these few numbers: its result is a linear combination whose coefficients
follow from the Gram matrix alone, so no iterate is ever formed and memory stays that of one block.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from torch import Tensor

from merger.operators.survey import Block, Size, Survey
from merger.operators.tiles import TileSums

Matrix = list[list[float]]


def changes(block: Block) -> Tensor:
    """Return the vectors most operators measure: task vectors, or the experts without a base."""
    return block.changes


class Gram:
    """Measure: all inner products of the k vectors that a function derives from each block."""

    def __init__(self, vectors: Callable[[Block], Tensor] = changes) -> None:
        self._vectors = vectors
        self._sums: dict[tuple[int, int], TileSums] = {}
        self._k = 0

    def add(self, block: Block) -> None:
        """Add this block's products; products of float32 are exact in float64."""
        flat = self._vectors(block).flatten(1)
        self._k = flat.shape[0]
        for i in range(self._k):
            left = flat[i].double()
            for j in range(i, self._k):
                self._sums.setdefault((i, j), TileSums()).add((left * flat[j].double())[None])

    @property
    def result(self) -> Matrix:
        """The symmetric matrix of inner products; ask once, after the last block."""
        half = {at: sums.total()[0] for at, sums in self._sums.items()}
        span = range(self._k)
        return [[half[min(i, j), max(i, j)] for j in span] for i in span]


def gram_survey(size: Size) -> Survey:
    """Survey the Gram matrix of the task vectors (of the experts, where there is no base)."""
    gram = Gram()
    yield gram
    return gram.result


def norms(gram: Matrix) -> list[float]:
    """Return the Euclidean norms of the vectors."""
    return [sqrt(max(gram[i][i], 0.0)) for i in range(len(gram))]
