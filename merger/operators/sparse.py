"""Operators that mask their task vectors: DARE, DELLA, Breadcrumbs, added up or elected.

They differ only in how they choose the mask; then all go on as task arithmetic or as TIES. The
rescale is mergekit's: Σ|δ| / Σ|kept δ| of the tensor, not the 1/p of DARE's paper.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from merger.operators.base import Laws, Operator, Value, operator
from merger.operators.changes import add_all, add_elected
from merger.operators.knobs import Density, Lambda, Rescale, Unnormalized, Weight
from merger.operators.survey import Block, Measure, Place, Size, Survey
from merger.operators.tiles import Sums

_NOTHING = 1e-7  # norms below this are not restored, as there is nothing to restore
# (changes, cuts, place, *, density, own knobs) -> which of (k, rows, cols) are kept, bool.
Mask = Callable[..., Tensor]


class Sparse(NamedTuple):
    """What was surveyed: the cuts, where the mask needs any, and the factor of each expert."""

    cuts: Any
    factors: Sequence[float]


def sparse(
    name: str,
    mask: Mask,
    doc: str,
    *,
    elect: bool,
    paper: str,
    cuts: Callable[..., Survey] | None = None,
    laws: Laws = Laws(),  # noqa: B008 - an immutable default
    defaults: Mapping[str, Value] | None = None,
) -> Operator:
    """Register an operator that masks, rescales if asked, and adds up or elects.

    `cuts` surveys what the mask has to know of the whole tensor, from size, density and its own
    knobs. Where every density is 1 nothing is masked.
    """

    def survey(size: Size, density: Sequence[float], rescale: bool, **own: Any) -> Survey:
        found, factors = None, [1.0] * size.experts
        if min(density) < 1:
            found = (yield from cuts(size, density, **own)) if cuts else None
            if rescale:
                factors = yield from _l1_factors(masks(found, density, own), size.experts)
        return Sparse(found, factors)

    def masks(
        found: Any, density: Sequence[float], own: Mapping[str, Any]
    ) -> Callable[[Tensor, Place], Tensor]:
        return lambda changes, place: mask(changes, found, place, density=density, **own)

    def combine(
        experts: Tensor,
        base: Tensor,
        *,
        weight: Weight,
        density: Density,
        normalize: Unnormalized,
        lambda_: Lambda,
        rescale: Rescale,
        facts: Sparse,
        place: Place,
        **own: Any,
    ) -> Tensor:
        changes = experts - base
        if min(density) < 1:
            changes.mul_(masks(facts.cuts, density, own)(changes, place))
            for change, factor in zip(changes, facts.factors, strict=True):
                change.mul_(factor)
        join = add_elected if elect else add_all
        return join(base, changes, weight, normalize=normalize, scale=lambda_)

    combine.__doc__ = doc
    told: dict[str, Any] = {"paper": paper, "laws": laws, "defaults": defaults or {}}
    return operator(name, survey=survey, also=mask, **told)(combine)


def _l1_factors(
    masks: Callable[[Tensor, Place], Tensor], experts: int
) -> Generator[Measure, None, list[float]]:
    """Survey what each expert's kept changes must be multiplied by to have the L1 norm of all."""

    def streams(block: Block) -> Tensor:
        changes = block.changes
        whole = changes.abs()
        return torch.cat([whole, whole * masks(changes, block.place)])

    sums = Sums(streams)
    yield sums
    totals = sums.result
    pairs = zip(totals[:experts], totals[experts:], strict=True)
    return [a / b if a >= _NOTHING and b >= _NOTHING else 1.0 for a, b in pairs]
