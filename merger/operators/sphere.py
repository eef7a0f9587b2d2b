"""Directions and lengths: SLERP, NuSLERP, MultiSLERP, the Karcher mean, Model Stock.

All are linear combinations whose coefficients follow from inner products of whole tensors (or rows,
or columns). SLERP (Shoemake 1985), as in mergekit, measures the angle between the whole tensors,
puts the weights on the tensors as they are (not on unit vectors), and above |cos| = 0.9995, where
most fine-tunes of one base lie, is plain interpolation. NuSLERP turns task vectors where there is a
base; `nuslerp_flatten: false` turns each row of the last axis by itself, and with
`nuslerp_row_wise: true` each column.
MultiSLERP takes the mean direction m of the unit vectors; mergekit then goes one step along
Σ wᵢ(uᵢ − ⟨uᵢ, m⟩m), which is zero whatever the experts are, so that step is left out here.
The Karcher mean (Karcher 1977) is the Riemannian mean of unit tensors by fixed-point iteration,
equal parts, here over coefficients; a base does not count as one more expert, as mergekit's manual
has it and its code has not. Model Stock (Jang et al. 2024) goes from the base towards the experts'
mean by t = N·c / (1 + (N − 1)·c) with c the mean cosine of all pairs of task vectors, which is
mergekit's reading for N > 2; at the pole c = −1/(N − 1) the base is kept.
"""

from collections.abc import Sequence
from itertools import combinations
from math import acos, cos, sin, sqrt
from typing import Annotated

from merger.errors import MismatchError
from merger.late import Tensor, torch
from merger.operators.base import Knob, Laws, Weight, operator
from merger.operators.changes import normal, weighted_sum
from merger.operators.sums import Matrix, Sums, gram_survey, inner_products, norms, row_sums
from merger.operators.survey import Block, Size, Survey

Flatten = Annotated[bool, Knob(default=True, help="take the whole tensor as one vector")]
RowWise = Annotated[bool, Knob(default=False, help="turn columns instead of rows")]
Normalized = Annotated[bool, Knob(default=True, help="divide the weights by their sum")]
Eps = Annotated[float, Knob(1e-10, 1e-6, default=1e-8, least=0.0, help="shortest direction")]
Steps = Annotated[int, Knob(1, 50, default=10, least=1, help="most iterations")]
Tol = Annotated[float, Knob(1e-9, 1e-3, default=1e-5, least=0.0, log=True, help="when to stop")]
FilterWise = Annotated[bool, Knob(default=False, help="one ratio per row instead of per tensor")]
PARALLEL = 0.9995
_TINY = 1e-8  # a shorter vector has no direction
_ROWS = 16  # rows folded together: columns need one running sum each


def ends_survey(size: Size) -> Survey:
    """Survey the inner products of base and expert as they are."""
    return inner_products(lambda b: torch.stack([t for t in (b.base, *b.experts) if t is not None]))


