"""What passes between a study and those who score: a proposal, its outcome, a finished trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """What a trial gave: the objective's numbers, and plain facts for the report."""

    values: tuple[float, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


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


Evaluate = Callable[[Proposal], Outcome]
