"""Exact Shapley values and synergies of experts, item by item.

φᵢ = Σ_S |S|! (k−|S|−1)! / k! · [v(S ∪ i) − v(S)] over the sets S without i. Shapley is linear in
v, so it is computed on the marks of every item at once, and its interval follows from drawing
items anew. Synergy is the Shapley interaction index (Grabisch and Roubens 1999): what a pair
gives beyond the sum of both, averaged over all surroundings. All 2^k merges are scored; nothing
is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np
from numpy.typing import NDArray

Marks = NDArray[np.float64]
Values = Mapping[frozenset[str], Marks]


def subsets(players: Sequence[str]) -> Iterator[frozenset[str]]:
    """Yield every set of players, the empty one first."""
    for size in range(len(players) + 1):
        yield from map(frozenset, combinations(players, size))


def shapley(values: Values, players: Sequence[str]) -> dict[str, Marks]:
    """Return each player's share of v(all) − v(none), with the shape of the values."""
    k = len(players)
    shares = {}
    for player in players:
        rest = [p for p in players if p != player]
        shares[player] = sum(
            (
                factorial(len(s))
                * factorial(k - len(s) - 1)
                / factorial(k)
                * (values[s | {player}] - values[s])
                for s in subsets(rest)
            ),
            start=np.zeros_like(values[frozenset()]),
        )
    return shares


def synergy(values: Values, players: Sequence[str]) -> dict[tuple[str, str], Marks]:
    """Return what each pair gives beyond the sum of its two, with the shape of the values."""
    k = len(players)
    table = {}
    for i, j in combinations(players, 2):
        rest = [p for p in players if p not in (i, j)]
        table[i, j] = sum(
            (
                factorial(len(s))
                * factorial(k - len(s) - 2)
                / factorial(k - 1)
                * (values[s | {i, j}] - values[s | {i}] - values[s | {j}] + values[s])
                for s in subsets(rest)
            ),
            start=np.zeros_like(values[frozenset()]),
        )
    return table
