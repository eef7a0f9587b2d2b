"""Shapley values and synergies of experts, item by item: exact up to six, sampled above.

φᵢ = Σ_S |S|! (k−|S|−1)! / k! · [v(S ∪ i) − v(S)] over the sets S without i. Shapley is linear in
v, so it is computed on the marks of every item at once, and its interval follows from drawing
items anew. Synergy is the Shapley interaction index (Grabisch and Roubens 1999): what a pair
gives beyond the sum of both, averaged over all surroundings. Above `MAX_EXACT` players the mean
over orders of arrival is estimated from random orders, each with its reverse (antithetic pairs:
Mitchell et al., arXiv 2104.12199); the shares of every order still sum to the whole.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from math import factorial
from random import Random

import numpy as np

from search.objective import Marks

Values = Mapping[frozenset[str], Marks]

MAX_EXACT = 6  # 2^6 merges
PAIRS = 8  # of orders drawn above that: at most 16 (k − 1) + 2 merges


def subsets(players: Iterable[str]) -> Iterator[frozenset[str]]:
    """Yield every set of players, the empty one first."""
    names = list(players)
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))


def interaction(values: Values, players: Sequence[str], group: Sequence[str]) -> Marks:
    """Return what a group gives beyond its parts, averaged over all surroundings.

    Σ_S |S|! (k−|S|−g)! / (k−g+1)! · Σ_L (−1)^(g−|L|) v(S ∪ L), L ⊆ group; for a group of one
    that is its Shapley value.
    """
    k, g, total = len(players), len(group), np.zeros_like(values[frozenset()])
    for s in subsets(p for p in players if p not in group):
        weight = factorial(len(s)) * factorial(k - len(s) - g) / factorial(k - g + 1)
        for part in subsets(group):
            total += weight * (-1) ** (g - len(part)) * values[s | part]
    return total


def shapley(values: Values, players: Sequence[str]) -> dict[str, Marks]:
    """Return each player's share of v(all) − v(none), with the shape of the values."""
    return {player: interaction(values, players, (player,)) for player in players}


def synergy(values: Values, players: Sequence[str]) -> dict[tuple[str, ...], Marks]:
    """Return what each pair gives beyond the sum of its two, with the shape of the values."""
    return {pair: interaction(values, players, pair) for pair in combinations(players, 2)}


def orders(players: Sequence[str], pairs: int = PAIRS, seed: int = 0) -> list[tuple[str, ...]]:
    """Draw random orders of the players, each followed by its reverse."""
    rng, drawn = Random(f"shapley/{seed}"), []
    for _ in range(pairs):
        order = tuple(rng.sample(list(players), len(players)))
        drawn += [order, order[::-1]]
    return drawn


def arrivals(order: Sequence[str]) -> list[frozenset[str]]:
    """Return the sets that grow as players arrive, from none to all."""
    return [frozenset(order[:i]) for i in range(len(order) + 1)]


def sampled(values: Values, drawn: Sequence[tuple[str, ...]]) -> dict[str, Marks]:
    """Return each player's share by pair of orders: shape (pairs, *values)."""
    table: dict[str, list[Marks]] = {player: [] for player in drawn[0]}
    for order in drawn:
        sets = arrivals(order)
        for player, before, after in zip(order, sets, sets[1:], strict=False):
            table[player].append(values[after] - values[before])
    return {p: (np.stack(adds[::2]) + np.stack(adds[1::2])) / 2 for p, adds in table.items()}
