"""The search space: shares on the simplex × scale × relative density × consensus.

Shares come from K − 1 numbers in [0, 1] by stick-breaking with the power that makes uniform
numbers into uniform shares (p₁ = 1 − (1 − u₁)^(1/(K−1)), the same on the rest), so no direction
is dead as one of K free weights is under `linear`'s normalisation, and single experts are corners
that can be reached. Scale goes up to K: two experts that change different entries are both kept
whole at scale 2, which averaging never does. Density is relative to each task vector's own non-
zero entries: RL changes few entries, and an absolute density above that share would be a ridge
where nothing happens.

Other spaces: `Box` of literal weights; `Operators` of one operator's own knobs, whose ranges come
from its signature, so a new operator can be searched as soon as it is there; `Depth`, a second
stage around a good candidate. That holds few numbers on purpose: one weight a layer would be some
hundred numbers for a few dozen noisy evaluations, so shares follow Legendre's first two polynomials
over depth, and everything starts at "off".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from merger.operators import OPERATORS
from merger.operators.base import Knob
from search.candidate import BASE, CONSENSUS, OWN, Candidate, Value

# Shares are kept to four digits: finer ones change no answer and fill recipes with noise.
DIGITS = 4
DENSITY = (0.05, 1.0)
PARTS = ("attn", "mlp", "embed")  # modules with a factor of their own


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
    method: str = OWN

    def knobs(self) -> Knobs:
        """Return the knobs by name, in the order a sampler sees them."""
        low, high = self.scale or (0.3, float(max(len(self.experts), 2)))
        return self._share_knobs() | {"scale": Range(low, high)} | self._trim_knobs()

    def candidate(self, params: Mapping[str, Value]) -> Candidate:
        """Return the candidate at a point of the space, shares rounded to four digits."""
        return Candidate.of(self._shares(params), near(params["scale"]), *self._trims(params))

    def params(self, candidate: Candidate) -> Params:
        """Return the point of a candidate; of one that the space does not hold, what there is."""
        parts = {name: candidate.shares.get(name, 0.0) for name in self.experts}
        cuts = sticks([max(0.0, part) for part in parts.values()])
        point: Params = dict(zip(self._cuts(), cuts, strict=True))
        point |= {f"w_{name}": candidate.scale * part for name, part in parts.items()}
        point |= {"scale": candidate.scale, "density": candidate.density}
        point |= {"consensus": candidate.consensus} | dict(candidate.knobs)
        return {name: point[name] for name in self.knobs() if name in point}

    def holds(self, candidate: Candidate) -> bool:
        """Say whether a candidate lies in the space."""
        point, knobs = self.params(candidate), self.knobs()
        known = {*self.experts, *knobs} >= {*candidate.experts, *dict(candidate.knobs)}
        within = all(knob.holds(point.get(name)) for name, knob in knobs.items())
        return known and within and candidate.method == self.method

    def _share_knobs(self) -> Knobs:
        return dict.fromkeys(self._cuts(), Range(0.0, 1.0))

    def _cuts(self) -> list[str]:
        """Return the names of the sticks' cuts: an expert, and what it is cut from."""
        *most, last = self.experts
        return [f"{name}:{last if name == most[-1] else 'rest'}" for name in most]

    def _shares(self, params: Mapping[str, Value]) -> dict[str, float]:
        numbers = [float(params[name]) for name in self._cuts()]
        parts = [near(p) for p in shares(numbers)[:-1]]
        last = max(0.0, near(1.0 - math.fsum(parts)))
        return dict(zip(self.experts, [*parts, last], strict=True))

    def _trim_knobs(self) -> Knobs:
        table: Knobs = {"density": Range(*DENSITY, log=True)}
        return table | ({"consensus": Choice(CONSENSUS)} if len(self.experts) > 1 else {})

    def _trims(self, params: Mapping[str, Value]) -> tuple[float, str]:
        low, high = DENSITY
        density = max(low, min(near(params["density"]), high))
        return density, str(params.get("consensus", "mean"))


