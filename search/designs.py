"""Designed candidates of an ablation: what is merged to learn which expert gave what.

Dropping an expert has two readings. *Drop to base*: the expert is replaced by the base, the others'
coefficients stay (so with `mean` the scale shrinks by its share; with `sign` and `ram`, where only
experts that count at an entry are averaged, the scale stays). *Renormalise*: the others' shares are
scaled up to 1 and the scale stays. For `sign` and `ram` the two are one.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

from search.candidate import BASE, Candidate
from search.shapley import subsets
from search.starts import average

# Exact Shapley needs 2^k merges.
MAX_EXACT = 6


def coalition(winner: Candidate, members: Collection[str]) -> Candidate:
    """Return the winner with every expert outside `members` replaced by the base."""
    shares = {name: w for name, w in winner.shares.items() if name in members}
    if not shares:
        return BASE
    if len(shares) == len(winner.weights):
        return winner
    left = sum(shares.values()) if winner.consensus == "mean" else 1.0
    return Candidate.of(shares, winner.scale * left, winner.density, winner.consensus)


def renormalised(winner: Candidate, dropped: str) -> Candidate:
    """Return the winner without an expert, its share given to the others in proportion."""
    weights = {name: w for name, w in winner.weights if name != dropped}
    return Candidate.of(weights, winner.scale, winner.density, winner.consensus)


def without(winner: Candidate, dropped: str) -> Candidate:
    """Return the winner with one expert replaced by the base."""
    return coalition(winner, [name for name in winner.experts if name != dropped])


def coalitions(winner: Candidate) -> dict[frozenset[str], Candidate]:
    """Return the winner's 2^k coalitions; empty above MAX_EXACT experts."""
    if len(winner.experts) > MAX_EXACT:
        return {}
    return {members: coalition(winner, members) for members in subsets(winner.experts)}


def averages(experts: tuple[str, ...]) -> dict[frozenset[str], Candidate]:
    """Return the plain averages of all sets of experts: the warm starts of a search."""
    if len(experts) > MAX_EXACT:
        return {}
    return {s: average(sorted(s, key=experts.index)) if s else BASE for s in subsets(experts)}


def pairs(experts: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return every pair of experts."""
    return list(combinations(experts, 2))
