"""What passes between a study and those who score: a proposal, its outcome, a finished trial."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from search.candidate import Candidate


@dataclass(frozen=True)
class Proposal:
    """A candidate to score, why it is tried, and whether it may be stopped early."""

    number: int
    candidate: Candidate
    source: str
    raced: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a trial gave: the objective's numbers, and plain facts for the report.

    `constraints` are kept where they are at most 0.
    """

    values: tuple[float, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """A trial as the study keeps it; `state` is COMPLETE, FAIL, RUNNING or WAITING."""

    number: int
    state: str
    candidate: Candidate
    source: str
    values: tuple[float, ...]
    facts: Mapping[str, Any]
    seconds: float

    @property
    def full(self) -> bool:
        """Say whether the trial saw every search item (it was neither raced out nor failed)."""
        return self.state == "COMPLETE" and not self.facts.get("raced_out", False)

    @property
    def short(self) -> float:
        """How far the trial stays below the floors it should keep, in all; 0 is feasible."""
        floors: Mapping[str, float] = self.facts.get("floors", {})
        return sum((max(0.0, below) for below in floors.values()), 0.0)


def best_of(trials: Iterable[Trial], value: Callable[[Trial], float]) -> Trial | None:
    """Return the best of the trials that saw every item; floors first, the earlier of equals."""
    full = [t for t in trials if t.full]
    return max(full, key=lambda t: (-t.short, value(t), -t.number), default=None)


Evaluate = Callable[[Proposal], Outcome]
