"""Task arithmetic: the base plus the weighted sum of the task vectors (Ilharco et al. 2022)."""

from __future__ import annotations

from torch import Tensor

from merger.operators.base import Laws, operator
from merger.operators.changes import add_all
from merger.operators.knobs import Lambda, Unnormalized, Weight


@operator("task_arithmetic", laws=Laws(elementwise=True), paper="https://arxiv.org/abs/2212.04089")
def task_arithmetic(
    experts: Tensor, base: Tensor, *, weight: Weight, normalize: Unnormalized, lambda_: Lambda
) -> Tensor:
    """Add the weighted changes to the base."""
    return add_all(base, experts - base, weight, normalize=normalize, scale=lambda_)
