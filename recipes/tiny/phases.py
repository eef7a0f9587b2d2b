"""What decides the embedded family's base: its shape, its learning rates, and two phases.

First almost everything is worked out, so that the traces are learned; then the habit is taught:
short items worked out, long ones offhand (docs/log.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Phase(NamedTuple):
    """A stretch of the cold start: how much is worked out, of what, and the learning rate.

    `part` is its length relative to the others'; `rate` what both learning rates are multiplied
    with at its first and last step; `shares` of the items, in `mix` order.
    """

    part: int
    worked_short: float
    worked_long: float
    rate: tuple[float, float]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Settings:
    """What decides the base.

    `mix` is (task, level), `short` the largest size that counts as short.
    """

    steps: int = 6300
    batch: int = 32
    width: int = 128
    layers: int = 5
    heads: int = 4
    hidden: int = 352
    muon_lr: float = 0.008
    adam_lr: float = 1.5e-3
    seed: int = 0
    short: tuple[tuple[str, int], ...] = (
        ("deduction", 3),
        ("induction", 8),
        ("abduction", 5),
        ("arithmetic", 0),
    )
    mix: tuple[tuple[str, int], ...] = (
        ("deduction", 1),
        ("induction", 1),
        ("induction", 2),
        ("abduction", 1),
        ("arithmetic", 1),
    )
    phases: tuple[Phase, ...] = (
        Phase(4200, 0.85, 0.85, (1.0, 0.35), (0.27, 0.07, 0.16, 0.42, 0.08)),
        Phase(2100, 0.95, 0.25, (0.35, 0.0), (0.27, 0.07, 0.16, 0.42, 0.08)),
    )

    def at(self, step: int) -> tuple[Phase, float]:
        """Return the phase of a step and the step's learning rate multiplier."""
        total, end = sum(Phase(*p).part for p in self.phases), 0.0
        for phase in (Phase(*p) for p in self.phases):
            start, end = end, end + self.steps * phase.part / total
            if step < end - 1e-6:
                break
        else:
            raise ValueError(f"step {step} is beyond the last of {self.steps}")
        first, last = phase.rate
        rate = first + (last - first) * (step - start) / (end - start)
        return phase, rate * min(1.0, (step + 1) / 100)
