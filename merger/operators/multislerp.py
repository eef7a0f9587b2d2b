"""MultiSLERP: several experts' mean direction on the sphere, with their mean length.

mergekit goes from that mean direction m one step along Σ wᵢ(uᵢ − ⟨uᵢ, m⟩m), the mean of the unit
vectors in m's tangent plane. Since m is Σ wᵢuᵢ scaled to length one, that sum is zero whatever the
experts are, so the step is left out here; the Gram matrix gives the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Annotated

from torch import Tensor

from merger.errors import MismatchError
from merger.operators.base import Knob, operator
from merger.operators.gram import Matrix, gram_survey, norms
from merger.operators.knobs import Weight
from merger.operators.linear import shares
from merger.operators.span import rounded, weighted_sum

Normalized = Annotated[bool, Knob(default=True, help="divide the weights by their sum")]
Eps = Annotated[float, Knob(1e-10, 1e-6, default=1e-8, least=0.0, help="shortest direction")]


def sphere_weights(gram: Matrix, weight: Sequence[float], eps: float) -> list[float]:
    """Return the coefficients of the vectors in their spherical mean."""
    lengths = norms(gram)
    units = [w / n if n > eps else 0.0 for w, n in zip(weight, lengths, strict=True)]
    k = range(len(units))
    square = sum(units[i] * units[j] * gram[i][j] for i in k for j in k)
    length = sum(w * n for w, n in zip(weight, lengths, strict=True))
    if not any(units):
        return units  # nothing has a direction: all vectors are zero
    if sqrt(max(square, 0.0)) < eps:
        law = "the experts cancel each other: their weighted directions have no mean"
        raise MismatchError(law, "Change a weight, or use linear.")
    return [u * length / sqrt(square) for u in units]


@operator(
    "multislerp",
    base="optional",
    survey=gram_survey,
    paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
)
def multislerp(
    experts: Tensor,
    base: Tensor | None,
    *,
    weight: Weight,
    normalize_weights: Normalized,
    eps: Eps,
    facts: Matrix,
) -> Tensor:
    """Take the mean direction of the experts (of their changes, with a base) at its mean length."""
    given = shares(weight) if normalize_weights else list(weight)
    coefficients = sphere_weights(facts, given, eps)
    if base is None:
        return rounded(weighted_sum(experts, coefficients), experts)
    return rounded(weighted_sum(experts - base, coefficients).add_(base), base)
