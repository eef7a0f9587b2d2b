"""Passthrough: one expert as it is, or times a scale; what layer stacking is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from merger.operators.base import Knob, Laws, operator


@operator(
    "passthrough",
    base="unused",
    experts=(1, 1),
    laws=Laws(elementwise=True),
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
