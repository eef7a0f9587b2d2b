"""Sums over the entries of tensors, from which every figure of the geometry follows.

Norms, counts of changed entries, inner products, entries two experts moved against each other, and
what is left once both models are rounded to bfloat16. Sums add up, so a layer, a module and the
whole model are the same figures at another scale. Products are summed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
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
        squares, changed = np.diag(self.dots), np.diag(self.both)
        # x = base + tau, so <x, base> and |x| follow from the sums already there.
        inner, whole = self.base + self.along, self.base + 2 * self.along + squares
        length, ground = np.sqrt(squares), np.sqrt(self.base)
        pairs = {
            f"{i},{j}": {
                "cosine": _ratio(self.dots[i, j], np.sqrt(squares[i] * squares[j])),
                "conflict": _ratio(self.against[i, j], self.both[i, j]),
                "overlap": _ratio(self.both[i, j], changed[i] + changed[j] - self.both[i, j]),
            }
            for i, j in combinations(range(len(squares)), 2)
        }
        return {
            "numel": self.numel,
            "base_norm": _ratio(ground, 1),
            "norm": _ratios(length, 1),
            "relative": _ratios(length, ground),
            "changed": _ratios(changed, self.numel),
            "bf16_survive": _ratios(self.survived, changed),
            "bf16_error": _ratios(np.sqrt(self.lost), length),
            "base_cosine": _ratios(inner, np.sqrt(np.maximum(0, whole * self.base))),
            "pairs": pairs,
        }


def flat_sums(base: Floats, experts: Sequence[Floats]) -> Sums:
    """Sum up the entries of a base and of experts, each (n,), block by block."""
    parts = (slice(at, at + BLOCK) for at in range(0, len(base), BLOCK))
    sums = (block_sums(base[part], np.stack([e[part] for e in experts])) for part in parts)
    return sum(sums, Sums.zero(len(experts)))


@np.errstate(all="ignore")  # NaN inside shows as None
def block_sums(base: Floats, experts: Floats) -> Sums:
    """Sum up one block: base (n,) and experts (k, n), float32, n at most 2**20."""
    tau = experts - base
    wide, ground = tau.astype(np.float64), base.astype(np.float64)
    moved = tau != 0
    both = _products(moved.astype(np.float32)).astype(np.float64)
    agree = _products(np.sign(tau))  # agreeing entries less opposed ones
    cast = _bfloat16(experts) - _bfloat16(base)
    lost = (cast - tau).astype(np.float64)
    return Sums(
        base.size,
        float(_products(ground[None])[0, 0]),
        np.einsum("in,n->i", wide, ground),
        _products(wide),
        both,
        (both - agree) / 2,
        np.count_nonzero((cast != 0) & moved, axis=1).astype(np.float64),
        np.einsum("in,in->i", lost, lost),
    )


def _products(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the inner products of rows; by one thread, whose sums no number of cores changes."""
    found: NDArray[Any] = np.einsum("in,jn->ij", rows, rows)
    return found


def _bfloat16(entries: Floats) -> Floats:
    """Round to bfloat16 and back: to nearest, ties to even."""
    bits = entries.view(np.uint32)
    odd = (bits >> 16) & 1
    return ((bits + odd + 0x7FFF) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _ratio(a: float, b: float) -> float | None:
    return float(a / b) if b > 0 and np.isfinite([a, b]).all() else None


def _ratios(above: Array, below: Array | float) -> list[float | None]:
    return [_ratio(a, b) for a, b in zip(*np.broadcast_arrays(above, below), strict=True)]
