"""Racing: a candidate that is clearly worse on the same items is stopped before the last item.

At each look the candidate's wins and losses against a rival are put to an exact one-sided sign
test; where tasks weigh differently, to the exact sign-flip test of the weighted sum, of which the
sign test is the special case of equal weights. Repeated looks at p < .05 stop an equal candidate
in 5–8 % of races, which costs nothing worth having; `strict` uses an e-value instead, valid at
any stopping time (uniform mixture over win rates below ½: E = 2^(b+c+1) · B(b+1, c+1) · I½(b+1,
c+1)). Optuna's WilcoxonPruner is not used: it splits the many ties between the signs and fades as
items are added. A stopped candidate is told its paired estimate, rival's mean + mean difference
so far, whose noise is far below that of its own partial mean.

In which order items are asked: those that tell candidates apart first, without bias. An item that
all warm starts solve, or none, seldom tells two candidates apart. Items are split by that into two
strata, live and dull; four live ones are asked for every dull one, each stratum in its drawn order,
so what was asked is a random part of each, and estimates weigh the strata by their true sizes. The
order only says when an item is asked: full scores are the same in any order.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaln, ndtr

from merger.errors import UsageError
from merger.registry import unknown
from search.objective import Marks, Scores, means

RULES = {"sign": 0.05, "strict": 20.0, "none": 0.0}
HOPE = 0.1  # the least chance of ending above the best with which a trial goes on
FIRST_LOOK = 50
GROWTH = 1.3
# Weights of tasks are rounded to this many steps of the largest, so that sums lie on a grid.
GRID = 64
# Live items before each dull one.
PACE = 4
# Fewer models than these cannot say which items are dull.
MODELS = 4


class Tally(NamedTuple):
    """Items of one task won and lost against a rival; ties are not counted."""

    wins: int
    losses: int


def gaps(candidate: Scores, rival: Scores) -> Scores:
    """Return candidate − rival on the items the candidate has; the rival may have more."""
    return {task: marks - rival[task][: len(marks)] for task, marks in candidate.items()}


def tally(candidate: Scores, rival: Scores) -> dict[str, Tally]:
    """Count wins and losses per task on the items the candidate has."""
    found = gaps(candidate, rival).items()
    return {task: Tally(int((gap > 0).sum()), int((gap < 0).sum())) for task, gap in found}


def flip_test(counts: Mapping[str, Tally], weights: Mapping[str, float]) -> float:
    """Return the exact p of so low a weighted sum of signs if every sign were a fair coin.

    One-sided: small means that the candidate is worse. Without discordant items it is 1.
    """
    from scipy.stats import binom  # half a second

    steps = {t: round(GRID * w / max(weights.values())) for t, w in weights.items()}
    pairs = [(step, counts[t]) for t, step in steps.items() if step]
    if len({step for step, _ in pairs}) == 1:  # equal weights: the sign test
        b, c = np.sum([t for _, t in pairs], axis=0)
        return float(binom.cdf(b, b + c, 0.5))
    mass: NDArray[np.float64] = np.ones(1)  # of the weighted number of wins, on the grid
    for step, t in pairs:
        n = t.wins + t.losses
        coins = np.zeros(n * step + 1)
        coins[::step] = binom.pmf(np.arange(n + 1), n, 0.5)
        mass = np.convolve(mass, coins)
    seen = sum(step * t.wins for step, t in pairs)
    return min(1.0, float(mass[: seen + 1].sum()))


def e_value(wins: int, losses: int) -> float:
    """Return the evidence against "the candidate wins at least half of the discordant items"."""
    b, c = wins, losses
    log_e = (b + c + 1) * math.log(2) + betaln(b + 1, c + 1)
    return math.exp(min(700.0, log_e)) * float(betainc(b + 1, c + 1, 0.5))


def looks(per_task: int, tasks: int) -> list[int]:
    """Return the items per task at which a race looks: about 50 in all, then 1.3 times as many.

    Growing steps keep the number of looks, and so the false stops, logarithmic, and batches large.
    """
    n, ends = math.ceil(FIRST_LOOK / tasks), []
    while n < per_task:
        ends.append(n)
        n = math.ceil(GROWTH * n)
    return [*ends, per_task]


def worse(
    rule: str, candidate: Scores, rival: Scores, weights: Mapping[str, float]
) -> float | None:
    """Return the evidence if the rule says that the candidate is worse, else None."""
    if rule == "none" or not weights:
        return None
    counts = tally(candidate, rival)
    if rule == "sign":
        p = flip_test(counts, weights)
        return p if p < RULES[rule] else None
    e = e_value(*np.sum([counts[task] for task in weights], axis=0))
    return e if e >= RULES[rule] else None


def check_rule(rule: str, weights: Mapping[str, float]) -> None:
    """Refuse a rule that is none, and strict racing over tasks that weigh differently."""
    if rule not in RULES:
        raise unknown("racing rule", rule, RULES)
    if rule == "strict" and len({round(w, 9) for w in weights.values() if w}) > 1:
        law = "strict racing compares counts, and the tasks' weights differ"
        raise UsageError(law, "Use --racing sign.")


@dataclass(frozen=True)
class Order:
    """Places of one task's items in the order asked, and which of these are live."""

    places: NDArray[np.intp]
    live: NDArray[np.bool_]

    def mean(self, seen: Marks) -> float:
        """Estimate the mean over all items from the first ones in this order."""
        parts = []
        for mask in (self.live, ~self.live):
            known = seen[mask[: len(seen)]]
            if mask.any() and not known.size:  # a stratum not met yet: nothing can weigh it
                return float(seen.mean())
            parts.append(known.mean() * mask.mean() if known.size else 0.0)
        return float(sum(parts))


