"""Model Stock: from the base towards the experts' mean, as their angles say (Jang et al. 2024).

t = N·c / (1 + (N − 1)·c) with c the mean cosine of all pairs of task vectors; the paper's c is one
angle, the mean of pairs is mergekit's reading for N > 2. `filter_wise` measures each row by itself.
At the pole c = −1/(N − 1), where t is not defined, the base is kept.
"""

from __future__ import annotations

from itertools import combinations
from typing import Annotated

import torch
from torch import Tensor

from merger.operators.base import Knob, Laws, operator
from merger.operators.gram import Gram
from merger.operators.span import rounded, weighted_sum
from merger.operators.survey import Size, Survey
from merger.operators.tiles import row_sums

FilterWise = Annotated[bool, Knob(default=False, help="one ratio per row instead of per tensor")]


def angles_survey(size: Size, filter_wise: bool) -> Survey:
    """Survey the task vectors' inner products, unless each row has its own."""
    if filter_wise:
        return None
    gram = Gram()
    yield gram
    return torch.tensor(gram.result, dtype=torch.float64)


def ratio(gram: Tensor) -> Tensor:
    """Return t from inner products (k, k, ...) along the first two axes."""
    k = gram.shape[0]
    lengths = [gram[i, i].sqrt() for i in range(k)]
    cosines = [
        (gram[i, j] / (lengths[i] * lengths[j]).clamp(min=1e-6)).clamp(-1, 1)
        for i, j in combinations(range(k), 2)
    ]
    mean = torch.stack(cosines).sum(0) / len(cosines)
    divisor = 1 + (k - 1) * mean
    return torch.where(divisor.abs() < 1e-6, torch.zeros_like(mean), k * mean / divisor)


def row_gram(changes: Tensor) -> Tensor:
    """Return the inner products (k, k, rows) of each row of the task vectors (k, rows, cols)."""
    k = changes.shape[0]
    wide = changes.double()
    return torch.stack(
        [torch.stack([row_sums(wide[i] * wide[j]) for j in range(k)]) for i in range(k)]
    )


@operator(
    "model_stock",
    survey=angles_survey,
    experts=(2, None),
    laws=Laws(rowwise=lambda knobs: bool(knobs["filter_wise"])),
    paper="https://arxiv.org/abs/2403.19522",
)
def model_stock(
    experts: Tensor, base: Tensor, *, filter_wise: FilterWise, facts: Tensor | None
) -> Tensor:
    """Move from the base towards the mean of the experts by the ratio their angles give."""
    k = experts.shape[0]
    changes = experts - base
    t = ratio(row_gram(changes))[:, None] if facts is None else ratio(facts).to(base.device)
    mean = weighted_sum(changes, [1 / k] * k)
    return rounded(mean.mul_(t).add_(base), base)
