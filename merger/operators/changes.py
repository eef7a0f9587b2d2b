"""Task vectors added to the base: the arithmetic that a whole family of operators ends in.

Two ways to join k sparse or dense changes: add them all, or let each entry elect a sign by majority
and add those that agree (TIES). Both may divide by the weights that took part. A vote of exactly
zero counts as +, as in mergekit. Votes are added in float64, where products of float32 numbers are
exact, so that the order of the experts cannot turn an election.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from merger.operators.span import rounded, weighted_sum


def add_all(
    base: Tensor,
    changes: Iterable[Tensor],
    weight: Sequence[float],
    *,
    normalize: bool,
    scale: float,
) -> Tensor:
    """Return base + scale·Σ wᵢδᵢ, divided by Σ wᵢ if asked (and if that is not zero)."""
    total = sum(weight)
    divisor = total if normalize and abs(total) >= 1e-8 else 1.0
    moved = weighted_sum(changes, weight).mul_(scale / divisor)
    return rounded(moved.add_(base), base)


def elected(changes: Iterable[Tensor], votes: Sequence[float]) -> Tensor:
    """Return the sign of the majority Σ vᵢδᵢ, 1 where it is zero: (rows, cols) of ±1."""
    poll = weighted_sum(changes, [_single(v) for v in votes])
    return poll.sign_().add_(0.5).sign_().float()


def add_elected(
    base: Tensor,
    changes: Iterable[Tensor],
    weight: Sequence[float],
    sign: Tensor,
    *,
    normalize: bool,
    scale: float,
) -> Tensor:
    """Add the weighted changes whose sign is the elected one.

    An entry that is zero has no sign and takes no part, neither in the sum nor in the divisor.

    Args:
        base: (rows, cols).
        changes: trimmed task vectors, k of (rows, cols).
        weight: one per expert; a negative weight turns the sign its expert votes for.
        sign: the elected sign of each entry, ±1.
        normalize: divide by the sum of the weights that took part, per entry.
        scale: factor on the joined change.
    """
    # With s the elected sign, s·Σ max(s·wδ, 0) is the sum of the changes that agree. Arithmetic
    # takes a quarter of the time of comparisons and masks.
    total, divisor = torch.zeros_like(base), torch.zeros_like(base)
    for change, w in zip(changes, weight, strict=True):
        agreeing = (change * w).mul_(sign).clamp_(min=0)
        total.add_(agreeing)
        if normalize:
            divisor.add_(agreeing.sign_().mul_(w))
    if normalize:
        total.div_(_never_zero(divisor, weight))
    return total.mul_(sign).mul_(scale).add_(base)


def _never_zero(divisor: Tensor, weight: Sequence[float]) -> Tensor:
    """Make 0/0 into 0: where no expert took part the sum is zero, whatever it is divided by."""
    if min(weight) >= 0:
        return divisor.clamp_(min=torch.finfo(divisor.dtype).tiny)
    return divisor.masked_fill_(divisor == 0, 1.0)


def _single(value: float) -> float:
    """Round a weight to float32, so that its products with float32 entries are exact."""
    return float(torch.tensor(value, dtype=torch.float32))
