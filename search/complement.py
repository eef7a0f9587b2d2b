"""Who solves what: whether experts know different things, and whether the merge keeps them.

The honest oracle: an oracle over k experts has k tries, and so has one expert that samples k
answers. What counts is the oracle's excess over pass@k of the best single expert at the same
temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from evals.stats import mcnemar_exact, paired_bootstrap
from search.objective import Marks, Scores


def joined(scores: Scores) -> Marks:
    """Return the marks of all tasks in one array, tasks in their order."""
    return np.concatenate(list(scores.values()))


def who_solves(experts: Mapping[str, Scores], merged: Scores) -> list[dict[str, Any]]:
    """Count the items each set of experts solves, and how many of them the merge solves.

    A graded mark counts as solved from one half on.
    """
    solved = {name: joined(scores) >= 0.5 for name, scores in experts.items()}
    ours = joined(merged) >= 0.5
    rows = []
    for size in range(len(experts), -1, -1):
        for members in combinations(experts, size):
            inside = np.all([solved[n] == (n in members) for n in experts], axis=0)
            kept = int((inside & ours).sum())
            rows.append({"solved_by": list(members), "items": int(inside.sum()), "merged": kept})
    return rows


def agreement(experts: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Compare experts pairwise: items only one solves, exact McNemar, and Yule's Q.

    Q is 1 where they solve the same items, 0 where they are independent, below where they differ.
    """
    rows = []
    for one, other in combinations(experts, 2):
        x, y = (joined(experts[n]) >= 0.5 for n in (one, other))
        both, none = int((x & y).sum()), int((~x & ~y).sum())
        first, second = int((x & ~y).sum()), int((~x & y).sum())
        same, differ = both * none, first * second
        q = (same - differ) / (same + differ) if same + differ else None
        rows.append(
            {
                "pair": [one, other],
                "only_first": first,
                "only_second": second,
                "p": mcnemar_exact(first, second),
                "q": q,
            }
        )
    return rows


def oracle(first: Mapping[str, Marks], best: str, sampled: Marks) -> dict[str, Any]:
    """Compare the oracle over experts with pass@k of the best of them, item by item.

    Args:
        first: marks (items,) of one sampled answer of each expert.
        best: the best expert, chosen on other items: chosen on these, luck would be on its side.
        sampled: marks (items, k) of k of its sampled answers, k = the number of experts.
    """
    any_expert = np.max(np.stack(list(first.values())), axis=0)
    any_try = sampled.max(axis=1)
    excess = any_expert - any_try
    return {
        "n": len(excess),
        "k": sampled.shape[1],
        "oracle": float(any_expert.mean()),
        "best": best,
        "pass_at_k": float(any_try.mean()),
        "excess": float(excess.mean()),
        "ci95": list(paired_bootstrap(excess)),
        "p": mcnemar_exact(int((excess > 0).sum()), int((excess < 0).sum())),
    }
