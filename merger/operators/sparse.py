"""Sparse task vectors: a mask per expert, and the L1 norm it takes away given back if asked.

DARE, DELLA and Breadcrumbs differ only in how they choose the mask; then all go on as task
arithmetic or as TIES. The rescale is mergekit's: Σ|δ| / Σ|kept δ| of the tensor, not the 1/p of
DARE's paper.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from merger.operators.survey import Block, Measure
from merger.operators.tiles import Sums

Masks = Callable[[Tensor, Block], Tensor]
_NOTHING = 1e-7  # norms below this are not restored, as there is nothing to restore


class Sparse(NamedTuple):
    """What was surveyed: the cuts, where there are any, and the factor of each expert."""

    cuts: Sequence[Any]
    factors: Sequence[float]


def l1_factors(masks: Masks, experts: int) -> Generator[Measure, None, list[float]]:
    """Survey what each expert's kept changes must be multiplied by to have the L1 norm of all."""

    def streams(block: Block) -> Tensor:
        changes = block.changes
        whole = changes.abs()
        return torch.cat([whole, whole * masks(changes, block)])

    sums = Sums(streams)
    yield sums
    totals = sums.result
    pairs = zip(totals[:experts], totals[experts:], strict=True)
    return [a / b if a >= _NOTHING and b >= _NOTHING else 1.0 for a, b in pairs]


def masked(changes: Tensor, mask: Tensor, factors: Sequence[float]) -> Tensor:
    """Return the kept changes, rescaled: (k, rows, cols); `changes` is written over."""
    changes.mul_(mask)
    for change, factor in zip(changes, factors, strict=True):
        if factor != 1:
            change.mul_(factor)
    return changes
