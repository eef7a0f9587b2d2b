"""Consensus: the update rule that a search explores, as an operator of its own.

θ = base + scale · Σ_A pᵢτᵢ / Σ_A pᵢ, with τᵢ trimmed to a share of its *non-zero* entries and A the
experts that count at an entry: all of them (`mean`), those that agree with the elected sign
(`sign`), or those that changed the entry at all (`ram`, after RAM's rule that a lone change is
kept whole). Departure from TIES: density is relative to what each expert changed, because experts
aligned by RL change 5 to 30 % of their entries and every absolute density above that would mean
the same. With `mean`, density 1 and scale 1 this is `linear`, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor

from merger.operators.base import Knob, operator
from merger.operators.changes import add_all, add_elected
from merger.operators.knobs import Density
from merger.operators.linear import mean
from merger.operators.magnitudes import ALL, Cut, largest
from merger.operators.survey import Place, Size, Survey
from merger.operators.ties import keep_count, magnitudes, trimmed

Share = Annotated[Sequence[float], Knob(0.0, 1.0, least=0.0, help="share of each expert")]
Scale = Annotated[float, Knob(0.3, 1.6, default=1.0, help="length of the joined change")]
Rule = Annotated[
    Literal["mean", "sign", "ram"], Knob(default="mean", help="which experts count at an entry")
]


def relative_survey(size: Size, density: Sequence[float]) -> Survey:
    """Find each expert's cut among its non-zero changes."""
    if min(density) >= 1:
        return [ALL] * size.experts

    def wanted(i: int, nonzero: int) -> list[int]:
        if density[i] >= 1:
            return [size.numel + 1]
        return [keep_count(density[i], nonzero) if nonzero else 0]

    cuts = yield from largest(magnitudes, wanted, size.numel, relative=True, zeros_count=False)
    return [cut for (cut,) in cuts]


@operator("consensus", survey=relative_survey, paper="https://arxiv.org/abs/2505.10554")
def consensus(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Share,
    density: Density,
    scale: Scale,
    consensus: Rule,
    facts: Sequence[Cut],
    place: Place,
) -> Tensor:
    """Move the base along the mean change of the experts that count at each entry."""
    dense = all(cut == ALL for cut in facts)
    if consensus == "mean" and dense and scale == 1:
        return mean(experts, weight)
    changes = trimmed(experts, base, facts, place)
    if consensus == "mean":
        return add_all(base, changes, weight, normalize=True, scale=scale)
    if consensus == "sign":
        return add_elected(base, changes, weight, normalize=True, scale=scale)
    return _add_active(base, changes, weight, scale)


def _add_active(
    base: Tensor, changes: Iterable[Tensor], weight: Sequence[float], scale: float
) -> Tensor:
    """Add the weighted mean over the experts that changed the entry."""
    total = torch.zeros_like(base, dtype=torch.float64)
    divisor = torch.zeros_like(total)
    for change, w in zip(changes, weight, strict=True):
        total.add_(change.double().mul_(w))
        divisor.add_((change != 0).double().mul_(w))
    total.div_(divisor.masked_fill_(divisor == 0, 1.0))
    return total.mul_(scale).add_(base).to(base.dtype)
