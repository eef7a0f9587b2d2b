"""Simulated worlds with known truth: intervals cover, Holm holds its level, the oracle is fair."""

import numpy as np
import pytest

from search.complement import oracle
from search.effects import bootstrapped, effects, gain, spread
from search.objective import parse
from search.shapley import shapley, subsets

TASKS = ("a", "b", "c")
OBJECTIVE = parse("mean", list(TASKS))
WORLDS = 150


def marks(rng, chances):
    """Draw marks of items whose chances are given by task."""
    return {t: (rng.random(len(p)) < p).astype(float) for t, p in chances.items()}


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """The 95 % interval of a paired difference holds the true one in 93 to 97 % of worlds."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(WORLDS * 3):
        ease = {t: rng.beta(2, 2, 80) for t in TASKS}
        better = {t: np.clip(p + 0.08, 0, 1) for t, p in ease.items()}
        ours, theirs = marks(rng, better), marks(rng, ease)
        truth = np.mean([rng_mean(0.08) for _ in TASKS])
        low, high = spread(bootstrapped({t: ours[t] - theirs[t] for t in TASKS}, OBJECTIVE))
        held += low <= truth <= high
    assert 0.93 <= held / (3 * WORLDS) <= 0.97


def rng_mean(shift, n=200_000):
    """Return the mean of clip(p + shift) − p over the ease that items are drawn from."""
    ease = np.random.default_rng(0).beta(2, 2, n)
    return float((np.clip(ease + shift, 0, 1) - ease).mean())


@pytest.mark.slow
def test_shares_cover_and_sum():
    """Intervals of Shapley shares hold the true shares, whose sum is the total in every world."""
    rng, held, tried = np.random.default_rng(2), 0, 0
    effect = {"x": 0.2, "y": 0.1, "z": 0.0}
    chance = {s: 0.3 + sum(effect[p] for p in s) + 0.1 * ({"x", "y"} <= s) for s in subsets("xyz")}
    truth = {"x": 0.25, "y": 0.15, "z": 0.0}
    for _ in range(WORLDS):
        luck = {t: rng.random(60) for t in TASKS}  # one luck an item: merges resemble each other
        values = {t: {s: (luck[t] < chance[s]) * 1.0 for s in chance} for t in TASKS}
        shares = {t: shapley(v, "xyz") for t, v in values.items()}
        rows = {p: gain({t: shares[t][p] for t in TASKS}, OBJECTIVE) for p in "xyz"}
        whole = {t: v[frozenset("xyz")] - v[frozenset()] for t, v in values.items()}
        assert sum(r["value"] for r in rows.values()) == pytest.approx(
            gain(whole, OBJECTIVE)["value"]
        )
        for p in "xy":
            held += rows[p]["ci95"][0] <= truth[p] <= rows[p]["ci95"][1]
            tried += 1
        assert rows["z"]["value"] == pytest.approx(0.0)
    assert 0.93 <= held / tried <= 0.97


@pytest.mark.slow
def test_holm_holds_the_family_error():
    """Among ten merges that are no better, one is called different in at most 5 % of worlds."""
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(WORLDS):
        ease = {t: rng.beta(2, 2, 40) for t in TASKS}
        whole = marks(rng, ease)
        family = {str(i): (marks(rng, ease), whole) for i in range(10)}
        rows = effects(family, OBJECTIVE, margin=0.02)
        wrong += any(r["verdict"] in ("better", "worse") for r in rows)
    assert wrong / WORLDS <= 0.05 + 2 * (0.05 * 0.95 / WORLDS) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("samples", [3, 6])
def test_the_oracle_of_copies_has_no_excess(samples):
    """Three copies of one model, whatever items they like, have no more than three tries of it."""
    rng, found = np.random.default_rng(4), []
    for _ in range(WORLDS):
        ease = rng.beta(0.5, 0.5, 50)
        drawn = {n: {"t": (rng.random((50, samples)) < ease[:, None]) * 1.0} for n in "xyz"}
        ours, theirs = oracle(drawn, "x")
        found.append(float((ours["t"] - theirs["t"]).mean()))
    assert abs(np.mean(found)) < 3 * np.std(found) / WORLDS**0.5


@pytest.mark.slow
def test_the_oracle_finds_what_experts_know_apart():
    """Experts that solve different items have an excess, and it is the true one."""
    rng, found = np.random.default_rng(5), []
    home = np.arange(60) % 3
    for _ in range(WORLDS):
        drawn = {
            str(i): {"t": (rng.random((60, 4)) < np.where(home == i, 0.9, 0.1)[:, None]) * 1.0}
            for i in range(3)
        }
        ours, theirs = oracle(drawn, "0")
        found.append(float((ours["t"] - theirs["t"]).mean()))
    truth = (1 - 0.1 * 0.9**2) - np.mean([1 - 0.1**3, 1 - 0.9**3, 1 - 0.9**3])
    assert np.mean(found) == pytest.approx(truth, abs=3 * np.std(found) / WORLDS**0.5)
