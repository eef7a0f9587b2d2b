"""Racing: exact tests against independent computations, and error rates by simulation."""

from itertools import product

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binomtest

from merger.errors import UnknownNameError, UsageError
from search.objective import means
from search.racing import (
    Tally,
    arrange,
    check_rule,
    e_value,
    flip_test,
    looks,
    paired_estimate,
    plain,
    tally,
    worse,
)

EVEN = {"a": 0.5, "b": 0.5}


def marks(rng, n, wins, losses):
    """Return a rival's marks and a candidate's, which wins and loses with these chances."""
    u, rival = rng.random(n), (rng.random(n) < 0.5).astype(float)
    gap = np.where(u < wins, 1.0, np.where(u < wins + losses, -1.0, 0.0))
    return {"a": rival + gap}, {"a": rival}


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 9), (10, 2), (0, 6)])
def test_equal_weights_are_the_sign_test(wins, losses):
    """With one weight the flip test is the one-sided binomial test over all discordant items."""
    counts = {"a": Tally(wins, 0), "b": Tally(0, losses)}
    p = binomtest(wins, wins + losses, 0.5, "less").pvalue if wins + losses else 1.0
    assert flip_test(counts, EVEN) == pytest.approx(p)


def test_unequal_weights_are_counted_out():
    """With weights 2 : 1 the flip test equals counting all sign patterns."""
    counts, weights = {"a": Tally(1, 3), "b": Tally(4, 2)}, {"a": 2 / 3, "b": 1 / 3}
    seen = 2 * (1 - 3) + (4 - 2)
    sums = [2 * sum(s[:4]) + sum(s[4:]) for s in product((-1, 1), repeat=10)]
    assert flip_test(counts, weights) == pytest.approx(np.mean([s <= seen for s in sums]))


@pytest.mark.parametrize(("wins", "losses"), [(0, 6), (2, 10), (8, 20), (20, 20)])
def test_e_value_is_its_integral(wins, losses):
    """The closed form is the mixture over win rates below one half, relative to a fair coin."""
    mixed = quad(lambda q: 2 * q**wins * (1 - q) ** losses, 0, 0.5)[0]
    assert e_value(wins, losses) == pytest.approx(mixed * 2.0 ** (wins + losses), rel=1e-6)


def test_e_value_of_a_fair_coin_is_one_on_average():
    """Under the null the expected evidence is 1, so 20 is reached in at most 5 % of races."""
    mean = sum(e_value(b, 12 - b) * binom for b, binom in enumerate(pascal(12))) / 2**12
    assert mean == pytest.approx(1.0, abs=1e-9)


def pascal(n):
    row = [1]
    for k in range(n):
        row.append(row[-1] * (n - k) // (k + 1))
    return row


def test_looks_grow():
    """The first look is at about 50 items in all, each next at a third more, to the end."""
    assert looks(100, 3) == [17, 23, 30, 39, 51, 67, 88, 100]
    assert looks(17, 3) == [17]
    assert looks(10, 3) == [10]


@pytest.mark.parametrize(
    ("rule", "delta", "low", "high"),
    [("sign", 0.0, 0.0, 0.09), ("sign", -0.1, 0.85, 1.0), ("sign", 0.05, 0.0, 0.02),
     ("strict", 0.0, 0.0, 0.03)],
)  # fmt: skip
def test_rates_of_stops(rule, delta, low, high):
    """Equal candidates are seldom stopped, clearly worse ones mostly, better ones almost never."""
    rng, stopped, runs = np.random.default_rng(1), 0, 400
    for _ in range(runs):
        ours, theirs = marks(rng, 200, (0.2 + delta) / 2, (0.2 - delta) / 2)
        parts = ({"a": ours["a"][:end]} for end in looks(200, 1)[:-1])
        stopped += any(worse(rule, part, theirs, {"a": 1.0}) is not None for part in parts)
    assert low <= stopped / runs <= high


def test_the_paired_estimate_is_unbiased_and_quiet():
    """From a quarter of the items it finds the mean on all, with less noise than a partial mean."""
    rng = np.random.default_rng(2)
    errors, partial, order = [], [], {"a": plain(200)}
    for _ in range(500):
        ours, theirs = marks(rng, 200, 0.03, 0.09)
        part = {"a": ours["a"][:50]}
        errors.append(paired_estimate(part, theirs, order)["a"] - means(ours)["a"])
        partial.append(means(part)["a"] - means(ours)["a"])
    assert abs(np.mean(errors)) < 0.005
    assert np.std(errors) < 0.75 * np.std(partial)


def test_the_loser_stays_below_its_rival():
    """A candidate that is stopped is told a value below the rival's."""
    rival = {"a": np.ones(60), "b": np.ones(60)}
    ours = {"a": np.zeros(20), "b": np.ones(20)}
    assert worse("sign", ours, rival, EVEN) is not None
    orders = dict.fromkeys("ab", plain(60))
    assert sum(paired_estimate(ours, rival, orders).values()) < sum(means(rival).values())
    assert tally(ours, rival) == {"a": Tally(0, 20), "b": Tally(0, 0)}


def test_no_weights_no_race():
    """Without weights (a front) nothing is stopped; strict refuses unequal ones."""
    ours, rival = {"a": np.zeros(60), "b": np.zeros(60)}, {"a": np.ones(60), "b": np.ones(60)}
    assert worse("sign", ours, rival, {}) is None
    assert worse("none", ours, rival, EVEN) is None
    with pytest.raises(UsageError, match="weights"):
        check_rule("strict", {"a": 0.9, "b": 0.1})
    with pytest.raises(UnknownNameError):
        check_rule("sgin", EVEN)


def test_telling_items_come_first():
    """Of items that models disagree on, four are asked for every dull one; none is lost."""
    table = [np.r_[np.zeros(8), np.ones(32)] for _ in range(4)]
    table[0] = np.r_[np.ones(8), np.ones(32)]
    order = arrange(table)
    assert sorted(order.places) == list(range(40))
    assert order.live[:10].sum() == 8
    assert set(order.places[order.live]) == set(range(8))


def test_few_models_order_nothing():
    """Fewer than four models cannot say which items are dull."""
    assert list(arrange([np.zeros(5), np.ones(5)]).places) == [0, 1, 2, 3, 4]


def test_estimates_are_unbiased_in_either_stratum():
    """The estimate from the first part is the mean of all, however many items are live."""
    rng, errors, naive = np.random.default_rng(0), [], []
    for _ in range(600):
        live = rng.random(200) < 0.25
        gap = np.where(live, rng.choice([-1.0, 0.0, 1.0], 200, p=[0.5, 0.3, 0.2]), 0.0)
        table = [np.where(live, np.arange(200) % 2 == k % 2, 1.0) for k in range(4)]
        order = arrange(table)
        seen = gap[order.places][:40]
        errors.append(order.mean(seen) - gap.mean())
        naive.append(seen.mean() - gap.mean())
    assert abs(np.mean(errors)) < 0.006 < abs(np.mean(naive))
    assert order.mean(gap[order.places]) == gap.mean()
    assert plain(3).mean(np.array([1.0, 0.0])) == 0.5
