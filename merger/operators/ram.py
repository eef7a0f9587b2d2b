"""RAM: changes that one expert alone made are kept whole, shared ones are averaged.

Made for experts trained by reinforcement learning, which change few entries, so that averaging
would dilute what only one of them learned (Reinforced Agent Merging). A change counts above
`epsilon`. RAM+ (tensor-local) multiplies an expert's lone changes by
1 + r·min(shared / own, alpha), both counted within one tensor: what it averages away in shared
entries it regains in its own.
"""

from collections.abc import Sequence
from typing import Annotated

from merger.late import Tensor, torch
from merger.operators.base import Knob, Laws, operator
from merger.operators.sums import Sums
from merger.operators.survey import Block, Size, Survey

Epsilon = Annotated[
    float, Knob(1e-7, 1e-3, default=1e-5, least=0.0, log=True, help="smallest change that counts")
]
R = Annotated[float, Knob(0.0, 1.0, default=0.1, help="how much lone changes are raised")]
Alpha = Annotated[float, Knob(0.0, 1.0, default=0.2, least=0.0, help="most that a ratio counts")]
_PAPER = "https://arxiv.org/abs/2601.13572"


def activity(changes: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return which entries each expert changed (k, rows, cols), and how many did (rows, cols)."""
    active = changes.abs() > epsilon
    return active, active.sum(0)


def shared_out(base: Tensor, changes: Tensor, epsilon: float, factors: Sequence[float]) -> Tensor:
    """Average each entry over the experts that changed it; lone changes times their factor."""
    active, count = activity(changes, epsilon)
    own, total = count == 1, torch.zeros_like(base, dtype=torch.float64)
    for change, mask, factor in zip(changes.double(), active, factors, strict=True):
        total.add_(torch.where(own, change * factor, change).mul_(mask))
    return total.div_(count.clamp(min=1)).add_(base).to(base.dtype)


@operator("ram", laws=Laws(elementwise=True), paper=_PAPER)
def ram(experts: Tensor, base: Tensor, *, epsilon: Epsilon) -> Tensor:
    """Average each entry's change over the experts that changed it."""
    return shared_out(base, experts - base, epsilon, [1.0] * len(experts))


def overlap_survey(size: Size, r: float, alpha: float, epsilon: float) -> Survey:
    """Count each expert's shared and own entries, and return the factor of its own."""

    def counts(block: Block) -> Tensor:
        active, count = activity(block.changes, epsilon)
        return torch.cat([active & (count > 1), active & (count == 1)])

    sums = Sums(counts)
    yield sums
    shared, own = sums.result.view(2, -1).tolist()
    ratios = [s / o if o else 0.0 for s, o in zip(shared, own, strict=True)]
    return [1 + r * min(max(ratio, 0.0), alpha) for ratio in ratios]


@operator("ramplus_tl", survey=overlap_survey, paper=_PAPER)
def ramplus_tl(
    experts: Tensor,
    base: Tensor,
    *,
    r: R,
    alpha: Alpha,
    epsilon: Epsilon,
    facts: Sequence[float],
) -> Tensor:
    """Average shared changes, and raise those that one expert alone made."""
    return shared_out(base, experts - base, epsilon, facts)
