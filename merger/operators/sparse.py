"""Operators that mask their task vectors, then add them up or elect: DARE, DELLA, Breadcrumbs.

DARE (Yu et al. 2023) keeps each entry with probability `density`. DELLA (Deep et al. 2024) ranks
each row of the last axis by magnitude, and the probability rises evenly from density − epsilon
(smallest) to density + epsilon (largest). Breadcrumbs (Davari, Belilovsky 2023) drops the
int(gamma·n) largest of n entries, then the smallest until int(density·n) are left. At density 1
nothing is dropped.

The rescale is mergekit's: Σ|δ| / Σ|kept δ| of the tensor, which DARE's 1/p is in expectation.
Departures from mergekit: DELLA's rows are those of the last axis in tensors of any rank, its ranks
are exact in every dtype, and a row of one entry is kept with probability `density` where 0/0 stood;
Breadcrumbs has no outlier where gamma·n is below one, while there the empty slice it stands for
zeroed the whole task vector.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

from merger.errors import SpecError
from merger.late import Tensor, torch
from merger.operators.base import Density, Knob, Lambda, Laws, Weight, operator
from merger.operators.changes import add_all, add_elected
from merger.operators.draws import stream_key, uniform
from merger.operators.linear import Unnormalized
from merger.operators.magnitudes import Cut, kept, largest
from merger.operators.sums import Sums
from merger.operators.survey import Block, Place, Size, Survey
from merger.operators.ties import keep_count, magnitudes

Rescale = Annotated[bool, Knob(default=True, help="restore the L1 norm the dropping took away")]
Seed = Annotated[int, Knob(0, 2**31 - 1, default=0, least=0, help="seed of the random masks")]
Epsilon = Annotated[
    Sequence[float],
    Knob(0.01, 0.3, default=0.15, least=0.0, most=0.5, help="spread of the probabilities"),
]
Gamma = Annotated[
    Sequence[float],
    Knob(0.0, 0.1, default=0.01, least=0.0, most=1.0, help="share of largest entries dropped"),
]
_NOTHING = 1e-7  # norms below this are not restored, as there is nothing to restore
# Masks: (changes, cuts, place, *, density, own knobs) -> which of (k, rows, cols) are kept, bool.


def bernoulli(
    changes: Tensor, cuts: Any, place: Place, *, density: Sequence[Any], seed: Seed
) -> Tensor:
    """Keep entries at random; density is one number per expert, or probabilities (rows, cols)."""
    masks = [
        uniform(tuple(change.shape), stream_key(seed, key), place.start, change.device) < p
        for change, p, key in zip(changes, density, place.keys, strict=True)
    ]
    return torch.stack(masks)


def by_rank(
    changes: Tensor,
    cuts: Any,
    place: Place,
    *,
    density: Sequence[float],
    epsilon: Epsilon,
    seed: Seed,
) -> Tensor:
    """Keep entries at random, large ones rather than small ones."""
    shares = [_chances(*knobs) for knobs in zip(changes, density, epsilon, strict=True)]
    return bernoulli(changes, cuts, place, density=shares, seed=seed)


def _chances(change: Tensor, density: float, epsilon: float) -> Tensor:
    """Return each entry's probability to be kept, by its rank in its row: (rows, cols) float64."""
    cols = change.shape[-1]
    if density < 1 and (density - epsilon <= 0 or density + epsilon >= 1):
        law = f"density {density:g} with epsilon {epsilon:g} leaves the probabilities' range from"
        remedy = f"Give an epsilon below {min(density, 1 - density):g}, or density 1."
        raise SpecError(f"{law} 0 to 1", remedy)
    if density >= 1 or cols == 1:
        return torch.full_like(change, min(density, 1.0), dtype=torch.float64)
    steps = torch.arange(cols, dtype=torch.float64, device=change.device) / (cols - 1)
    spread = ((density - epsilon) + steps * (2 * epsilon)).expand(change.shape)
    return torch.empty_like(spread).scatter_(-1, _ascending(change.abs()), spread)


def _ascending(magnitudes: Tensor) -> Tensor:
    """Return the order of each row, equals by index (rows, cols) int64."""
    if magnitudes.is_cuda or magnitudes.dtype != torch.float32:
        return magnitudes.argsort(dim=-1, stable=True)
    # Bit pattern and index in one whole number: a plain sort, twenty times as fast as a stable one.
    keys = magnitudes.view(torch.int32).to(torch.int64) << 32
    keys.bitwise_or_(torch.arange(magnitudes.shape[-1])).numpy().sort(axis=-1)
    return keys.bitwise_and_((1 << 32) - 1)