def slerp_weights(gram: Matrix, t: float) -> tuple[float, float]:
    """Return what the two ends are multiplied by, from their Gram matrix."""
    first, second = (n if n > _TINY else 1.0 for n in norms(gram))
    cosine = gram[0][1] / (first * second)
    if abs(cosine) > PARALLEL:
        return 1 - t, t
    angle = acos(cosine)
    return sin((1 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)


@operator(
    "slerp", survey=ends_survey, experts=(1, 1), paper="https://doi.org/10.1145/325334.325242"
)
def slerp(
    experts: Tensor,
    base: Tensor,
    *,
    t: Annotated[float, Knob(0.0, 1.0, help="0 is the base, 1 the expert")],
    facts: Matrix,
) -> Tensor:
    """Turn the base towards one expert along the great circle."""
    return weighted_sum([base, experts[0]], slerp_weights(facts, t))


def products(changes: Tensor) -> Tensor:
    """Return the entrywise products (3, rows, cols) whose sums are ‖a‖², ‖b‖², ⟨a, b⟩."""
    a, b = changes[0].double(), changes[1].double()
    return torch.stack([a * a, b * b, a * b])


def turn_survey(size: Size, nuslerp_flatten: bool, nuslerp_row_wise: bool) -> Survey:
    """Survey the inner products that the angle needs: of the tensor, of its columns, or none."""

    def columns(block: Block) -> Tensor:
        return products(block.changes).transpose(1, 2).flatten(0, 1)

    if nuslerp_flatten:
        sums = Sums(lambda block: products(block.changes))
    elif nuslerp_row_wise and size.rows > 1:
        sums = Sums(columns, _ROWS)
    else:
        return None
    yield sums
    return sums.result if nuslerp_flatten else sums.result.view(3, -1)


def turned(inner: Tensor, t: float) -> tuple[Tensor, ...]:
    """Return the factors of both vectors, from ‖a‖², ‖b‖², ⟨a, b⟩ along the first axis."""
    lengths = inner[0].sqrt().clamp(min=1e-7) * inner[1].sqrt().clamp(min=1e-7)
    angle = (inner[2] / lengths).clamp(-1, 1).acos()
    turn = angle.sin()
    # Vectors on one line have no plane to turn in: interpolate between them.
    flat = turn.abs() < 1e-8
    turn = turn.masked_fill(flat, 1.0)
    return tuple(((s * angle).sin() / turn).masked_fill(flat, s) for s in (1 - t, t))


@operator(
    "nuslerp",
    base="optional",
    survey=turn_survey,
    experts=(2, 2),
    laws=Laws(rowwise=lambda knobs: not knobs["nuslerp_flatten"]),
    paper="https://github.com/arcee-ai/mergekit",
)
def nuslerp(
    experts: Tensor,
    base: Tensor | None,
    *,
    weight: Weight,
    nuslerp_flatten: Flatten,
    nuslerp_row_wise: RowWise,
    facts: Tensor | None,
) -> Tensor:
    """Turn one expert towards another by their weights."""
    changes = experts if base is None else experts - base
    inner = facts if facts is not None else row_sums(products(changes))[..., None]
    total = sum(weight)
    t = 0.5 if abs(total) < 1e-6 else weight[1] / total
    first, second = turned(inner.to(experts.device), t)
    made = changes[0].double() * first + changes[1].double() * second
    return (made if base is None else made + base).to(experts.dtype)


def sphere_weights(gram: Matrix, weight: Sequence[float], eps: float) -> list[float]:
    """Return the coefficients of the vectors in their spherical mean."""
    lengths = norms(gram)
    units = [w / n if n > eps else 0.0 for w, n in zip(weight, lengths, strict=True)]
    if not any(units):
        return units  # nothing has a direction: all vectors are zero
    if (length := _length(units, gram)) < eps:
        law = "the experts cancel each other: their weighted directions have no mean"
        raise MismatchError(law, "Change a weight, or use linear.")
    scale = sum(w * n for w, n in zip(weight, lengths, strict=True))
    return [u * scale / length for u in units]


@operator(
    "multislerp",
    base="optional",
    survey=gram_survey,
    paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea",
)
def multislerp(
    experts: Tensor,
    base: Tensor | None,
    *,
    weight: Weight,
    normalize_weights: Normalized,
    eps: Eps,
    facts: Matrix,
) -> Tensor:
    """Take the mean direction of the experts (of their changes, with a base) at its mean length."""
    total = normal(weight) if normalize_weights else 1.0
    coefficients = sphere_weights(facts, [w / total for w in weight], eps)
    if base is None:
        return weighted_sum(experts, coefficients)
    return weighted_sum([base, *(experts - base)], [1.0, *coefficients])


def karcher_weights(gram: Matrix, max_iter: int, tol: float) -> list[float]:
    """Return the coefficients of the vectors in their Karcher mean."""
    lengths = norms(gram)
    valid = [i for i, n in enumerate(lengths) if n > tol]
    if not valid:
        return [0.0] * len(gram)
    # Inner products of the unit vectors.
    unit = [[gram[i][j] / (lengths[i] * lengths[j]) for j in valid] for i in valid]
    mean = _scaled([1.0 / len(valid)] * len(valid), unit, tol)
    for _ in range(max_iter):
        step = _tangent(mean, unit, tol)
        length = _length(step, unit)
        if length < tol:
            break
        along, aside = cos(length), sin(length) / length
        moved = [along * m + aside * s for m, s in zip(mean, step, strict=True)]
        mean = _scaled(moved, unit, tol)
    scale = sum(lengths[i] for i in valid) / len(gram)
    found = dict(zip(valid, mean, strict=True))
    return [scale * found[i] / lengths[i] if i in found else 0.0 for i in range(len(gram))]


def _tangent(mean: list[float], unit: Matrix, tol: float) -> list[float]:
    """Return the mean of the unit vectors' logarithms at the present mean, as coefficients."""
    k = len(mean)
    step = [0.0] * k
    for i, row in enumerate(unit):
        along = max(-1.0, min(1.0, sum(m * u for m, u in zip(mean, row, strict=True))))
        angle = acos(along)
        if angle < tol:
            continue
        factor = angle / sin(angle) / k
        step = [s - factor * along * m for s, m in zip(step, mean, strict=True)]
        step[i] += factor
    return step


def _length(vector: Sequence[float], gram: Matrix) -> float:
    k = range(len(vector))
    return sqrt(max(0.0, sum(vector[i] * vector[j] * gram[i][j] for i in k for j in k)))


def _scaled(vector: list[float], unit: Matrix, tol: float) -> list[float]:
    """Scale to length one; a mean without direction falls back to the first vector."""
    length = _length(vector, unit)
    if length < tol:
        return [1.0, *[0.0] * (len(vector) - 1)]
    return [v / length for v in vector]


@operator(
    "karcher", base="unused", survey=gram_survey, paper="https://doi.org/10.1002/cpa.3160300502"
)
def karcher(
    experts: Tensor, base: Tensor | None, *, max_iter: Steps, tol: Tol, facts: Matrix
) -> Tensor:
    """Take the Riemannian mean of the experts' directions at their mean length."""
    return weighted_sum(experts, karcher_weights(facts, max_iter, tol))


def angles_survey(size: Size, filter_wise: bool) -> Survey:
    """Survey the task vectors' inner products, unless each row has its own."""
    gram = None if filter_wise else (yield from gram_survey(size))
    return None if gram is None else torch.tensor(gram, dtype=torch.float64)


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
    changes = experts - base
    if facts is None:
        wide = changes.double()
        t = ratio(torch.stack([row_sums(one * wide) for one in wide]))[:, None]
    else:
        t = ratio(facts).to(base.device)
    mean = weighted_sum(changes, [1 / len(experts)] * len(experts))
    return mean.mul_(t).add_(base)
