"""Task vectors added to the base: the arithmetic that a whole family of operators ends in.

Two ways to join k sparse or dense changes: add them all, or let each entry elect a sign by majority
and add those that agree (TIES). Both may divide by the weights that took part. A vote of exactly
zero counts as +, as in mergekit. Votes are added in float64, where products of float32 numbers are
exact, so that the order of the experts cannot turn an election.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from merger.operators.span import rounded, weighted_sum


def add_all(
    base: Tensor, changes: Tensor, weight: Sequence[float], *, normalize: bool, scale: float
) -> Tensor:
    """Return base + scale·Σ wᵢδᵢ, divided by Σ wᵢ if asked (and if that is not zero)."""
    total = sum(weight)
    divisor = total if normalize and abs(total) >= 1e-8 else 1.0
    moved = weighted_sum(changes, weight).mul_(scale / divisor)
    return rounded(moved.add_(base), base)


def elected(changes: Tensor, votes: Sequence[float]) -> Tensor:
    """Return where the majority Σ vᵢδᵢ is positive or zero: (rows, cols) bool."""
    return weighted_sum(changes, [_single(v) for v in votes]) >= 0


def add_elected(
    base: Tensor,
    changes: Tensor,
    weight: Sequence[float],
    *,
    majority: Tensor,
    normalize: bool,
    scale: float,
) -> Tensor:
    """Add the weighted changes whose sign is the elected one.

    An entry that is zero has no sign and takes no part, neither in the sum nor in the divisor.

    Args:
        base: (rows, cols).
        changes: trimmed task vectors (k, rows, cols).
        weight: one per expert; a negative weight turns the sign its expert votes for.
        majority: where the elected sign is +, (rows, cols) bool.
        normalize: divide by the sum of the weights that took part, per entry.
        scale: factor on the joined change.
    """
    total = torch.zeros_like(base, dtype=torch.float64)
    divisor = torch.zeros_like(total)
    for change, w in zip(changes, weight, strict=True):
        weighted = change * w
        agrees = torch.where(majority, weighted > 0, weighted < 0)
        total.add_(weighted.mul_(agrees))
        divisor.add_(agrees.double().mul_(w))
    if normalize:
        total.div_(divisor.masked_fill_(divisor == 0, 1.0))
    return rounded(total.mul_(scale).add_(base), base)


def _single(value: float) -> float:
    """Round a weight to float32, so that its products with float32 entries are exact."""
    return float(torch.tensor(value, dtype=torch.float32))
