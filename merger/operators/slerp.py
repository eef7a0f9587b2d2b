"""SLERP: along the great circle from the base to one expert (Shoemake 1985).

As in mergekit the angle is measured between the whole tensors, the weights are put on the tensors
as they are (not on unit vectors), and above |cos| = 0.9995, where most fine-tunes of one base lie,
it is plain interpolation. Angle and weights follow from three inner products.
"""

from __future__ import annotations

from math import acos, sin
from typing import Annotated

import torch
from torch import Tensor

from merger.operators.base import Knob, Laws, operator
from merger.operators.gram import Gram, Matrix, norms
from merger.operators.span import rounded, weighted_sum
from merger.operators.survey import Block, Size, Survey

PARALLEL = 0.9995
_TINY = 1e-8  # a shorter vector has no direction


def _with_base(block: Block) -> Tensor:
    ground = block.base if block.base is not None else block.experts[:0]
    return torch.cat([ground[None], block.experts])


def ends_survey(size: Size) -> Survey:
    """Survey the inner products of base and expert as they are."""
    gram = Gram(_with_base)
    yield gram
    return gram.result


def slerp_weights(gram: Matrix, t: float) -> tuple[float, float]:
    """Return what the two ends are multiplied by, from their Gram matrix."""
    first, second = (n if n > _TINY else 1.0 for n in norms(gram))
    cosine = gram[0][1] / (first * second)
    if abs(cosine) > PARALLEL:
        return 1 - t, t
    angle = acos(cosine)
    return sin((1 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)


@operator(
    "slerp",
    survey=ends_survey,
    experts=(1, 1),
    laws=Laws(),
    paper="https://doi.org/10.1145/325334.325242",
)
def slerp(
    experts: Tensor,
    base: Tensor,
    *,
    t: Annotated[float, Knob(0.0, 1.0, help="0 is the base, 1 the expert")],
    facts: Matrix,
) -> Tensor:
    """Turn the base towards one expert along the great circle."""
    return rounded(weighted_sum([base, experts[0]], slerp_weights(facts, t)), base)
