"""TIES: trim small changes, elect a sign, average the changes that agree (Yadav et al. 2023).

Trim keeps exactly max(1, int(density·n)) entries of each tensor; entries equal at the threshold are
kept by lowest flat index. As in mergekit the votes of the election are weighted and the mean is
normalised over the experts that agree; the paper's Algorithm 1 votes without weights, which is
`elect: unweighted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from torch import Tensor

from merger.operators.base import Knob, operator
from merger.operators.changes import add_elected
from merger.operators.knobs import Density, Lambda, Normalize, Weight
from merger.operators.magnitudes import ALL, Cut, largest, trim
from merger.operators.survey import Block, Place, Size, Survey

Elect = Annotated[
    Literal["weighted", "unweighted"], Knob(default="weighted", help="what an expert's vote counts")
]


def magnitudes(block: Block) -> Tensor:
    """Return |task vectors| (k, rows, cols), new memory; a base is given."""
    return block.changes.abs_()


def keep_count(density: float, numel: int) -> int:
    """Say how many entries a density keeps: never none of a tensor unless the density is zero.

    At density 1 the count is beyond the tensor, so that nobody looks for a threshold.
    """
    if density >= 1:
        return numel + 1
    return max(1, int(density * numel)) if density > 0 else 0


def trim_survey(size: Size, density: Sequence[float]) -> Survey:
    """Find each expert's cut; nothing is read where every density is 1."""
    if min(density) >= 1:
        return [ALL] * size.experts
    counts = [keep_count(d, size.numel) for d in density]
    cuts = yield from largest(magnitudes, lambda i, _: [counts[i]], size.numel, zeros_count=False)
    return [cut for (cut,) in cuts]


def trimmed(experts: Tensor, base: Tensor, cuts: Sequence[Cut], place: Place) -> Tensor:
    """Return the task vectors (k, rows, cols) with all but their largest entries zeroed."""
    changes = experts - base
    for change, cut in zip(changes, cuts, strict=True):
        if cut != ALL:
            trim(change, cut, place.start)
    return changes


@operator("ties", survey=trim_survey, paper="https://arxiv.org/abs/2306.01708")
def ties(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    density: Density,
    normalize: Normalize,
    lambda_: Lambda,
    elect: Elect,
    facts: Sequence[Cut],
    place: Place,
) -> Tensor:
    """Average the trimmed changes that share the elected sign."""
    changes = trimmed(experts, base, facts, place)
    how: dict[str, Any] = {
        "normalize": normalize,
        "scale": lambda_,
        "weighted": elect == "weighted",
    }
    return add_elected(base, changes, weight, **how)
