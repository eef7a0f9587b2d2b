"""Straight lines: means of the experts, and task vectors added to the base weight by weight.

Linear (model soups, Wortsman et al. 2022), task arithmetic (Ilharco et al. 2022), passthrough (what
layer stacking is made of), NearSwap (Alchemonaut), norm-weighted averaging. As in mergekit the
weights of `linear` are divided by their sum unless `normalize` is false, and a base has no part in
it. Summed in float64, so merging a model with itself returns it.
"""

from collections.abc import Sequence
from typing import Annotated

from merger.late import Tensor
from merger.operators.base import Knob, Lambda, Laws, Normalize, Weight, line, operator
from merger.operators.changes import add_all, factors, shares
from merger.operators.sums import Matrix, gram_survey, norms

Unnormalized = Annotated[bool, Knob(default=False, help="divide by the sum of the weights")]
_EACH = Laws(elementwise=True)


@line("linear", base="unused", paper="https://arxiv.org/abs/2203.05482")
def linear(*, weight: Weight, normalize: Normalize) -> Sequence[float]:
    """Average the experts by weight."""
    return shares(weight) if normalize else weight


@line("task_arithmetic", paper="https://arxiv.org/abs/2212.04089")
def task_arithmetic(*, weight: Weight, normalize: Unnormalized, lambda_: Lambda) -> Sequence[float]:
    """Add the weighted changes to the base."""
    parts = factors(weight, normalize=normalize, scale=lambda_)
    return [1 - sum(parts), *parts]


@operator("norm_weighted", survey=gram_survey, paper="https://arxiv.org/abs/2212.04089")
def norm_weighted(
    experts: Tensor,
    base: Tensor,
    *,
    weight: Weight,
    normalize: Normalize,
    lambda_: Lambda,
    facts: Matrix,
) -> Tensor:
    """Average the changes after scaling each to the experts' mean norm."""
    # So that an expert trained longer does not outvote the others by the length of its change.
    lengths = norms(facts)
    changes = experts - base
    for change, length in zip(changes, lengths, strict=True):
        change.mul_(sum(lengths) / len(lengths) / length if length else 0.0)
    return add_all(base, changes, weight, normalize=normalize, scale=lambda_)


@operator(
    "passthrough",
    base="unused",
    experts=(1, 1),
    laws=_EACH,
    paper="https://arxiv.org/abs/2312.15166",
)
def passthrough(
    experts: Tensor,
    base: Tensor | None,
    *,
    scale: Annotated[Sequence[float], Knob(0.0, 1.5, default=1.0, help="factor on every entry")],
) -> Tensor:
    """Pass one expert through, scaled."""
    return experts[0] * scale[0]


@operator(
    "nearswap",
    experts=(1, 1),
    laws=_EACH,
    paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
)
def nearswap(
    experts: Tensor,
    base: Tensor,
    *,
    t: Annotated[float, Knob(1e-5, 1e-2, log=True, least=0.0, help="distance that counts as near")],
) -> Tensor:
    """Move each entry of the base towards the expert by at most t."""
    # min(1, t / |change|) of the change; a distance below 1e-6 counts as 1e-6.
    change = experts[0].double() - base
    share = (t / change.abs().clamp(min=1e-6)).clamp(max=1.0)
    return share.mul_(change).add_(base).to(base.dtype)
