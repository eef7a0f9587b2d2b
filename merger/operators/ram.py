"""RAM: changes that one expert alone made are kept whole, shared ones are averaged.

Made for experts trained by reinforcement learning, which change few entries, so that averaging
would dilute what only one of them learned (Reinforced Agent Merging). A change counts above
`epsilon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merger.operators.base import Knob, Laws, operator
from merger.operators.span import rounded

Epsilon = Annotated[
    float, Knob(1e-7, 1e-3, default=1e-5, least=0.0, log=True, help="smallest change that counts")
]


def activity(changes: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return which entries each expert changed (k, rows, cols) and by how many (rows, cols)."""
    active = changes.abs() > epsilon
    return active, active.sum(0)


def shared_out(base: Tensor, changes: Tensor, epsilon: float, factors: Sequence[float]) -> Tensor:
    """Average each entry over the experts that changed it; lone changes times their factor."""
    active, count = activity(changes, epsilon)
    own, total = count == 1, torch.zeros_like(base, dtype=torch.float64)
    for change, mask, factor in zip(changes.double(), active, factors, strict=True):
        total.add_(torch.where(own, change * factor, change).mul_(mask))
    return rounded(total.div_(count.clamp(min=1)).add_(base), base)


@operator("ram", laws=Laws(elementwise=True), paper="https://arxiv.org/abs/2601.13572")
def ram(experts: Tensor, base: Tensor, *, epsilon: Epsilon) -> Tensor:
    """Average each entry's change over the experts that changed it."""
    return shared_out(base, experts - base, epsilon, [1.0] * len(experts))
