"""TIES: trim small changes, elect a sign, average the changes that agree (Yadav et al. 2023).

Trim keeps exactly max(1, int(density·n)) entries of each tensor; entries equal at the threshold are
kept by lowest flat index. As in mergekit the votes of the election are weighted and the mean is
normalised over the experts that agree; the paper's Algorithm 1 votes without weights, which is
`elect: unweighted`.

Consensus is the update rule that a search explores: θ = base + scale · Σ_A pᵢτᵢ / Σ_A pᵢ, with A
the experts that count at an entry: all of them (`mean`), those that agree with the elected sign
(`sign`), or those that changed the entry at all (`ram`, after RAM's rule that a lone change is kept
whole). Its density is relative to the *non-zero* changes of each expert, because experts
aligned by RL change 5 to 30 % of their entries and every absolute density above that would mean
the same. With `mean`, density 1 and scale 1 it is `linear`, bit for bit.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from merger import native
from merger.late import Tensor, torch
from merger.operators.base import Density, Knob, Lambda, Laws, Normalize, Weight, operator
from merger.operators.changes import add_all, add_elected, shares, weighted_sum, wide
from merger.operators.magnitudes import ALL, Cut, kept, largest
from merger.operators.survey import Block, Place, Size, Survey

Elect = Annotated[
    Literal["weighted", "unweighted"], Knob(default="weighted", help="what an expert's vote counts")
]
Share = Annotated[Sequence[float], Knob(0.0, 1.0, least=0.0, help="share of each expert")]
Scale = Annotated[float, Knob(0.3, 1.6, default=1.0, help="length of the joined change")]
Rule = Annotated[
    Literal["mean", "sign", "ram"], Knob(default="mean", help="which experts count at an entry")
]


def magnitudes(block: Block) -> Tensor:
    """Return |task vectors| (k, rows, cols), new memory; a base is given."""
    if block.base is not None and native.suits([*block.experts, block.base]):
        return native.changes(block.experts, block.base)
    return block._replace(experts=wide(block.experts)).changes.abs_()


def keep_count(density: float, entries: int) -> int:
    """Say how many entries a density keeps: never none of some unless the density is zero."""
    return max(1, int(density * entries)) if density > 0 and entries else 0


def trim_survey(size: Size, density: Sequence[float]) -> Survey:
    """Find each expert's cut; nothing is read where every density is 1."""
    return (yield from _cuts(size, density, relative=False))


def relative_survey(size: Size, density: Sequence[float]) -> Survey:
    """Find each expert's cut among its non-zero changes."""
    return (yield from _cuts(size, density, relative=True))


def _cuts(size: Size, density: Sequence[float], *, relative: bool) -> Survey:
    if min(density) >= 1:
        return [ALL] * size.experts
    wanted = [(i, partial(keep_count, d)) for i, d in enumerate(density)]
    name = "changes" if relative else ""
    how: dict[str, Any] = {"relative": relative, "zeros_count": False, "name": name}
    return (yield from largest(magnitudes, wanted, size.numel, **how))


def trimmed(experts: Tensor, base: Tensor, cuts: Sequence[Cut], start: int) -> Tensor:
    """Return the task vectors (k, rows, cols) with all but their k largest entries zeroed."""
    end, kind = start + base.numel(), torch.promote_types(base.dtype, torch.float32)
    changes = _shrunk(experts, base, [_bound(cut, start, end, kind) for cut in cuts])
    for change, cut in zip(changes, cuts, strict=True):
        if start <= cut.last < end:
            change.mul_(kept(change.abs(), cut, start))
    return changes


def _bound(cut: Cut, start: int, end: int, kind: "torch.dtype") -> float:
    """Return up to which magnitude all of a block is zeroed; -1: nothing, or its end by a mask.

    To keep those at the threshold the bound is just below it.
    """
    if cut == ALL or start <= cut.last < end:
        return -1.0
    at = torch.tensor(max(cut.threshold, 0.0), dtype=kind)
    return float(at if cut.last < start else torch.nextafter(at, torch.zeros_like(at)))


def _shrunk(experts: Tensor, base: Tensor, bounds: Sequence[float]) -> Tensor:
    """Return the task vectors with magnitudes up to a bound zeroed."""
    if native.suits([*experts, base]):
        return native.changes(experts, base, bounds)
    changes = wide(experts) - base
    for change, bound in zip(changes, bounds, strict=True):
        if bound >= 0:  # a single pass, where a mask takes three
            torch.hardshrink(change, bound, out=change)
    return changes


_STORED = Laws(stored=True)


@operator("ties", survey=trim_survey, laws=_STORED, paper="https://arxiv.org/abs/2306.01708")
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
    changes = trimmed(experts, base, facts, place.start)
    how: dict[str, Any] = {"normalize": normalize, "scale": lambda_}
    return add_elected(wide(base), changes, weight, weighted=elect == "weighted", **how)


@operator(
    "consensus", survey=relative_survey, laws=_STORED, paper="https://arxiv.org/abs/2505.10554"
)
def consensus(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Share,
    density: Density,
    scale: Scale,
    consensus: Rule,
    facts: Sequence[Cut],
    place: Place,
) -> Tensor:
    """Move the base along the mean change of the experts that count at each entry."""
    if consensus == "mean" and scale == 1 and all(cut == ALL for cut in facts):
        return weighted_sum(experts, shares(weight))
    changes, base = trimmed(experts, base, facts, place.start), wide(base)
    if consensus == "ram":
        return _add_active(base, changes, weight, scale)
    join = add_all if consensus == "mean" else add_elected
    return join(base, changes, weight, normalize=True, scale=scale)


def _add_active(base: Tensor, changes: Tensor, weight: Sequence[float], scale: float) -> Tensor:
    """Add the weighted mean over the experts that changed the entry."""
    total = torch.zeros_like(base, dtype=torch.float64)
    divisor = torch.zeros_like(total)
    for change, w in zip(changes, weight, strict=True):
        total.add_(change.double().mul_(w))
        divisor.add_((change != 0).double().mul_(w))
    total.div_(divisor.masked_fill_(divisor == 0, 1.0))
    return total.mul_(scale).add_(base).to(base.dtype)
