"""What a search maximises: the scores of several tasks made into one number, or kept as several.

`mean` weighs tasks equally however many items each has, `weighted:ded=2,ind=1` as told (tasks not
named do not count), `min` takes the worst task, `pareto` keeps one number a task. Scores are the
per-item marks of each task in one fixed order, so that any two candidates can be paired item by
item.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merger.errors import UsageError
from merger.registry import unknown

Marks = NDArray[np.float64]
Scores = dict[str, Marks]

KINDS = ("mean", "min", "weighted", "pareto")
MAX_FRONT = 3


@dataclass(frozen=True)
class Objective:
    """An objective over named tasks, whose `weights` sum to 1; `text` is what `parse` read."""

    kind: str
    weights: Mapping[str, float]
    text: str

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in their order."""
        return tuple(self.weights)

    @property
    def directions(self) -> int:
        """How many numbers are maximised."""
        return len(self.tasks) if self.kind == "pareto" else 1

    def values(self, means: Mapping[str, float]) -> tuple[float, ...]:
        """Return what a sampler is told, from the mean score of each task."""
        if self.kind == "pareto":
            return tuple(means[t] for t in self.tasks)
        return (self.value(means),)

    def value(self, means: Mapping[str, float]) -> float:
        """Return the one number that orders finalists; for `pareto` the mean."""
        if self.kind == "min":
            return min(means[t] for t in self.tasks)
        return float(np.dot(list(self.weights.values()), [means[t] for t in self.tasks]))

    def of(self, scores: Scores) -> float:
        """Return that number from marks."""
        return self.value(means(scores))

    def race_weights(self, rival: Mapping[str, float]) -> dict[str, float]:
        """Return how much an item of each task counts in a race against a rival; empty: no race.

        For `min`, only the rival's worst task: whoever is worse there has a worse minimum.
        """
        if self.kind == "pareto":
            return {}
        if self.kind == "min":
            return {min(self.tasks, key=lambda t: rival[t]): 1.0}
        return {task: weight for task, weight in self.weights.items() if weight > 0}


def means(scores: Scores) -> dict[str, float]:
    """Return the mean of each task."""
    return {task: float(marks.mean()) for task, marks in scores.items()}


def parse(text: str, tasks: Sequence[str], aliases: Mapping[str, str] | None = None) -> Objective:
    """Read `mean`, `min`, `pareto` or `weighted:task=number,…`; UsageError says what is wrong."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise unknown("objective", kind, KINDS)
    if kind == "weighted":
        return Objective(kind, _weights(rest, tasks, aliases or {}), text)
    if rest:
        law = f"objective {text!r}: {kind} takes no weights"
        raise UsageError(law, "Use weighted:task=number.")
    if kind == "pareto" and not 2 <= len(tasks) <= MAX_FRONT:
        law = f"objective pareto over {len(tasks)} tasks: a front is drawn over 2 to {MAX_FRONT}"
        raise UsageError(law, "Name fewer tasks, or use mean.")
    return Objective(kind, dict.fromkeys(tasks, 1 / len(tasks)), text)


def _weights(text: str, tasks: Sequence[str], aliases: Mapping[str, str]) -> dict[str, float]:
    given: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        task = aliases.get(name.strip(), name.strip())
        if task not in tasks:
            raise unknown("task in the objective", task, tasks)
        try:
            given[task] = float(number)
        except ValueError:
            given[task] = -1.0
        if not 0 <= given[task] < float("inf"):
            raise UsageError(f"weight {part!r} is no number ≥ 0", "Write weighted:ded=2,ind=1.")
    total = sum(given.values())
    if total <= 0:
        raise UsageError(f"the weights in {text!r} are all zero", "Give one task a weight.")
    return {task: given.get(task, 0.0) / total for task in tasks}
