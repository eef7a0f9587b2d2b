"""Arcee Fusion: take from one expert only what matters, the base elsewhere.

Importance of an entry = |change| × KL(softmax of the expert's row ‖ softmax of the base's row).
What reaches median + 1.5 · interquartile range is taken. Departures from mergekit: quartiles are
exact, where it samples a million entries twice without a seed; and the dtype is the one asked for.
"""

from merger.late import Tensor, torch
from merger.operators.base import Laws, operator
from merger.operators.magnitudes import largest
from merger.operators.sums import row_sums
from merger.operators.survey import Block, Size, Survey

_EPS = 1e-8


def importance(expert: Tensor, base: Tensor) -> Tensor:
    """Return the importance (rows, cols) of each entry of an expert's block."""
    p = torch.softmax(expert, -1) + _EPS
    q = torch.softmax(base, -1) + _EPS
    divergence = row_sums(p * torch.log(p / q)).clamp(min=0).to(expert.dtype)
    return (expert - base).abs() * divergence[:, None]


def threshold_survey(size: Size) -> Survey:
    """Find median + 1.5 · IQR of the importance; a quantile is the entry at or below its place."""
    ks = [size.numel - int(q * (size.numel - 1)) for q in (0.25, 0.5, 0.75)]
    wanted = [(0, lambda _, k=k: k) for k in ks]

    def scores(block: Block) -> Tensor:
        ground = block.base if block.base is not None else block.experts[0]
        return importance(block.experts[0], ground)[None]

    cuts = yield from largest(scores, wanted, size.numel)
    low, median, high = (cut.threshold for cut in cuts)
    return median + 1.5 * (high - low)


@operator(
    "arcee_fusion",
    survey=threshold_survey,
    experts=(1, 1),
    laws=Laws(rowwise=lambda knobs: True),
    paper="https://arcee.ai",
)
def arcee_fusion(experts: Tensor, base: Tensor, *, facts: float) -> Tensor:
    """Replace the entries of the base whose change matters most."""
    taken = importance(experts[0], base) >= facts
    return torch.where(taken, experts[0], base)
