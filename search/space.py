"""The search space: shares on the simplex × scale × relative density × consensus.

Shares come from K − 1 numbers in [0, 1] by stick-breaking with the power that makes uniform
numbers into uniform shares (p₁ = 1 − (1 − u₁)^(1/(K−1)), the same on the rest), so no direction
is dead as one of K free weights is under `linear`'s normalisation, and single experts are corners
that can be reached. Scale goes up to K: two experts that change different entries are both kept
whole at scale 2, which averaging never does. Density is relative to each task vector's own non-
zero entries: RL changes few entries, and an absolute density above that share would be a ridge
where nothing happens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from merger.errors import SearchError
from search.candidate import CONSENSUS, Candidate

# Shares are kept to four digits: finer ones change no answer and fill recipes with noise.
DIGITS = 4


@dataclass(frozen=True)
class Range:
    """A knob that is a number in [low, high], searched on a log axis if `log`."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """A knob that is one of a few words."""

    words: tuple[str, ...]


Params = dict[str, float | str]


def shares(sticks: Sequence[float]) -> list[float]:
    """Break a stick of length 1: K − 1 numbers in [0, 1] become K shares that sum to 1."""
    parts, rest = [], 1.0
    for left, u in zip(range(len(sticks), 0, -1), sticks, strict=True):
        # 1 − (1 − u)^(1/left), without losing digits near either end.
        cut = 1.0 if u >= 1 else -math.expm1(math.log1p(-u) / left)
        parts.append(rest * cut)
        rest *= 1.0 - cut
    return [*parts, rest]


def sticks(parts: Sequence[float]) -> list[float]:
    """Return the numbers that `shares` turns into these shares; where nothing is left, 0."""
    tails = [math.fsum(parts[i:]) for i in range(len(parts))]
    numbers = []
    for i, left in enumerate(range(len(parts) - 1, 0, -1)):
        cut = min(1.0, parts[i] / tails[i]) if tails[i] > 0 else 0.0
        numbers.append(1.0 if cut >= 1 else -math.expm1(left * math.log1p(-cut)))
    return numbers


@dataclass(frozen=True)
class Space:
    """The knobs of a search over these experts."""

    experts: tuple[str, ...]
    scale: tuple[float, float] | None = None
    density: tuple[float, float] = (0.05, 1.0)

    def knobs(self) -> dict[str, Range | Choice]:
        """Return the knobs by name, in the order a sampler sees them."""
        k = len(self.experts)
        low, high = self.scale or (0.3, float(max(k, 2)))
        table: dict[str, Range | Choice] = {f"u{i + 1}": Range(0.0, 1.0) for i in range(k - 1)}
        table["scale"] = Range(low, high)
        table["density"] = Range(*self.density, log=True)
        if k > 1:
            table["consensus"] = Choice(CONSENSUS)
        return table

    def candidate(self, params: Mapping[str, float | str]) -> Candidate:
        """Return the candidate at a point of the space, shares rounded to four digits."""
        numbers = [float(params[f"u{i + 1}"]) for i in range(len(self.experts) - 1)]
        parts = [round(p, DIGITS) for p in shares(numbers)[:-1]]
        last = max(0.0, round(1.0 - math.fsum(parts), DIGITS))
        weights = dict(zip(self.experts, [*parts, last], strict=True))
        density = min(round(float(params["density"]), DIGITS), self.density[1])
        return Candidate.of(
            weights,
            scale=round(float(params["scale"]), DIGITS),
            density=max(density, self.density[0]),
            consensus=str(params.get("consensus", "mean")),
        )

    def params(self, candidate: Candidate) -> Params:
        """Return the point of a candidate; SearchError where it lies outside the space."""
        stray = set(candidate.experts) - set(self.experts)
        given = candidate.shares
        point: Params = {
            f"u{i + 1}": u
            for i, u in enumerate(sticks([given.get(name, 0.0) for name in self.experts]))
        }
        point |= {"scale": candidate.scale, "density": candidate.density}
        if len(self.experts) > 1:
            point["consensus"] = candidate.consensus
        if stray or not all(_inside(knob, point[name]) for name, knob in self.knobs().items()):
            raise SearchError(f"{candidate.describe()} lies outside the search space", "")
        return point


def _inside(knob: Range | Choice, value: float | str) -> bool:
    if isinstance(knob, Choice):
        return value in knob.words
    return knob.low <= float(value) <= knob.high
