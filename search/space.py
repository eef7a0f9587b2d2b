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
from search.candidate import CONSENSUS, OWN, Candidate, Value

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


Params = dict[str, Value]


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
    """The knobs of a search over these experts: shares, scale, density, consensus."""

    experts: tuple[str, ...]
    scale: tuple[float, float] | None = None
    density: tuple[float, float] = (0.05, 1.0)

    def knobs(self) -> dict[str, Range | Choice]:
        """Return the knobs by name, in the order a sampler sees them."""
        low, high = self.scale or (0.3, float(max(len(self.experts), 2)))
        return self._sticks() | {"scale": Range(low, high)} | self._cut()

    def candidate(self, params: Mapping[str, Value]) -> Candidate:
        """Return the candidate at a point of the space, shares rounded to four digits."""
        return Candidate.of(self._shares(params), near(params["scale"]), *self._cut_of(params))

    def params(self, candidate: Candidate) -> Params:
        """Return the point of a candidate; SearchError where it lies outside the space."""
        point: Params = self._sticks_of(candidate) | {"scale": candidate.scale}
        return self.inside(candidate, point | self._cut_at(candidate))

    def holds(self, candidate: Candidate) -> bool:
        """Say whether a candidate lies in the space."""
        try:
            self.params(candidate)
        except SearchError:
            return False
        return True

    def inside(self, candidate: Candidate, point: Params) -> Params:
        """Return the point if it is the candidate's and lies in the space, else SearchError."""
        stray = set(candidate.experts) - set(self.experts)
        known = candidate.method == self.method
        if stray or not known or not all(_in(k, point.get(n)) for n, k in self.knobs().items()):
            raise SearchError(f"{candidate.describe()} lies outside the search space", "")
        return point

    @property
    def method(self) -> str:
        """The operator that is searched."""
        return OWN

    def _sticks(self) -> dict[str, Range | Choice]:
        return dict.fromkeys(self._cuts(), Range(0.0, 1.0))

    def _cuts(self) -> list[str]:
        """Return the names of the sticks' cuts: an expert, and what it is cut from."""
        *most, last = self.experts
        return [f"{name}:{last if name == most[-1] else 'rest'}" for name in most]

    def _sticks_of(self, candidate: Candidate) -> Params:
        parts = [max(0.0, candidate.shares.get(name, 0.0)) for name in self.experts]
        return dict(zip(self._cuts(), sticks(parts), strict=True))

    def _shares(self, params: Mapping[str, Value]) -> dict[str, float]:
        numbers = [float(params[name]) for name in self._cuts()]
        parts = [near(p) for p in shares(numbers)[:-1]]
        last = max(0.0, near(1.0 - math.fsum(parts)))
        return dict(zip(self.experts, [*parts, last], strict=True))

    def _cut(self) -> dict[str, Range | Choice]:
        table: dict[str, Range | Choice] = {"density": Range(*self.density, log=True)}
        return table | ({"consensus": Choice(CONSENSUS)} if len(self.experts) > 1 else {})

    def _cut_of(self, params: Mapping[str, Value]) -> tuple[float, str]:
        low, high = self.density
        density = max(low, min(near(params["density"]), high))
        return density, str(params.get("consensus", "mean"))

    def _cut_at(self, candidate: Candidate) -> Params:
        both: Params = {"density": candidate.density, "consensus": candidate.consensus}
        return {name: both[name] for name in self._cut()}


def near(value: Value) -> float:
    """Return a number to four digits."""
    return round(float(value), DIGITS)


def _in(knob: Range | Choice, value: Value | None) -> bool:
    if value is None:
        return False
    if isinstance(knob, Choice):
        return value in knob.words
    return knob.low <= float(value) <= knob.high
