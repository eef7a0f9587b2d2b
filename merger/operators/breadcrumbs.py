"""Model Breadcrumbs: leave out the largest changes and the smallest (Davari, Belilovsky 2023).

Of n entries the int(gamma·n) largest are dropped, then the smallest until int(density·n) are left;
at density 1 nothing is dropped. Departure from mergekit: where gamma·n is below one no entry counts
as an outlier, while there the empty slice it stands for zeroed the whole task vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merger.operators.base import Knob, operator
from merger.operators.changes import add_all, add_elected, elected
from merger.operators.knobs import Density, Lambda, Unnormalized, Unrescaled, Weight
from merger.operators.magnitudes import ALL, NONE, Cut, kept, largest
from merger.operators.sparse import Sparse, l1_factors, masked
from merger.operators.survey import Block, Place, Size, Survey
from merger.operators.ties import keep_count, magnitudes

Gamma = Annotated[
    Sequence[float],
    Knob(0.0, 0.1, default=0.01, least=0.0, most=1.0, help="share of largest entries dropped"),
]
Bounds = tuple[Cut, Cut]  # kept: inside the first, outside the second
_PAPER = "https://arxiv.org/abs/2312.06795"


def ranks(density: float, gamma: float, numel: int) -> tuple[int, int]:
    """Return how many largest entries to look at, and how many of those to drop."""
    if density >= 1:
        return numel + 1, 0
    target = keep_count(density, numel)
    outliers = min(int(gamma * numel), numel - target)
    return target + outliers, outliers


def crumbs_survey(
    size: Size, density: Sequence[float], gamma: Sequence[float], rescale: bool
) -> Survey:
    """Find both cuts of each expert, and the factors of the L1 rescale."""
    bounds: list[Bounds] = [(ALL, NONE)] * size.experts
    if min(density) < 1:
        wanted = [ranks(d, g, size.numel) for d, g in zip(density, gamma, strict=True)]
        found = yield from largest(
            magnitudes, lambda i, _: wanted[i], size.numel, zeros_count=False
        )
        bounds = [(inside, outliers) for inside, outliers in found]
    if not rescale:
        return Sparse(bounds, [1.0] * size.experts)

    def masks(changes: Tensor, block: Block) -> Tensor:
        return between(changes, bounds, block.place)

    return Sparse(bounds, (yield from l1_factors(masks, size.experts)))


def between(changes: Tensor, bounds: Sequence[Bounds], place: Place) -> Tensor:
    """Return which entries lie between the cuts of their expert, (k, rows, cols) bool."""
    masks = []
    for change, (inside, outliers) in zip(changes.abs(), bounds, strict=True):
        masks.append(kept(change, inside, place.start) & ~kept(change, outliers, place.start))
    return torch.stack(masks)


def _crumbs(experts: Tensor, base: Tensor, facts: Sparse, place: Place) -> Tensor:
    changes = experts - base
    return masked(changes, between(changes, facts.cuts, place), facts.factors)


@operator("breadcrumbs", survey=crumbs_survey, paper=_PAPER)
def breadcrumbs(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    density: Density,
    gamma: Gamma,
    normalize: Unnormalized,
    lambda_: Lambda,
    rescale: Unrescaled,
    facts: Sparse,
    place: Place,
) -> Tensor:
    """Add the changes of middling size."""
    changes = _crumbs(experts, base, facts, place)
    return add_all(base, changes, weight, normalize=normalize, scale=lambda_)


@operator("breadcrumbs_ties", survey=crumbs_survey, paper=_PAPER)
def breadcrumbs_ties(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    density: Density,
    gamma: Gamma,
    normalize: Unnormalized,
    lambda_: Lambda,
    rescale: Unrescaled,
    facts: Sparse,
    place: Place,
) -> Tensor:
    """Add those changes of middling size that share the elected sign."""
    changes = _crumbs(experts, base, facts, place)
    sign = elected(changes, weight)
    return add_elected(base, changes, weight, sign, normalize=normalize, scale=lambda_)
