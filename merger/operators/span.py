"""Linear combinations of a block's tensors: the last step of most operators.

Summed in float64 and rounded to the block's dtype once, so that a combination of equal tensors with
coefficients that sum to one gives that tensor back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def weighted_sum(tensors: Iterable[Tensor], weights: Sequence[float]) -> Tensor:
    """Return Σ wᵢ·xᵢ in float64, added in the order given."""
    total: Tensor | None = None
    for tensor, weight in zip(tensors, weights, strict=True):
        term = tensor.to(torch.float64, copy=True).mul_(weight)
        total = term if total is None else total.add_(term)
    if total is None:
        raise ValueError("a weighted sum needs at least one tensor")
    return total


def rounded(total: Tensor, like: Tensor) -> Tensor:
    """Round a float64 result once to the dtype of the block it was made from; new memory."""
    return total.to(like.dtype) if total.dtype != like.dtype else total
