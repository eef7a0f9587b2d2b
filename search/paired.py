"""Two models on the same items, compared under an objective: difference, interval, p, verdict.

The interval is a paired bootstrap within each task (items are drawn anew, tasks are not), so
tasks keep the weights that the objective gives them. p is exact: McNemar's where tasks weigh the
same, the sign-flip test of the weighted sum where they do not; for `min`, which is no sum, it is
the bootstrap's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from evals.stats import compare, draw_counts, holm, mde
from search.objective import Marks, Objective, Scores, means
from search.racing import Tally, flip_test, tally

ALPHA = 0.05
DRAWS = 10_000
BETTER, WORSE, SAME = "better", "worse", "not distinguishable"


@dataclass(frozen=True)
class Comparison:
    """`score` against `reference_score` on the same n items; differences are in [−1, 1]."""

    reference: str
    n: int
    score: float
    reference_score: float
    difference: float
    ci95: list[float]
    wins: int
    losses: int
    p: float
    p_holm: float
    mde: float | None
    tasks: dict[str, dict[str, Any]]

    @property
    def verdict(self) -> str:
        """What Holm's p says of the difference; of a test alone, its own p."""
        if self.p_holm >= ALPHA or self.difference == 0:
            return SAME
        return BETTER if self.difference > 0 else WORSE

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"verdict": self.verdict}


def versus(
    reference: str, scores: Scores, rival: Scores, objective: Objective, *, seed: int = 0
) -> Comparison:
    """Compare scores with a reference's on the same items; the verdict is of this test alone."""
    ours, theirs = (objective.value(means(marks)) for marks in (scores, rival))
    counts, draws = tally(scores, rival), resampled(scores, rival, objective, seed=seed)
    p = _p_of_min(draws) if objective.kind == "min" else _exact(counts, objective)
    return Comparison(
        reference=reference,
        n=sum(map(len, scores.values())),
        score=ours,
        reference_score=theirs,
        difference=ours - theirs,
        ci95=spread(draws),
        wins=sum(t.wins for t in counts.values()),
        losses=sum(t.losses for t in counts.values()),
        p=p,
        p_holm=p,
        mde=mde(1, float(draws.std())) if draws.std() > 0 else None,
        tasks={t: _by_task(scores[t], rival[t], seed) for t in scores},
    )


def corrected(family: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with Holm's p over the family, which verdicts go by."""
    adjusted = holm([c.p for c in family])
    return [replace(c, p_holm=p) for c, p in zip(family, adjusted, strict=True)]


def bootstrapped(marks: Scores, objective: Objective, *, n: int = DRAWS, seed: int = 0) -> Marks:
    """Return n draws of the objective's value, items drawn within tasks; a seed pairs them."""
    drawn = {
        task: draw_counts(len(m), n, (seed, place)) @ m / len(m)
        for place, (task, m) in enumerate(marks.items())
    }
    table = np.stack([drawn[t] for t in objective.tasks])
    lowest = objective.kind == "min"
    return np.asarray(table.min(axis=0) if lowest else np.array(objective.weights) @ table)


def resampled(
    scores: Scores, rival: Scores, objective: Objective, *, n: int = DRAWS, seed: int = 0
) -> Marks:
    """Return n bootstrapped differences of the objective, items paired and drawn within tasks."""
    sides = ({task: side[task] for task in scores} for side in (scores, rival))
    ours, theirs = (bootstrapped(side, objective, n=n, seed=seed) for side in sides)
    return np.asarray(ours - theirs)


def spread(draws: Marks, level: float = 0.95) -> list[float]:
    """Return the interval that holds the middle of draws."""
    return [float(q) for q in np.quantile(draws, ((1 - level) / 2, (1 + level) / 2))]


def _exact(counts: Mapping[str, Tally], objective: Objective) -> float:
    weights = {t: w for t, w in zip(objective.tasks, objective.weights, strict=True) if w > 0}
    turned = {t: Tally(c.losses, c.wins) for t, c in counts.items()}
    return min(1.0, 2 * min(flip_test(counts, weights), flip_test(turned, weights)))


def _p_of_min(draws: Marks) -> float:
    tail = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (draws.size + 1))


def _by_task(marks: Marks, rival: Marks, seed: int) -> dict[str, Any]:
    found = compare(rival, marks, seed=seed)
    kept = {k: getattr(found, k) for k in ("n", "difference", "wins", "losses", "p")}
    own = {"score": float(marks.mean()), "reference_score": float(rival.mean())}
    return kept | own | {"ci95": list(found.ci95)}
