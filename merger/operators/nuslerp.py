"""NuSLERP: spherical interpolation of two experts by weight, whole or row by row.

Semantics of mergekit's `nuslerp`. With a base it is the task vectors that are turned, and the
result is added to the base. `nuslerp_flatten: false` turns each row of the last axis by itself, and
with `nuslerp_row_wise: true` each column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from merger.operators.base import Knob, Laws, operator
from merger.operators.knobs import Weight
from merger.operators.survey import Block, Size, Survey
from merger.operators.tiles import Sums, TileSums, row_sums

Flatten = Annotated[bool, Knob(default=True, help="take the whole tensor as one vector")]
RowWise = Annotated[bool, Knob(default=False, help="turn columns instead of rows")]
_ROWS = 16  # rows folded together: columns need one running sum each


def products(changes: Tensor) -> Tensor:
    """Return the entrywise products (3, rows, cols) whose sums are ‖a‖², ‖b‖², ⟨a, b⟩."""
    a, b = changes[0].double(), changes[1].double()
    return torch.stack([a * a, b * b, a * b])


class Columns:
    """Measure: the three inner products of every column, (3, cols)."""

    def __init__(self) -> None:
        self._sums = TileSums(_ROWS)

    def add(self, block: Block) -> None:
        """Add this block's rows."""
        made = products(block.changes)
        self._sums.add(made.transpose(1, 2).flatten(0, 1))

    @property
    def result(self) -> Tensor:
        """The products, one row per kind; ask once, after the last block."""
        return self._sums.totals().view(3, -1)


def turn_survey(size: Size, nuslerp_flatten: bool, nuslerp_row_wise: bool) -> Survey:
    """Survey the inner products that the angle needs: of the tensor, of its columns, or none."""
    if nuslerp_flatten:
        sums = Sums(lambda block: products(block.changes))
        yield sums
        return torch.tensor(sums.result, dtype=torch.float64)
    if nuslerp_row_wise and size.rows > 1:
        columns = Columns()
        yield columns
        return columns.result
    return None


def weights(inner: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Return the factors of both vectors, from ‖a‖², ‖b‖², ⟨a, b⟩ along the first axis."""
    lengths = inner[0].sqrt().clamp(min=1e-7) * inner[1].sqrt().clamp(min=1e-7)
    angle = (inner[2] / lengths).clamp(-1, 1).acos()
    turn = angle.sin()
    # Vectors on one line have no plane to turn in: interpolate between them.
    flat = turn.abs() < 1e-8
    turn = torch.where(flat, torch.ones_like(turn), turn)
    first = torch.where(flat, torch.full_like(turn, 1 - t), ((1 - t) * angle).sin() / turn)
    second = torch.where(flat, torch.full_like(turn, t), (t * angle).sin() / turn)
    return first, second


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
    first, second = weights(inner.to(experts.device), share(weight))
    made = changes[0].double() * first + changes[1].double() * second
    return (made if base is None else made + base).to(experts.dtype)


def share(weight: Sequence[float]) -> float:
    """Return how far to turn from the first expert to the second."""
    total = weight[0] + weight[1]
    return 0.5 if abs(total) < 1e-6 else weight[1] / total
