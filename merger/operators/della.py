"""DELLA: drop at random, small changes more often than large ones (Deep et al. 2024).

Within each row of the last axis the changes are ranked by magnitude, and the probability to be kept
rises evenly from density − epsilon (smallest) to density + epsilon (largest). Departures from
mergekit: rows of tensors of any rank are those of the last axis, ranks are exact in every dtype,
and a row of one entry is kept with probability `density` where 0/0 stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merger.errors import SpecError
from merger.operators.base import Knob, Laws, operator
from merger.operators.changes import add_all, add_elected, elected
from merger.operators.dare import bernoulli
from merger.operators.knobs import (
    Density,
    Lambda,
    Normalize,
    Rescale,
    Seed,
    Unnormalized,
    Weight,
)
from merger.operators.sparse import Sparse, l1_factors, masked
from merger.operators.survey import Block, Place, Size, Survey

Epsilon = Annotated[
    Sequence[float],
    Knob(0.01, 0.3, default=0.15, least=0.0, most=0.5, help="spread of the probabilities"),
]
_LAWS = Laws(random=True, rowwise=lambda knobs: min(knobs["density"]) < 1)
_PAPER = "https://arxiv.org/abs/2406.11617"


def keep_probability(change: Tensor, density: float, epsilon: float) -> Tensor:
    """Return each entry's probability to be kept, by its rank in its row: (rows, cols) float64."""
    if density >= 1:
        return torch.ones_like(change, dtype=torch.float64)
    cols = change.shape[-1]
    if cols == 1:
        return torch.full_like(change, density, dtype=torch.float64)
    order = change.abs().argsort(dim=-1, stable=True)
    steps = torch.arange(cols, dtype=torch.float64, device=change.device) / (cols - 1)
    spread = (density - epsilon) + steps * (2 * epsilon)
    return torch.empty_like(spread.expand(change.shape)).scatter_(
        -1, order, spread.expand(change.shape)
    )


def _checked(density: Sequence[float], epsilon: Sequence[float]) -> None:
    for d, e in zip(density, epsilon, strict=True):
        if d < 1 and (d - e <= 0 or d + e >= 1):
            law = f"density {d:g} with epsilon {e:g} leaves the probabilities' range from 0 to 1"
            raise SpecError(law, f"Give an epsilon below {min(d, 1 - d):g}, or density 1.")


def _masks(
    changes: Tensor, density: Sequence[float], epsilon: Sequence[float], place: Place, seed: int
) -> Tensor:
    knobs = zip(changes, density, epsilon, strict=True)
    return bernoulli(changes, [keep_probability(c, d, e) for c, d, e in knobs], place, seed)


def della_survey(
    size: Size, density: Sequence[float], epsilon: Sequence[float], rescale: bool, seed: int
) -> Survey:
    """Survey the factors that give back each expert's L1 norm."""
    _checked(density, epsilon)
    if not rescale or min(density) >= 1:
        return Sparse((), [1.0] * size.experts)

    def masks(changes: Tensor, block: Block) -> Tensor:
        return _masks(changes, density, epsilon, block.place, seed)

    return Sparse((), (yield from l1_factors(masks, size.experts)))


def pruned(
    experts: Tensor,
    base: Tensor,
    density: Sequence[float],
    epsilon: Sequence[float],
    seed: int,
    facts: Sparse,
    place: Place,
) -> Tensor:
    """Return the task vectors after dropping by rank and rescaling."""
    changes = experts - base
    if min(density) >= 1:
        return changes
    return masked(changes, _masks(changes, density, epsilon, place, seed), facts.factors)


@operator("della", survey=della_survey, laws=_LAWS, paper=_PAPER)
def della(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    density: Density,
    epsilon: Epsilon,
    normalize: Normalize,
    lambda_: Lambda,
    rescale: Rescale,
    seed: Seed,
    facts: Sparse,
    place: Place,
) -> Tensor:
    """Average those changes left after dropping by rank that share the elected sign."""
    changes = pruned(experts, base, density, epsilon, seed, facts, place)
    sign = elected(changes, weight)
    return add_elected(base, changes, weight, sign, normalize=normalize, scale=lambda_)


@operator("della_linear", survey=della_survey, laws=_LAWS, paper=_PAPER)
def della_linear(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    density: Density,
    epsilon: Epsilon,
    normalize: Unnormalized,
    lambda_: Lambda,
    rescale: Rescale,
    seed: Seed,
    facts: Sparse,
    place: Place,
) -> Tensor:
    """Add the changes left after dropping by rank."""
    changes = pruned(experts, base, density, epsilon, seed, facts, place)
    return add_all(base, changes, weight, normalize=normalize, scale=lambda_)
