"""NearSwap: pull the base towards one expert where the two are near (Alchemonaut's method).

w = min(1, t / |base − expert|): entries closer than t become the expert's, those further away move
by t. A distance below 1e-6 counts as 1e-6.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from merger.operators.base import Knob, Laws, operator
from merger.operators.span import rounded


@operator(
    "nearswap",
    experts=(1, 1),
    laws=Laws(elementwise=True),
    paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001",
)
def nearswap(
    experts: Tensor,
    base: Tensor,
    *,
    t: Annotated[float, Knob(1e-5, 1e-2, log=True, least=0.0, help="distance that counts as near")],
) -> Tensor:
    """Move each entry of the base towards the expert by at most t."""
    change = experts[0].double() - base
    share = (t / change.abs().clamp(min=1e-6)).clamp(max=1.0)
    return rounded(share.mul_(change).add_(base), base)
