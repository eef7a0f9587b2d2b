"""Linear: the weighted mean of the experts (Wortsman et al. 2022, model soups).

As in mergekit the weights are divided by their sum unless `normalize` is false; a base is not
needed and has no part in the arithmetic. Summed in float64, so merging a model with itself returns
it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from merger.errors import SpecError
from merger.operators.base import Laws, operator
from merger.operators.knobs import Normalize, Weight
from merger.operators.span import rounded, weighted_sum


def shares(weight: Sequence[float]) -> list[float]:
    """Return the weights divided by their sum; a SpecError where that is zero."""
    total = _total(weight)
    return [w / total for w in weight]


def mean(experts: Tensor, weight: Sequence[float]) -> Tensor:
    """Return Σ wᵢxᵢ / Σ wᵢ of a block (k, rows, cols), rounded once."""
    return rounded(weighted_sum(experts, weight).div_(_total(weight)), experts)


def _total(weight: Sequence[float]) -> float:
    total = sum(weight)
    if abs(total) >= 1e-8:
        return total
    told = ", ".join(f"{w:g}" for w in weight)
    law = f"the weights {told} sum to zero and cannot be normalised"
    raise SpecError(law, "Change a weight, or set normalize: false.")


@operator(
    "linear",
    base="unused",
    laws=Laws(elementwise=True),
    paper="https://arxiv.org/abs/2203.05482",
)
def linear(experts: Tensor, base: Tensor | None, *, weight: Weight, normalize: Normalize) -> Tensor:
    """Average the experts by weight."""
    if normalize:
        return mean(experts, weight)
    return rounded(weighted_sum(experts, weight), experts)
