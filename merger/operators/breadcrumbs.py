"""Model Breadcrumbs: leave out the largest changes and the smallest (Davari, Belilovsky 2023).

Of n entries the int(gamma·n) largest are dropped, then the smallest until int(density·n) are left;
at density 1 nothing is dropped. Departure from mergekit: where gamma·n is below one no entry counts
as an outlier, while there the empty slice it stands for zeroed the whole task vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merger.operators.base import Knob
from merger.operators.magnitudes import Cut, kept, largest
from merger.operators.sparse import sparse
from merger.operators.survey import Place, Size, Survey
from merger.operators.ties import keep_count, magnitudes

Gamma = Annotated[
    Sequence[float],
    Knob(0.0, 0.1, default=0.01, least=0.0, most=1.0, help="share of largest entries dropped"),
]
_PAPER = "https://arxiv.org/abs/2312.06795"


def ranks(density: float, gamma: float, numel: int) -> tuple[int, int]:
    """Return how many largest entries to look at, and how many of those to drop."""
    if density >= 1:
        return numel + 1, 0
    target = keep_count(density, numel)
    outliers = min(int(gamma * numel), numel - target)
    return target + outliers, outliers


def both_cuts(size: Size, density: Sequence[float], gamma: Sequence[float]) -> Survey:
    """Find two cuts of each expert: what lies inside the first and outside the second is kept."""
    wanted = [ranks(d, g, size.numel) for d, g in zip(density, gamma, strict=True)]
    return (yield from largest(magnitudes, lambda i, _: wanted[i], size.numel, zeros_count=False))


def between(
    changes: Tensor,
    cuts: Sequence[tuple[Cut, Cut]],
    place: Place,
    *,
    density: Sequence[float],
    gamma: Gamma,
) -> Tensor:
    """Return which entries lie between the cuts of their expert, (k, rows, cols) bool."""
    masks = []
    for change, (inside, outliers) in zip(changes.abs(), cuts, strict=True):
        masks.append(kept(change, inside, place.start) & ~kept(change, outliers, place.start))
    return torch.stack(masks)


_NAMES = {  # -> whether it elects, and what it does
    "breadcrumbs": (False, "Add the changes of middling size."),
    "breadcrumbs_ties": (True, "Add those changes of middling size that share the elected sign."),
}
for _name, (_elect, _doc) in _NAMES.items():
    sparse(
        _name,
        between,
        _doc,
        elect=_elect,
        cuts=both_cuts,
        defaults={"rescale": False},
        paper=_PAPER,
    )
