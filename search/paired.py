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
from numpy.typing import NDArray

from evals.stats import compare, draw_counts, holm, mde
from search.objective import Objective, Scores, means
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
    ci95: tuple[float, float]
    wins: int
    losses: int
    p: float
    p_holm: float
    mde: float | None
    verdict: str
    tasks: dict[str, dict[str, Any]]

    def to_mapping(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"ci95": list(self.ci95)}


def versus(
    reference: str, scores: Scores, rival: Scores, objective: Objective, *, seed: int = 0
) -> Comparison:
    """Compare scores with a reference's on the same items; the verdict is of this test alone."""
    found, theirs = means(scores), means(rival)
    counts = tally(scores, rival)
    draws = resampled(scores, rival, objective, seed=seed)
    low, high = (float(q) for q in np.quantile(draws, (0.025, 0.975)))
    difference = objective.value(found) - objective.value(theirs)
    p = _p_of_min(draws) if objective.kind == "min" else _exact(counts, objective)
    plain = Comparison(
        reference=reference,
        n=sum(map(len, scores.values())),
        score=objective.value(found),
        reference_score=objective.value(theirs),
        difference=difference,
        ci95=(low, high),
        wins=sum(t.wins for t in counts.values()),
        losses=sum(t.losses for t in counts.values()),
        p=p,
        p_holm=p,
        mde=mde(1, float(draws.std())) if draws.std() > 0 else None,
        verdict=SAME,
        tasks={t: _by_task(scores[t], rival[t], seed) for t in scores},
    )
    return replace(plain, verdict=_verdict(plain))


def corrected(family: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with Holm's p over the family, and verdicts by it."""
    adjusted = holm([c.p for c in family])
    made = [replace(c, p_holm=p) for c, p in zip(family, adjusted, strict=True)]
    return [replace(c, verdict=_verdict(c)) for c in made]


def resampled(
    scores: Scores, rival: Scores, objective: Objective, *, n: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Return n bootstrapped differences of the objective, items paired and drawn within tasks."""
    ours, theirs = {}, {}
    for place, (task, marks) in enumerate(scores.items()):
        counts = draw_counts(len(marks), n, (seed, place))
        ours[task] = counts @ marks / len(marks)
        theirs[task] = counts @ rival[task] / len(marks)
    return _values(ours, objective) - _values(theirs, objective)


def _values(drawn: Mapping[str, NDArray[np.float64]], objective: Objective) -> NDArray[np.float64]:
    """Return the objective's value of each draw."""
    table = np.stack([drawn[t] for t in objective.tasks])
    if objective.kind == "min":
        return np.asarray(table.min(axis=0))
    return np.asarray(np.array(objective.weights) @ table)


def _exact(counts: Mapping[str, Tally], objective: Objective) -> float:
    weights = {t: w for t, w in zip(objective.tasks, objective.weights, strict=True) if w > 0}
    turned = {t: Tally(c.losses, c.wins) for t, c in counts.items()}
    return min(1.0, 2 * min(flip_test(counts, weights), flip_test(turned, weights)))


def _p_of_min(draws: NDArray[np.float64]) -> float:
    tail = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return min(1.0, 2 * (tail + 1) / (draws.size + 1))


def _by_task(marks: NDArray[np.float64], rival: NDArray[np.float64], seed: int) -> dict[str, Any]:
    found = compare(rival, marks, seed=seed)
    kept = {k: getattr(found, k) for k in ("n", "difference", "wins", "losses", "p")}
    own = {"score": float(marks.mean()), "reference_score": float(rival.mean())}
    return kept | own | {"ci95": list(found.ci95)}


def _verdict(c: Comparison) -> str:
    if c.p_holm >= ALPHA or c.difference == 0:
        return SAME
    return BETTER if c.difference > 0 else WORSE
