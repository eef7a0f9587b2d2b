"""Norm-weighted averaging: every expert speaks equally loud in every tensor.

Each task vector is scaled to the experts' mean norm in that tensor before the weighted mean is
taken, so that an expert trained longer does not outvote the others by the length of its change
alone.
"""

from __future__ import annotations

from torch import Tensor

from merger.operators.base import operator
from merger.operators.changes import add_all
from merger.operators.gram import Matrix, gram_survey, norms
from merger.operators.knobs import Lambda, Normalize, Weight


@operator("norm_weighted", survey=gram_survey, paper="https://arxiv.org/abs/2212.04089")
def norm_weighted(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    normalize: Normalize,
    lambda_: Lambda,
    facts: Matrix,
) -> Tensor:
    """Average the changes after scaling each to the experts' mean norm."""
    lengths = norms(facts)
    mean = sum(lengths) / len(lengths)
    factors = [mean / n if n else 0.0 for n in lengths]
    changes = experts - base
    for change, factor in zip(changes, factors, strict=True):
        change.mul_(factor)
    return add_all(base, changes, weight, normalize=normalize, scale=lambda_)
