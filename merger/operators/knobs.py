"""Knobs that several operators share, under the names and defaults of mergekit's YAML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from merger.operators.base import Knob

Weight = Annotated[
    Sequence[float], Knob(0.0, 1.5, help="coefficient of each expert; may be negative")
]
Density = Annotated[
    Sequence[float],
    Knob(0.05, 1.0, default=1.0, least=0.0, most=1.0, log=True, help="share of entries kept"),
]
Lambda = Annotated[float, Knob(0.3, 1.6, default=1.0, help="scale of the summed change")]
Normalize = Annotated[bool, Knob(default=True, help="divide by the sum of the weights")]
Unnormalized = Annotated[bool, Knob(default=False, help="divide by the sum of the weights")]
Rescale = Annotated[bool, Knob(default=True, help="restore the L1 norm the dropping took away")]
Unrescaled = Annotated[bool, Knob(default=False, help="restore the L1 norm the dropping took away")]
Seed = Annotated[int, Knob(0, 2**31 - 1, default=0, least=0, help="seed of the random masks")]
