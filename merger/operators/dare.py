"""DARE: drop changes at random, rescale the rest, then add or elect (Yu et al. 2023).

Each entry of an expert is kept with probability `density`. As in mergekit the rest is rescaled to
the L1 norm of the whole, which the paper's 1/p does in expectation. The draws are a function of
seed, expert, tensor and index: the same in every run, whatever the order of work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from merger.operators.base import Laws, operator
from merger.operators.changes import add_all, add_elected, elected
from merger.operators.draws import stream_key, uniform
from merger.operators.knobs import Density, Lambda, Rescale, Seed, Unnormalized, Weight
from merger.operators.sparse import Sparse, l1_factors, masked
from merger.operators.survey import Block, Place, Size, Survey

_LAWS = Laws(random=True)
_PAPER = "https://arxiv.org/abs/2311.03099"


def bernoulli(changes: Tensor, density: Sequence[Any], place: Place, seed: int) -> Tensor:
    """Return which entries each expert keeps, (k, rows, cols) bool.

    Density is one number per expert, or one tensor of probabilities (rows, cols) each.
    """
    masks = [
        uniform(tuple(change.shape), stream_key(seed, key), place.start, change.device) < p
        for change, p, key in zip(changes, density, place.keys, strict=True)
    ]
    return torch.stack(masks)


def dare_survey(size: Size, density: Sequence[float], rescale: bool, seed: int) -> Survey:
    """Survey the factors that give back each expert's L1 norm."""
    if not rescale or min(density) >= 1:
        return Sparse((), [1.0] * size.experts)

    def masks(changes: Tensor, block: Block) -> Tensor:
        return bernoulli(changes, density, block.place, seed)

    return Sparse((), (yield from l1_factors(masks, size.experts)))


def dropped(
    experts: Tensor, base: Tensor, density: Sequence[float], seed: int, facts: Sparse, place: Place
) -> Tensor:
    """Return the task vectors after dropping and rescaling."""
    changes = experts - base
    if min(density) >= 1:
        return changes
    return masked(changes, bernoulli(changes, density, place, seed), facts.factors)


@operator("dare_linear", survey=dare_survey, laws=_LAWS, paper=_PAPER)
def dare_linear(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    density: Density,
    normalize: Unnormalized,
    lambda_: Lambda,
    rescale: Rescale,
    seed: Seed,
    facts: Sparse,
    place: Place,
) -> Tensor:
    """Add the changes left after dropping at random."""
    changes = dropped(experts, base, density, seed, facts, place)
    return add_all(base, changes, weight, normalize=normalize, scale=lambda_)


@operator("dare_ties", survey=dare_survey, laws=_LAWS, paper=_PAPER)
def dare_ties(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    density: Density,
    normalize: Unnormalized,
    lambda_: Lambda,
    rescale: Rescale,
    seed: Seed,
    facts: Sparse,
    place: Place,
) -> Tensor:
    """Add those changes left after dropping at random that share the elected sign."""
    changes = dropped(experts, base, density, seed, facts, place)
    sign = elected(changes, weight)
    return add_elected(base, changes, weight, sign, normalize=normalize, scale=lambda_)
