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

    def holds(self, value: Value | None) -> bool:
        """Say whether a value lies in the range."""
        return value is not None and self.low <= float(value) <= self.high

    def at(self, z: float) -> float:
        """Return the value at z in [0, 1] of the axis."""
        if self.log:
            return float(self.low * (self.high / self.low) ** z)
        return self.low + (self.high - self.low) * z

    def encoded(self, value: Value) -> list[float]:
        """Return where a value lies on the axis, from 0 to 1."""
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return [(at - low) / (high - low)]


@dataclass(frozen=True)
class Choice:
    """A knob that is one of a few words."""

    words: tuple[str, ...]

    def holds(self, value: Value | None) -> bool:
        """Say whether a value is one of the words."""
        return value in self.words

    def encoded(self, value: Value) -> list[float]:
        """Return a corner of a simplex: words are all equally far apart."""
        return [0.7 * (value == word) for word in self.words]


Knobs = dict[str, Range | Choice]
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
    """The knobs of a search over these experts by one operator."""

    experts: tuple[str, ...]
    scale: tuple[float, float] | None = None
    density: tuple[float, float] = (0.05, 1.0)
    method: str = OWN

    def knobs(self) -> Knobs:
        """Return the knobs by name, in the order a sampler sees them."""
        low, high = self.scale or (0.3, float(max(len(self.experts), 2)))
        return self._share_knobs() | {"scale": Range(low, high)} | self._trim_knobs()

    def candidate(self, params: Mapping[str, Value]) -> Candidate:
        """Return the candidate at a point of the space, shares rounded to four digits."""
        return Candidate.of(self._shares(params), near(params["scale"]), *self._trims(params))

    def params(self, candidate: Candidate) -> Params:
        """Return the point of a candidate; SearchError where it lies outside the space."""
        point: Params = self._share_point(candidate) | {"scale": candidate.scale}
        return self.inside(candidate, point | self._trim_point(candidate))

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
        within = all(knob.holds(point.get(name)) for name, knob in self.knobs().items())
        if stray or not known or not within:
            raise SearchError(f"{candidate.describe()} lies outside the search space", "")
        return point

    def _share_knobs(self) -> Knobs:
        return dict.fromkeys(self._cuts(), Range(0.0, 1.0))

    def _cuts(self) -> list[str]:
        """Return the names of the sticks' cuts: an expert, and what it is cut from."""
        *most, last = self.experts
        return [f"{name}:{last if name == most[-1] else 'rest'}" for name in most]

    def _share_point(self, candidate: Candidate) -> Params:
        parts = [max(0.0, candidate.shares.get(name, 0.0)) for name in self.experts]
        return dict(zip(self._cuts(), sticks(parts), strict=True))

    def _shares(self, params: Mapping[str, Value]) -> dict[str, float]:
        numbers = [float(params[name]) for name in self._cuts()]
        parts = [near(p) for p in shares(numbers)[:-1]]
        last = max(0.0, near(1.0 - math.fsum(parts)))
        return dict(zip(self.experts, [*parts, last], strict=True))

    def _trim_knobs(self) -> Knobs:
        table: Knobs = {"density": Range(*self.density, log=True)}
        return table | ({"consensus": Choice(CONSENSUS)} if len(self.experts) > 1 else {})

    def _trims(self, params: Mapping[str, Value]) -> tuple[float, str]:
        low, high = self.density
        density = max(low, min(near(params["density"]), high))
        return density, str(params.get("consensus", "mean"))

    def _trim_point(self, candidate: Candidate) -> Params:
        both: Params = {"density": candidate.density, "consensus": candidate.consensus}
        return {name: both[name] for name in self._trim_knobs()}


def near(value: Value) -> float:
    """Return a number to four digits."""
    return round(float(value), DIGITS)
