"""SCE: select by variance, calculate weights from energy, erase minority signs (FuseChat-3.0).

Select keeps the int(select_topk · non-zero) entries whose task vectors vary most among the experts;
an expert's weight in a tensor is its share of the squared change; entries against the summed sign
are erased. As in mergekit, a tensor whose mean square changes sum to less than 1e-6 has equal
weights.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

from merger.late import Tensor
from merger.operators.base import Knob, operator
from merger.operators.changes import add_elected, added
from merger.operators.magnitudes import ALL, Cut, kept, largest
from merger.operators.sums import Sums
from merger.operators.survey import Block, Place, Size, Survey

TopK = Annotated[
    float, Knob(0.05, 1.0, default=1.0, least=0.0, most=1.0, help="share of entries selected")
]


class Chosen(NamedTuple):
    """What SCE knows of a tensor: the cut of the variance, and each expert's weight."""

    cut: Cut
    weight: Sequence[float]


def variance(changes: Tensor) -> Tensor:
    """Return the population variance of the task vectors (k, rows, cols) -> (rows, cols)."""
    k = changes.shape[0]
    mean = added(changes) / k
    return added((changes - mean).square()) / k


def selected(changes: Tensor, cut: Cut, place: Place) -> Tensor:
    """Return the task vectors with all but the selected entries zeroed."""
    if cut == ALL:
        return changes
    return changes * kept(variance(changes), cut, place.start)


def sce_survey(size: Size, select_topk: float) -> Survey:
    """Find the cut of the variance, then the energy of what it leaves of each expert."""
    cut = ALL
    if select_topk < 1:
        wanted = [(0, lambda nonzero: int(select_topk * nonzero))]
        (cut,) = yield from largest(
            lambda b: variance(b.changes)[None], wanted, size.numel, relative=True
        )

    def energy(block: Block) -> Tensor:
        return selected(block.changes, cut, block.place).double().square()

    sums = Sums(energy)
    yield sums
    means = [s / max(1, size.numel) for s in sums.result.tolist()]
    total = sum(means)
    equal = [1 / size.experts] * size.experts
    return Chosen(cut, equal if total < 1e-6 else [m / total for m in means])


@operator("sce", survey=sce_survey, paper="https://arxiv.org/abs/2408.07990")
def sce(experts: Tensor, base: Tensor, *, select_topk: TopK, facts: Chosen, place: Place) -> Tensor:
    """Average the changes that vary most and share the elected sign, weighted by their energy."""
    changes = selected(experts - base, facts.cut, place)
    return add_elected(base, changes, facts.weight, normalize=True, weighted=False, least=1e-6)