def plain(n: int) -> Order:
    """Return n items as they were drawn."""
    return Order(np.arange(n), np.ones(n, dtype=bool))


def arrange(seen: Sequence[Marks]) -> Order:
    """Return the order of items that these models' marks suggest."""
    n = len(seen[0])
    if len(seen) < MODELS:
        return plain(n)
    table = np.stack(seen)
    live = table.min(0) != table.max(0)
    # A live item's turn is its rank, a dull one's PACE times its rank: sorting interleaves them.
    rank = np.where(live, np.cumsum(live), PACE * np.cumsum(~live) + 0.5)
    places = np.argsort(rank, kind="stable")
    return Order(places, live[places])


def reordered(marks: Scores, orders: dict[str, Order]) -> Scores:
    """Return full marks in the order asked."""
    return {task: found[orders[task].places] for task, found in marks.items()}


def hopeless(
    candidate: Scores, rival: Scores, orders: Mapping[str, Order], weights: Mapping[str, float]
) -> float | None:
    """Return the chance of ending above the rival on these items if it is below 10 %, else None.

    No claim that the candidate is worse: only that the items left can hardly change who is ahead.
    They are taken to be won and lost alike, as often as those of their stratum that were seen.
    """
    ahead = spread = 0.0
    found = gaps(candidate, rival)
    for task, weight in weights.items():
        n, live, gap = len(rival[task]), orders[task].live, found[task]
        ahead += weight * float(gap.sum()) / n
        for stratum in (live, ~live):
            seen = gap[stratum[: len(gap)]]
            rate = (float((seen**2).sum()) + 0.5) / (len(seen) + 1)
            spread += (weight / n) ** 2 * rate * float(stratum[len(gap) :].sum())
    chance = float(ndtr(ahead / math.sqrt(spread))) if spread else float(ahead > 0)
    return chance if chance < HOPE else None


def paired_estimate(
    candidate: Scores, rival: Scores, orders: Mapping[str, Order]
) -> dict[str, float]:
    """Return the mean of each task on all items, as estimated from those the candidate has."""
    full, found = means(rival), gaps(candidate, rival)
    return {task: full[task] + orders[task].mean(gap) for task, gap in found.items()}


def paired_error(candidate: Scores, rival: Scores, weights: Mapping[str, float]) -> float:
    """Return the standard error of the weighted mean difference on the items seen."""
    found = gaps(candidate, rival)
    return math.sqrt(sum(w**2 * float(found[t].var()) / len(found[t]) for t, w in weights.items()))
