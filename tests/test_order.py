"""The order of items: telling ones first, and estimates that stay unbiased."""

import numpy as np

from search.order import arrange, plain


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
