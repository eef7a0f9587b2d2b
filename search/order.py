"""In which order a race asks its items: those that tell candidates apart first, without bias.

An item that all warm starts solve, or none, seldom tells two candidates apart. Items are split by
that into two strata, live and dull; four live ones are asked for every dull one, each stratum in
its drawn order, so what was asked is a random part of each, and estimates weigh the strata by their
true sizes. The order only says when an item is asked: full scores are the same in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.objective import Marks, Scores

# Live items before each dull one.
PACE = 4
# Fewer models than these cannot say which items are dull.
MODELS = 4


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
