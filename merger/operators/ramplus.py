"""RAM+ (tensor-local): RAM, with each expert's lone changes raised by how much it shares.

An expert's own entries are multiplied by 1 + r·min(shared / own, alpha), both counted within one
tensor: what it averages away in shared entries it regains in its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merger.operators.base import Knob, operator
from merger.operators.ram import Epsilon, activity, shared_out
from merger.operators.survey import Block, Size, Survey
from merger.operators.tiles import Sums

R = Annotated[float, Knob(0.0, 1.0, default=0.1, help="how much lone changes are raised")]
Alpha = Annotated[float, Knob(0.0, 1.0, default=0.2, least=0.0, help="most that a ratio counts")]


def overlap_survey(size: Size, r: float, alpha: float, epsilon: float) -> Survey:
    """Count each expert's shared and own entries, and return the factor of its own."""

    def counts(block: Block) -> Tensor:
        active, count = activity(block.changes, epsilon)
        return torch.cat([active & (count > 1), active & (count == 1)])

    sums = Sums(counts)
    yield sums
    shared, own = sums.result[: size.experts], sums.result[size.experts :]
    ratios = [s / o if o else 0.0 for s, o in zip(shared, own, strict=True)]
    return [1 + r * min(max(ratio, 0.0), alpha) for ratio in ratios]


@operator("ramplus_tl", survey=overlap_survey, paper="https://arxiv.org/abs/2601.13572")
def ramplus_tl(
    experts: Tensor,
    base: Tensor,
    *,
    r: R,
    alpha: Alpha,
    epsilon: Epsilon,
    facts: Sequence[float],
) -> Tensor:
    """Average shared changes, and raise those that one expert alone made."""
    return shared_out(base, experts - base, epsilon, facts)
