"""Differences with everything a reader needs to judge them, as rows of a section.

Every row has n, both scores, the paired difference with its interval, wins and losses, exact p,
Holm's p over the section, the difference that this n would have seen, and a verdict. "No
difference" is claimed only where the 90 % interval lies within ± the margin (two one-sided tests at
5 %): `equal`. Else the verdict is `unclear`, which is no finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.stats import holm, mde, sign_flip
from search.objective import Objective, Scores, means
from search.paired import SAME, bootstrapped, corrected, resampled, spread, versus
from search.tables import Column, Section, columns, figure
from search.world import Answers

EFFECT = columns(
    "name:merge, n::count*, score::points*, difference:Δ:signed, ci95:95 % paired:between, "
    "won:won/lost:won, p::p*, p_holm:p Holm:p, mde:sees:points*, verdict"
)
Rows = list[dict[str, Any]]
Pairs = Mapping[str, tuple[Scores, Scores]]


def effects(pairs: Pairs, objective: Objective, *, margin: float, seed: int = 0) -> Rows:
    """Return a row for each name: the first scores minus the second, on the same items."""
    rows = []
    for found in corrected([versus(n, *pair, objective, seed=seed) for n, pair in pairs.items()]):
        low, high = spread(resampled(*pairs[found.reference], objective, seed=seed), 0.9)
        # Rule of three: what none of n items has shown may still be a share of 3 / n.
        within = max(-low, high, 3 / found.n) < margin
        same = "equal" if within else "unclear"
        told = {"name": found.reference, "won": [found.wins, found.losses], "ci90": [low, high]}
        verdict = same if found.verdict == SAME else found.verdict
        rows.append(found.to_mapping() | told | {"verdict": verdict})
    return rows


def against(others: Mapping[str, Scores], one: Scores) -> Pairs:
    """Return the pairs of everything with one."""
    return {name: (marks, one) for name, marks in others.items()}


def blind(rows: Rows, margin: float) -> str:
    """Say what a family of tests could have seen, and what its words mean."""
    seen = max((r["mde"] for r in rows if r["mde"]), default=0.0)
    least = f", which sees differences of {100 * seen:.1f} points in 4 of 5 runs" if seen else ""
    return (
        f"n={rows[0]['n'] if rows else 0} items{least}; {len(rows)} tests, Holm. Equal: within "
        f"±{100 * margin:g} points by two one-sided tests; unclear: neither shown."
    )


def interval(marks: Scores, objective: Objective, seed: int = 0) -> list[float]:
    """Return the 95 % interval of the objective's value, items drawn anew within tasks."""
    return spread(bootstrapped(marks, objective, seed=seed))


def by_sample(answers: Answers) -> Scores:
    """Return the marks of each task with one row an item and one column a sample."""
    return {
        task: np.array([row.correct for row in rows], float).reshape(
            len({row.item for row in rows}), -1
        )
        for task, rows in answers.items()
    }


def value(marks: Scores, objective: Objective) -> float:
    """Return the objective's value of marks."""
    return objective.value(means(marks))


def gain(gains: Scores, objective: Objective, seed: int = 0, extra: float = 0.0) -> dict[str, Any]:
    """Return a gain by task and together, with interval and p; `extra` is a second standard error.

    p is the sign-flip test of the items' gains, each weighed as the objective weighs it.
    """
    together, draws = value(gains, objective), bootstrapped(gains, objective, seed=seed)
    below, above = (np.hypot(end - together, 1.96 * extra) for end in spread(draws))
    weights = dict(zip(objective.tasks, objective.weights, strict=True))
    flat = np.concatenate([weights[t] * g / len(g) for t, g in gains.items()])
    return {
        "n": flat.size,
        "value": together,
        "ci95": [together - float(below), together + float(above)],
        "p": sign_flip(flat, seed=seed),
        "mde": mde(1, float(np.hypot(draws.std(), extra))),
        **{f"task {t}": m for t, m in means(gains).items()},
    }


def holmed(rows: Rows) -> Rows:
    """Return rows with Holm's p over all of them."""
    return [r | {"p_holm": p} for r, p in zip(rows, holm([r["p"] for r in rows]), strict=True)]


def per_task(tasks: Sequence[Any], kind: str = "signed") -> list[Column]:
    """Return a column for each task of a gain."""
    return [[f"task {t.name}", t.alias[:7], kind, False] for t in tasks]


def forest(name: str, title: str, rows: Rows, key: str = "difference") -> Section:
    """Return a figure of differences with their intervals."""
    marks = [{"label": r["name"], "value": r[key], "ci95": r["ci95"]} for r in rows]
    return figure("forest", name, title, rows=marks)
