"""Other spaces: literal weights, one operator's own knobs, a second stage around a good candidate.

`Operators` takes an operator's ranges from its signature, so a new operator can be searched as soon
as it is there. `Depth` holds few numbers on purpose: one weight a layer would be some hundred
numbers for a few dozen noisy evaluations, so shares follow Legendre's first two polynomials over
depth, and everything starts at "off".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from merger.operators import OPERATORS
from merger.operators.base import Knob
from search.candidate import BASE, Candidate, Value
from search.space import Choice, Knobs, Params, Range, Space, near

PARTS = ("attn", "mlp", "embed")  # modules with a factor of their own


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

    def params(self, candidate: Candidate) -> Params:
        """Return the literal weights of a candidate."""
        point: Params = {
            f"w_{n}": candidate.scale * candidate.shares.get(n, 0.0) for n in self.experts
        }
        plain = candidate.density == 1 and candidate.consensus == "mean"
        if self.negative and not plain:
            point = {}
        return self.inside(
            candidate, point if self.negative else point | self._trim_point(candidate)
        )


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

    def params(self, candidate: Candidate) -> Params:
        """Return the point of a candidate of this operator."""
        point = self._share_point(candidate) | dict(candidate.knobs)
        return self.inside(candidate, {n: v for n, v in point.items() if n in self.knobs()})


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
        return self.inside(candidate, off | dict(candidate.knobs))
