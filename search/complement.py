"""Who solves what: whether experts know different things, and whether the merge keeps them.

The honest oracle: an oracle over k experts has k tries, and so has one expert that samples k
answers. What counts is the oracle's excess over pass@k of the best single expert at the same
temperature. Both are estimated without bias from m ≥ k samples each: of independent experts the
chance that all fail is the product of theirs; pass@k is Chen et al.'s estimator.
"""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from evals.stats import mcnemar_exact, pass_at_k, wilson
from search.objective import Marks, Scores

MAX_CELLS = 4  # experts up to which every set of them has a row of its own


def joined(scores: Scores) -> Marks:
    """Return the marks of all tasks in one array, tasks in their order."""
    return np.concatenate(list(scores.values()))


def who_solves(experts: Mapping[str, Scores], merged: Scores) -> list[dict[str, Any]]:
    """Count the items each set of experts solves, and how many of them the merge solves.

    A graded mark counts as solved from one half on. Above four experts, sets of two and more that
    are not all are counted by their size.
    """
    solved = np.stack([joined(scores) >= 0.5 for scores in experts.values()])
    ours = joined(merged) >= 0.5
    rows = []
    for name, members, inside in _cells(list(experts), solved):
        items, kept = int(inside.sum()), int((inside & ours).sum())
        found = {"name": name, "solved_by": members, "items": items, "merged": kept}
        share = {"kept": kept / items, "ci95": list(wilson(kept, items))} if items else {}
        rows.append(found | {"lost": items - kept} | share)
    return rows


def _cells(names: list[str], solved: Any) -> Iterable[tuple[str, list[str], Any]]:
    """Yield the cells that part the items: a name, the experts that solve it, its items."""
    k, count = len(names), solved.sum(axis=0)
    for size in range(k, -1, -1):
        few = size in (0, 1, k) or k <= MAX_CELLS
        if not few:
            yield f"{size} of {k}", [], count == size
            continue
        for chosen in combinations(range(k), size):
            inside = np.all(solved == np.isin(np.arange(k), chosen)[:, None], axis=0)
            members = [names[i] for i in chosen]
            name = " + ".join(members) if size > 1 else f"only {members[0]}" if size else "none"
            yield ("all" if size == k > 1 else name), members, inside


def agreement(experts: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Compare experts pairwise: items only one solves, exact McNemar, and Yule's Q.

    Q is 1 where they solve the same items, 0 where they are independent, below where they differ.
    Its 95 % interval is that of the log odds ratio (Woolf), half an item added to each count.
    """
    rows = []
    for one, other in combinations(experts, 2):
        x, y = (joined(experts[n]) >= 0.5 for n in (one, other))
        both, none = int((x & y).sum()), int((~x & ~y).sum())
        first, second = int((x & ~y).sum()), int((~x & y).sum())
        same, differ = both * none, first * second
        counts = np.array([both, none, first, second]) + 0.5
        odds = np.log(counts) @ [1, 1, -1, -1]
        ends = odds + np.array([-1.96, 1.96]) * np.sqrt((1 / counts).sum())
        rows.append(
            {
                "pair": f"{one} / {other}",
                "only": [first, second],
                "p": mcnemar_exact(first, second),
                "q": (same - differ) / (same + differ) if same + differ else None,
                "q_ci95": np.tanh(ends / 2).tolist(),
            }
        )
    return rows


def oracle(experts: Mapping[str, Scores], best: str) -> tuple[Scores, Scores]:
    """Return, item by item, what an oracle over the experts solves and what `best` does in as many.

    Args:
        experts: for each expert and task, the mean mark (items,) or all marks (items, m) of m
            samples, m at least the number of experts.
        best: the best expert, chosen on other items: chosen on these, luck would be on its side.
    """
    k = len(experts)
    ours, theirs = {}, {}
    for task, marks in experts[best].items():
        fails = [1 - found[task].mean(axis=1) for found in experts.values()]
        ours[task] = 1 - np.prod(fails, axis=0)
        m = marks.shape[1]
        theirs[task] = np.array([pass_at_k(int((row >= 0.5).sum()), m, k) for row in marks])
    return ours, theirs
