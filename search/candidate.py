"""A candidate: everything that tells one merge of the same experts from another.

θ = base + scale · Σ_A wτ / Σ_A w, where τ is an expert's task vector cut to its `density` largest
non-zero entries and A are the experts that count at an entry: all (`mean`), those agreeing with
the elected sign (`sign`) or those that change the entry at all (`ram`). Weights matter only by
their ratios, so 1.0 / 0.2 / 0.1 and 10 / 2 / 1 are one candidate; the base is the candidate
without experts. `knobs` hold what lies beyond: those of another operator (`method`), or curves over
depth (`a:expert`, `b:expert`) and factors of modules (`attn`, `mlp`, `embed`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from merger.errors import SearchError

CONSENSUS = ("mean", "sign", "ram")
OWN = "consensus"  # the operator that a search explores unless told otherwise
Value = float | int | bool | str


@dataclass(frozen=True)
class Candidate:
    """Weights of the experts (zero weights are dropped), scale, relative density and consensus."""

    weights: tuple[tuple[str, float], ...]
    scale: float = 1.0
    density: float = 1.0
    consensus: str = "mean"
    method: str = OWN
    knobs: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def of(
        cls,
        weights: Mapping[str, float],
        scale: float = 1.0,
        density: float = 1.0,
        consensus: str = "mean",
        method: str = OWN,
        knobs: Mapping[str, Value] | None = None,
    ) -> Candidate:
        """Build a candidate from weights by expert; SearchError on a number that means nothing.

        Negative weights subtract an expert; they are for `mean` of whole changes only.
        """
        kept = tuple((name, float(w)) for name, w in weights.items() if w != 0)
        if not kept or scale == 0:
            return BASE
        whole = consensus == "mean" and density == 1 and method == OWN
        if any(not math.isfinite(w) or (w < 0 and not whole) for _, w in kept):
            raise SearchError(f"weights {dict(kept)} are not shares", "Give numbers ≥ 0.")
        if consensus not in CONSENSUS or not 0 < density <= 1 or not math.isfinite(scale):
            law = f"scale {scale}, density {density}, consensus {consensus!r} are no candidate"
            remedy = f"Density is in (0, 1], consensus one of {', '.join(CONSENSUS)}."
            raise SearchError(law, remedy)
        more = tuple(sorted((knobs or {}).items()))
        return cls(kept, float(scale), float(density), consensus, method, more)

    def having(self, weights: Mapping[str, float], scale: float | None = None) -> Candidate:
        """Return the same merge with other weights of its experts."""
        rest = self.density, self.consensus, self.method, dict(self.knobs)
        return Candidate.of(weights, self.scale if scale is None else scale, *rest)

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that take part."""
        return tuple(name for name, _ in self.weights)

    @property
    def shares(self) -> dict[str, float]:
        """The weights divided by the sum of their sizes."""
        total = math.fsum(abs(w) for _, w in self.weights)
        return {name: w / total for name, w in self.weights}

    @property
    def plain(self) -> bool:
        """Say whether no entry is cut and every expert counts everywhere alike."""
        alone = self.consensus == "mean" or len(self.weights) < 2
        return self.method == OWN and not self.knobs and self.density == 1 and alone

    @property
    def key(self) -> str:
        """Twelve hex digits that two candidates share if they are the same merge by definition."""
        shares = {name: round(p, 12) for name, p in sorted(self.shares.items())}
        # A lone expert has nobody to disagree with, so its consensus says nothing.
        consensus = self.consensus if len(self.weights) > 1 else "mean"
        more = [self.method, self.knobs] if self.method != OWN or self.knobs else []
        text = json.dumps(
            [shares, round(self.scale, 12), round(self.density, 12), consensus, *more]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def describe(self) -> str:
        """Return a short name for tables: shares, then whatever is not at its plain value."""
        if not self.weights:
            return "base"
        parts = [self.method] if self.method != OWN else []
        parts += [f"{name} {p:.2f}".replace(" 0.", " .") for name, p in self.shares.items()]
        parts += [f"s{self.scale:.2f}"] if self.scale != 1 else []
        parts += [f"d{self.density:.2f}"] if self.density != 1 else []
        parts += [self.consensus] if self.consensus != "mean" and len(self.weights) > 1 else []
        parts += [f"{n}={v:.2f}" if isinstance(v, float) else f"{n}={v}" for n, v in self.knobs]
        return " ".join(parts)

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data from which `from_mapping` builds an equal candidate."""
        return asdict(self) | {"weights": dict(self.weights), "knobs": dict(self.knobs)}

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Candidate:
        """Read what `to_mapping` wrote, whatever else stands beside it."""
        return cls.of(**{f.name: data[f.name] for f in fields(cls) if f.name in data})


BASE = Candidate((), 0.0)