def near(value: Value) -> float:
    """Return a number to four digits."""
    return round(float(value), DIGITS)


@dataclass(frozen=True)
class Box(Space):
    """Literal weights that need not sum to 1; with `negative`, experts may be subtracted."""

    negative: bool = False

    def knobs(self) -> Knobs:
        """Return one weight an expert; what is subtracted is neither cut nor elected."""
        low = -0.5 if self.negative else 0.0
        table: Knobs = {f"w_{name}": Range(low, 1.5) for name in self.experts}
        return table if self.negative else table | self._trim_knobs()

    def candidate(self, params: Mapping[str, Value]) -> Candidate:
        """Return the candidate whose weights are these."""
        weights = {name: near(params[f"w_{name}"]) for name in self.experts}
        cut = () if self.negative else self._trims(params)
        return Candidate.of(weights, near(math.fsum(map(abs, weights.values()))), *cut)

    def holds(self, candidate: Candidate) -> bool:
        """Say whether the weights of a candidate lie in the box."""
        return super().holds(candidate) and (candidate.plain or not self.negative)


@dataclass(frozen=True)
class Operators(Space):
    """Shares and the own knobs of one operator; whole numbers and switches stay as they are."""

    def own(self) -> dict[str, Knob]:
        """Return the operator's knobs that are searched: what is wide enough to matter."""
        known = OPERATORS[self.method].knobs
        wide = {n for n, k in known.items() if k.choices or (k.kind is float and k.high > 0.01)}
        return {n: known[n] for n in sorted(wide - {"weight"})}

    def knobs(self) -> Knobs:
        """Return the shares, if the operator has weights, and its own knobs."""
        table = self._share_knobs() if "weight" in OPERATORS[self.method].knobs else {}
        return table | {
            n: Choice(k.choices) if k.choices else Range(k.low, k.high, k.log)
            for n, k in self.own().items()
        }

    def start(self) -> Candidate:
        """Return equal shares at the operator's defaults."""
        default = {
            n: k.default if k.default is not None else (k.low + k.high) / 2
            for n, k in self.own().items()
        }
        return Candidate.of(dict.fromkeys(self.experts, 1.0), method=self.method, knobs=default)

    def candidate(self, params: Mapping[str, Value]) -> Candidate:
        """Return the candidate at a point."""
        even = dict.fromkeys(self.experts, 1.0)
        weights = self._shares(params) if "weight" in OPERATORS[self.method].knobs else even
        knobs = {n: params[n] if k.choices else near(params[n]) for n, k in self.own().items()}
        if room := float(knobs.get("epsilon", 0)):  # della keeps entries with density ± epsilon
            room = near(room + 0.001)
            knobs["density"] = near(min(max(float(knobs["density"]), room), 1 - room))
        return Candidate.of(weights, method=self.method, knobs=knobs)


@dataclass(frozen=True)
class Depth(Space):
    """Stage 2: how a candidate's shares change over depth, and factors of its modules."""

    origin: Candidate = BASE

    def knobs(self) -> Knobs:
        """Return slope and bend of each expert but the last, and a factor a module."""
        bent = self.origin.experts[:-1]
        table: Knobs = {f"{p}:{n}": Range(-2, 2) for p in "ab" for n in bent}
        return table | dict.fromkeys(PARTS, Range(0.0, 1.5))

    def candidate(self, params: Mapping[str, Value]) -> Candidate:
        """Return the origin, bent; what is off is left out."""
        bent = {name: near(value) for name, value in params.items()}
        kept = {n: v for n, v in bent.items() if v != (1.0 if n in PARTS else 0.0)}
        return replace(self.origin, knobs=tuple(sorted(kept.items())))

    def params(self, candidate: Candidate) -> Params:
        """Return the point of a bent candidate."""
        off: Params = {name: 1.0 if name in PARTS else 0.0 for name in self.knobs()}
        return off | dict(candidate.knobs)
