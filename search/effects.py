"""Differences of two models on the same items, with everything a reader needs to judge them.

The interval is a paired bootstrap within each task (items are drawn anew, tasks are not), so
tasks keep the weights that the objective gives them. p is exact: McNemar's where tasks weigh the
same, the sign-flip test of the weighted sum where they do not; for `min`, which is no sum, it is
the bootstrap's. In a report "no difference" is claimed only where the 90 % interval lies within
± the margin (two one-sided tests at 5 %): `equal`. Else it is `unclear`, which is no finding.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.stats import compare, draw_counts, holm, mde, sign_flip
from search.objective import Marks, Objective, Scores, means
from search.racing import Tally, flip_test, tally
from search.tables import Column, Section, brief, columns, figure
from search.world import Answers

ALPHA = 0.05
DRAWS = 10_000
BETTER, WORSE, SAME = "better", "worse", "not distinguishable"
EFFECT = columns(
    "name:merge, n::count*, score::points*, difference:Δ:signed, ci95:95 % paired:between, "
    "ci90:90 % paired:between*, won:won/lost:won, p::p*, p_holm:p Holm:p, mde:sees:points*, verdict"
)
Row = dict[str, Any]
Rows = list[Row]
Pairs = Mapping[str, tuple[Scores, Scores]]


def versus(
    reference: str, scores: Scores, rival: Scores, objective: Objective, *, seed: int = 0
) -> Row:
    """Compare scores with a reference's on the same n items: one row, which `corrected` judges.

    Differences are in [−1, 1]; `won` and `lost` items count as wins and losses.
    """
    ours, theirs = objective.of(scores), objective.of(rival)
    counts, draws = tally(scores, rival), resampled(scores, rival, objective, seed=seed)
    return {
        "reference": reference,
        "n": sum(map(len, scores.values())),
        "score": ours,
        "reference_score": theirs,
        "difference": ours - theirs,
        "ci95": spread(draws),
        "wins": sum(t.wins for t in counts.values()),
        "losses": sum(t.losses for t in counts.values()),
        "p": _p_of_min(draws) if objective.kind == "min" else _exact(counts, objective.weights),
        "mde": mde(1, float(draws.std())) if draws.std() > 0 else None,
        "tasks": {t: _by_task(scores[t], rival[t], seed) for t in scores},
    }


def corrected(family: Rows) -> Rows:
    """Return the comparisons with Holm's p over the family, and the verdict that goes by it."""
    return [row | {"verdict": _judged(row)} for row in holmed(family)]


def _judged(row: Row) -> str:
    if row["p_holm"] >= ALPHA or row["difference"] == 0:
        return SAME
    return BETTER if row["difference"] > 0 else WORSE


def bootstrapped(marks: Scores, objective: Objective, *, n: int = DRAWS, seed: int = 0) -> Marks:
    """Return n draws of the objective's value, items drawn within tasks; a seed pairs them."""
    drawn = {
        task: draw_counts(len(m), n, (seed, place)) @ m / len(m)
        for place, (task, m) in enumerate(marks.items())
    }
    table = np.stack([drawn[t] for t in objective.tasks])
    lowest = objective.kind == "min"
    weights = np.array(list(objective.weights.values()))
    return np.asarray(table.min(axis=0) if lowest else weights @ table)


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


def _exact(counts: Mapping[str, Tally], weights: Mapping[str, float]) -> float:
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


def effects(pairs: Pairs, objective: Objective, *, margin: float, seed: int = 0) -> Rows:
    """Return a row for each name: the first scores minus the second, on the same items."""
    rows = corrected([versus(n, *pair, objective, seed=seed) for n, pair in pairs.items()])
    for row in rows:
        ends = spread(resampled(*pairs[row["reference"]], objective, seed=seed), 0.9)
        row |= {"name": row["reference"], "won": [row["wins"], row["losses"]], "ci90": ends}
        if row["verdict"] == SAME:
            row["verdict"] = "equal" if _within(row) < margin else "unclear"
    return rows


def against(others: Mapping[str, Scores], one: Scores) -> Pairs:
    """Return the pairs of everything with one."""
    return {name: (marks, one) for name, marks in others.items()}


def blind(rows: Rows, margin: float) -> str:
    """Say what a family of tests could have seen, and what its words mean."""
    seen = max((r["mde"] for r in rows if r["mde"]), default=0.0)
    least = f", which sees differences of {100 * seen:.1f} points in 4 of 5 runs" if seen else ""
    told = (
        f"n={rows[0]['n'] if rows else 0} items{least}; {len(rows)} tests, Holm. Equal: within "
        f"±{100 * margin:g} points by two one-sided tests (the 90 % interval); unclear: neither "
        "shown"
    )
    if not (unclear := {_within(r): r["name"] for r in rows if r["verdict"] == "unclear"}):
        return f"{told}."
    nearest = min(unclear)
    return f"{told}; nearest to equal is {unclear[nearest]}, within ±{100 * nearest:.1f}."


def _within(row: Row) -> float:
    """Return the margin within which two one-sided tests at 5 % call a difference equal."""
    low, high = row["ci90"]
    # Rule of three: what none of n items has shown may still be a share of 3 / n.
    return float(max(-low, high, 3 / row["n"]))


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


def gain(gains: Scores, objective: Objective, seed: int = 0, extra: float = 0.0) -> dict[str, Any]:
    """Return a gain by task and together, with interval and p; `extra` is a second standard error.

    p is the sign-flip test of the items' gains, each weighed as the objective weighs it.
    """
    together, draws = objective.of(gains), bootstrapped(gains, objective, seed=seed)
    below, above = (np.hypot(end - together, 1.96 * extra) for end in spread(draws))
    flat = np.concatenate([objective.weights[t] * g / len(g) for t, g in gains.items()])
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
    heads = brief([t.alias for t in tasks])
    return [[f"task {t.name}", head, kind, False] for t, head in zip(tasks, heads, strict=True)]


def forest(name: str, title: str, rows: Rows, key: str = "difference") -> Section:
    """Return a figure of differences with their intervals."""
    marks = [{"label": r["name"], "value": r[key], "ci95": r["ci95"]} for r in rows]
    return figure("forest", name, title, rows=marks)
