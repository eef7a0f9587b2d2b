"""Shapley shares: exact against permutations, sampled against exact, both summing to the whole."""

from itertools import permutations

import numpy as np
import pytest

from search.shapley import arrivals, orders, sampled, shapley, subsets, synergy


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return {s: rng.random((3, 5)) for s in subsets("abcd")}


def test_shares_sum_to_the_whole(values):
    """Shares add up to v(all) − v(none), entry by entry, exact or sampled."""
    whole = values[frozenset("abcd")] - values[frozenset()]
    assert sum(shapley(values, "abcd").values()) == pytest.approx(whole)
    drawn = sampled(values, orders("abcd", 3))
    assert sum(s.mean(axis=0) for s in drawn.values()) == pytest.approx(whole)


def test_shares_are_means_over_orders(values):
    """A share is the mean of what a player adds over all orders of arrival."""
    found = shapley(values, "abcd")
    every = sampled(values, [o for p in permutations("abcd") for o in (p, p[::-1])])
    for player in "abcd":
        assert every[player].mean(axis=0) == pytest.approx(found[player])


def test_drawn_orders_are_few_and_fixed():
    """Eight players need far fewer than 256 merges, and a seed gives the same ones."""
    players = "abcdefgh"
    sets = {s for o in orders(players, seed=3) for s in arrivals(o)}
    assert len(sets) <= 16 * 7 + 2
    assert {frozenset(), frozenset(players)} <= sets
    assert orders(players, seed=3) == orders(players, seed=3) != orders(players, seed=4)


def test_synergy_of_two_is_what_the_pair_adds():
    """For two players synergy is v(ab) − v(a) − v(b) + v(); without interaction it is 0."""
    v = {s: np.array(float(len(s) == 2)) for s in subsets("ab")}
    assert synergy(v, "ab")["a", "b"] == pytest.approx(1.0)
    flat = {s: np.array(float(len(s))) for s in subsets("abc")}
    assert all(x == pytest.approx(0.0) for x in synergy(flat, "abc").values())