def both_cuts(size: Size, density: Sequence[float], gamma: Sequence[float]) -> Survey:
    """Find two cuts of each expert: what lies inside the first and outside the second is kept."""
    wanted = []
    for i, (d, g) in enumerate(zip(density, gamma, strict=True)):
        target = keep_count(d, size.numel)
        outliers = min(int(g * size.numel), size.numel - target)
        wanted += [(i, lambda _, k=k: k) for k in (target + outliers, outliers)]
    cuts = yield from largest(magnitudes, wanted, size.numel, zeros_count=False)
    return list(zip(cuts[::2], cuts[1::2], strict=True))


def between(
    changes: Tensor,
    cuts: Sequence[tuple[Cut, Cut]],
    place: Place,
    *,
    density: Sequence[float],
    gamma: Gamma,
) -> Tensor:
    """Keep the entries that lie between the cuts of their expert."""
    masks = [
        kept(change, inside, place.start) & ~kept(change, outliers, place.start)
        for change, (inside, outliers) in zip(changes.abs(), cuts, strict=True)
    ]
    return torch.stack(masks)


class Sparse(NamedTuple):
    """What was surveyed: the cuts, where the mask needs any, and the factor of each expert."""

    cuts: Any
    factors: Sequence[float]


def sparse(
    name: str,
    mask: Callable[..., Tensor],
    doc: str,
    *,
    elect: bool = False,
    cuts: Callable[..., Survey] | None = None,
    **told: Any,
) -> None:
    """Register an operator that masks, rescales if asked, and adds up or elects.

    `cuts` surveys what the mask has to know of the whole tensor, from size, density and its own
    knobs. Where every density is 1 nothing is masked. The rest is told to `operator`.
    """

    def survey(size: Size, density: Sequence[float], rescale: bool, **own: Any) -> Survey:
        found, factors = None, [1.0] * size.experts
        if min(density) < 1 and cuts:
            found = yield from cuts(size, density, **own)
        if min(density) < 1 and rescale:
            keep = partial(mask, density=density, **own)

            def streams(block: Block) -> Tensor:
                whole = block.changes.abs()
                return torch.cat([whole, whole * keep(block.changes, found, block.place)])

            sums = Sums(streams)
            yield sums
            all_, left = sums.result.view(2, -1).tolist()
            pairs = zip(all_, left, strict=True)
            factors = [a / b if a >= _NOTHING and b >= _NOTHING else 1.0 for a, b in pairs]
        return Sparse(found, factors)

    def combine(
        experts: Tensor,
        base: Tensor,
        *,
        weight: Weight,
        density: Density,
        normalize: Unnormalized,
        lambda_: Lambda,
        rescale: Rescale,
        facts: Sparse,
        place: Place,
        **own: Any,
    ) -> Tensor:
        changes = experts - base
        if min(density) < 1:
            changes.mul_(mask(changes, facts.cuts, place, density=density, **own))
            for change, factor in zip(changes, facts.factors, strict=True):
                change.mul_(factor)
        join = add_elected if elect else add_all
        return join(base, changes, weight, normalize=normalize, scale=lambda_)

    combine.__doc__ = doc
    operator(name, survey=survey, also=mask, **told)(combine)


_DARE: dict[str, Any] = {"laws": Laws(random=True), "paper": "https://arxiv.org/abs/2311.03099"}
_DELLA: dict[str, Any] = {
    "laws": Laws(random=True, rowwise=lambda knobs: min(knobs["density"]) < 1),
    "paper": "https://arxiv.org/abs/2406.11617",
}
_CRUMBS: dict[str, Any] = {
    "cuts": both_cuts,
    "defaults": {"rescale": False},
    "paper": "https://arxiv.org/abs/2312.06795",
}
_LEFT = "Add those changes left after dropping at random that share the elected sign."
_RANKED = "Average those changes left after dropping by rank that share the elected sign."
_MIDDLING = "Add those changes of middling size that share the elected sign."
sparse("dare_linear", bernoulli, "Add the changes left after dropping at random.", **_DARE)
sparse("dare_ties", bernoulli, _LEFT, elect=True, **_DARE)
sparse("della_linear", by_rank, "Add the changes left after dropping by rank.", **_DELLA)
sparse("della", by_rank, _RANKED, elect=True, defaults={"normalize": True}, **_DELLA)
sparse("breadcrumbs", between, "Add the changes of middling size.", **_CRUMBS)
sparse("breadcrumbs_ties", between, _MIDDLING, elect=True, **_CRUMBS)
