"""What passes between a study and those who score: a trial, proposed, under way or finished.

Raced-out and failed trials are kept and never compete: the best is chosen among those that saw
every item, first by the floors it keeps (Deb's rules of feasibility), then by value, then by age.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from search.candidate import Candidate
from search.objective import Objective


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
    begun: float = 0.0  # seconds since 1970
    study: str = ""

    @property
    def full(self) -> bool:
        """Say whether the trial saw every search item (it was neither raced out nor failed)."""
        return self.state == "COMPLETE" and not self.facts.get("raced_out", False)

    @property
    def short(self) -> float:
        """How far the trial stays below the floors it should keep, in all; 0 is feasible."""
        floors: Mapping[str, float] = self.facts.get("floors", {})
        return sum((max(0.0, below) for below in floors.values()), 0.0)


def values_of(trials: Iterable[Trial], objective: Objective) -> dict[int, float]:
    """Return what orders finalists, by the number of the trial; only of trials with scores."""
    return {t.number: objective.value(t.facts["means"]) for t in trials if "means" in t.facts}


def best_of(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """Return the best of the trials that saw every item; floors first, the earlier of equals."""
    full = [t for t in trials if t.full]
    value = values_of(full, objective)
    return max(full, key=lambda t: (-t.short, value[t.number], -t.number), default=None)


def busy(trials: Iterable[Trial]) -> float:
    """Return the seconds during which at least one of the trials was under way."""
    total = until = 0.0
    for trial in sorted(trials, key=lambda t: t.begun):
        end = trial.begun + trial.seconds
        total += max(0.0, end - max(until, trial.begun))
        until = max(until, end)
    return total


# Scores a trial: the objective's numbers, and plain facts; `floors` are constraints (at most 0).
Outcome = tuple[tuple[float, ...], dict[str, Any]]
Evaluate = Callable[[Trial], Outcome]
