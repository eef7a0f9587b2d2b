"""Sums over the entries of tensors, from which every figure of the geometry follows.

Norms, counts of changed entries, inner products, entries two experts moved against each other, and
what is left once both models are rounded to bfloat16. Sums add up, so a layer, a module and the
whole model are the same figures at another scale. Products are summed in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
# Counts are sums of ones in float32, exact up to 2**24: a block must stay below.
BLOCK = 1 << 20


@dataclass
class Sums:
    """What is summed over the entries of some tensors, for k experts; two of them can be added."""

    numel: int
    base: float  # squared norm of the base
    along: Array  # (k,) inner product of base and task vector
    dots: Array  # (k, k) inner products of task vectors
    both: Array  # (k, k) entries that both changed; the diagonal counts those one changed
    against: Array  # (k, k) entries that both changed, with opposite signs
    survived: Array  # (k,) changed entries still changed once both models are bfloat16
    lost: Array  # (k,) squared norm of the part of the task vector that the cast takes or adds

    @classmethod
    def zero(cls, k: int) -> Sums:
        """Return the sums of nothing."""
        one, two = np.zeros(k), np.zeros((k, k))
        return cls(0, 0.0, one, two, two, two, one, one)

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, f) + getattr(other, f) for f in self.__dataclass_fields__))

    def figures(self) -> dict[str, Any]:
        """Return the ratios people read; None where one has no meaning (0 / 0, or a NaN inside)."""
        k, squares, changed = len(self.along), np.diag(self.dots), np.diag(self.both)
        pairs = {
            f"{i},{j}": {
                "cosine": _ratio(self.dots[i, j], np.sqrt(squares[i] * squares[j])),
                "conflict": _ratio(self.against[i, j], self.both[i, j]),
                "overlap": _ratio(self.both[i, j], changed[i] + changed[j] - self.both[i, j]),
            }
            for i, j in combinations(range(k), 2)
        }
        return {
            "numel": self.numel,
            "base_norm": _ratio(np.sqrt(self.base), 1),
            "norm": [_ratio(x, 1) for x in np.sqrt(squares)],
            "relative": [_ratio(np.sqrt(x), np.sqrt(self.base)) for x in squares],
            "changed": [_ratio(x, self.numel) for x in changed],
            "bf16_survive": [_ratio(s, c) for s, c in zip(self.survived, changed, strict=True)],
            "bf16_error": [
                _ratio(np.sqrt(e), np.sqrt(x)) for e, x in zip(self.lost, squares, strict=True)
            ],
            "base_cosine": [_base_cosine(self, i) for i in range(k)],
            "pairs": pairs,
        }


def block_sums(base: Tensor, experts: Tensor) -> Sums:
    """Sum up one block: base (n,) and experts (k, n), float32, n at most 2**20."""
    tau = experts - base
    wide = tau.double()
    ground = base.double()
    moved = tau != 0
    mask = moved.float()
    sign = tau.sign()
    both = (mask @ mask.T).double().numpy()
    agree = (sign @ sign.T).double().numpy()  # agreeing entries less opposed ones
    cast = experts.bfloat16().float() - base.bfloat16().float()
    return Sums(
        base.numel(),
        float(ground @ ground),
        (wide @ ground).numpy(),
        (wide @ wide.T).numpy(),
        both,
        (both - agree) / 2,
        (cast != 0).logical_and_(moved).sum(1).double().numpy(),
        (cast - tau).square_().sum(1).double().numpy(),
    )


def _ratio(a: float, b: float) -> float | None:
    return float(a / b) if b > 0 and np.isfinite([a, b]).all() else None


def _base_cosine(sums: Sums, i: int) -> float | None:
    # x = base + tau, so <x, base> and |x| follow from the sums already there.
    inner = sums.base + sums.along[i]
    square = sums.base + 2 * sums.along[i] + sums.dots[i, i]
    return _ratio(inner, float(np.sqrt(max(0.0, square * sums.base))))
