"""Karcher mean: the point of the sphere nearest to all experts, with their mean length.

The Riemannian mean of the unit tensors by fixed-point iteration (Karcher 1977), equal parts. Each
iterate lies in the span of the experts, so the iteration runs on coefficients over the Gram matrix.
Departure from mergekit, as its own manual has it: a base does not count as one more expert.
"""

from __future__ import annotations

from math import acos, cos, sin, sqrt
from typing import Annotated

from torch import Tensor

from merger.operators.base import Knob, operator
from merger.operators.gram import Matrix, gram_survey, norms
from merger.operators.span import rounded, weighted_sum

Steps = Annotated[int, Knob(1, 50, default=10, least=1, help="most iterations")]
Tol = Annotated[float, Knob(1e-9, 1e-3, default=1e-5, least=0.0, log=True, help="when to stop")]


def karcher_weights(gram: Matrix, max_iter: int, tol: float) -> list[float]:
    """Return the coefficients of the vectors in their Karcher mean."""
    lengths = norms(gram)
    valid = [i for i, n in enumerate(lengths) if n > tol]
    if not valid:
        return [0.0] * len(gram)
    # Inner products of the unit vectors.
    unit = [[gram[i][j] / (lengths[i] * lengths[j]) for j in valid] for i in valid]
    mean = _scaled([1.0 / len(valid)] * len(valid), unit, tol)
    for _ in range(max_iter):
        step = _tangent(mean, unit, tol)
        length = _length(step, unit)
        if length < tol:
            break
        moved = [
            cos(length) * m + sin(length) / length * s for m, s in zip(mean, step, strict=True)
        ]
        mean = _scaled(moved, unit, tol)
    scale = sum(lengths[i] for i in valid) / len(gram)
    found = dict(zip(valid, mean, strict=True))
    return [scale * found[i] / lengths[i] if i in found else 0.0 for i in range(len(gram))]


def _tangent(mean: list[float], unit: Matrix, tol: float) -> list[float]:
    """Return the mean of the unit vectors' logarithms at the present mean, as coefficients."""
    k = len(mean)
    step = [0.0] * k
    for i in range(k):
        along = max(-1.0, min(1.0, sum(mean[j] * unit[j][i] for j in range(k))))
        angle = acos(along)
        if angle < tol:
            continue
        factor = angle / sin(angle) / k
        step = [s - factor * along * m for s, m in zip(step, mean, strict=True)]
        step[i] += factor
    return step


def _length(vector: list[float], unit: Matrix) -> float:
    k = range(len(vector))
    return sqrt(max(0.0, sum(vector[i] * vector[j] * unit[i][j] for i in k for j in k)))


def _scaled(vector: list[float], unit: Matrix, tol: float) -> list[float]:
    """Scale to length one; a mean without direction falls back to the first vector."""
    length = _length(vector, unit)
    if length < tol:
        return [1.0, *[0.0] * (len(vector) - 1)]
    return [v / length for v in vector]


@operator(
    "karcher", base="unused", survey=gram_survey, paper="https://doi.org/10.1002/cpa.3160300502"
)
def karcher(
    experts: Tensor, base: Tensor | None, *, max_iter: Steps, tol: Tol, facts: Matrix
) -> Tensor:
    """Take the Riemannian mean of the experts' directions at their mean length."""
    coefficients = karcher_weights(facts, max_iter, tol)
    return rounded(weighted_sum(experts, coefficients), experts)
