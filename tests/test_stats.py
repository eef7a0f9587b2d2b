"""The statistics against scipy, closed forms, and their own promises by simulation."""

import math

import numpy as np
import pytest
import scipy.stats as sps
from hypothesis import given
from hypothesis import strategies as st

from evals import stats
from merger.errors import UsageError

counts = st.integers(0, 60)


@given(n=st.integers(1, 400), share=st.floats(0, 1), level=st.sampled_from([0.9, 0.95, 0.99]))
def test_wilson_is_scipys(n, share, level):
    """Wilson's interval is the one scipy computes."""
    k = round(n * share)
    low, high = sps.binomtest(k, n).proportion_ci(level, method="wilson")
    assert stats.wilson(k, n, level) == pytest.approx((low, high), abs=1e-12)


def test_wilson_of_nothing_is_everything():
    """No trials, no claim; and the ends are never left by rounding."""
    assert stats.wilson(0, 0) == (0.0, 1.0)
    assert stats.wilson(0, 7).low == 0.0
    assert stats.wilson(7, 7).high == 1.0


@given(b=counts, c=counts)
def test_mcnemar_is_the_binomial_test(b, c):
    """Exact McNemar is the two-sided binomial test on the discordant pairs."""
    expected = sps.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert stats.mcnemar_exact(b, c) == pytest.approx(expected)


def test_mean_interval_is_the_t_interval():
    """The interval of a mean is Student's."""
    x = [0.1, 0.5, 0.9, 0.4]
    low, high = sps.t.interval(0.95, 3, loc=np.mean(x), scale=sps.sem(x))
    assert stats.mean_interval(x) == pytest.approx((low, high))
    assert stats.mean_interval([1.0]) == (-math.inf, math.inf)


def test_bootstrap_agrees_with_scipys_bca():
    """For few items the interval is BCa, as scipy computes it, up to resampling noise."""
    d = np.array([1, 0, 0, 1, -1, 0, 1, 1, 0, 0, 1, 0, -1, 0, 1, 1, 0, 0, 0, 1], dtype=float)
    reference = sps.bootstrap(
        (d,), np.mean, n_resamples=50_000, random_state=np.random.default_rng(1)
    )
    ours = stats.paired_bootstrap(d, n=50_000)
    assert ours == pytest.approx(tuple(reference.confidence_interval), abs=0.051)


def test_bootstrap_repeats_and_degenerates_honestly():
    """The same seed gives the same interval; equal differences give a point; none, everything."""
    d = [1.0, 0.0, -1.0, 1.0] * 40
    assert stats.paired_bootstrap(d, seed=3) == stats.paired_bootstrap(d, seed=3)
    assert stats.paired_bootstrap([0.25] * 9) == pytest.approx((0.25, 0.25))
    assert stats.paired_bootstrap([]) == (-math.inf, math.inf)


def test_copies_of_items_do_not_shrink_a_clustered_interval():
    """Tripling every item adds nothing when the copies are one cluster."""
    d = np.array([1.0, 0.0, -1.0, 1.0, 0.0] * 30)
    alone = stats.paired_bootstrap(d)
    clusters = np.repeat(np.arange(d.size), 3).tolist()
    assert stats.paired_bootstrap(np.repeat(d, 3), clusters) == pytest.approx(alone)
    naive = stats.paired_bootstrap(np.repeat(d, 3))
    assert naive.high - naive.low < 0.7 * (alone.high - alone.low)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_never_smaller_and_keeps_the_order(ps):
    """Adjusted p values are at least the raw ones, at most 1, and in the same order."""
    adjusted = stats.holm(ps)
    assert all(p <= a <= 1 for p, a in zip(ps, adjusted, strict=True))
    ranked = [a for _, a in sorted(zip(ps, adjusted, strict=True))]
    assert ranked == sorted(ranked)
    assert min(adjusted) == pytest.approx(min(1.0, len(ps) * min(ps)))


def test_holm_by_hand():
    """The textbook example."""
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_mde_is_the_power_formula():
    """16 % discordant pairs at n = 100 show 11.2 points, as the normal power formula says."""
    assert stats.mde(100, 0.4) == pytest.approx((1.959964 + 0.841621) * 0.04, rel=1e-5)
    n = stats.items_for(0.02, 0.10)
    assert stats.mde(n, math.sqrt(0.10)) <= 0.02 < stats.mde(n - 1, math.sqrt(0.10))


def test_the_margin_is_where_two_t_tests_give_five_percent():
    """Equivalence is the larger p of two one-sided t tests; without spread one pair is assumed."""
    d = np.array([0.1, -0.1, 0.05, 0.0, 0.1, -0.9])
    margin = stats.tost_margin(d)
    upper = sps.ttest_1samp(d, margin, alternative="less").pvalue
    lower = sps.ttest_1samp(d, -margin, alternative="greater").pvalue
    assert max(upper, lower) == pytest.approx(0.05)
    assert stats.tost_margin(np.zeros(400)) == pytest.approx(1.649 / 400, rel=1e-3)
    assert stats.tost_margin([0.3]) == 1.0


@given(n=st.integers(1, 12), data=st.data())
def test_pass_at_k_counts_subsets(n, data):
    """pass@k is the share of k-subsets that hold a right sample."""
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    expected = 1 - math.comb(n - c, k) / math.comb(n, k)
    assert stats.pass_at_k(c, n, k) == pytest.approx(expected)
    assert math.isnan(stats.pass_at_k(c, n, n + 1))


def test_compare_counts_pairs():
    """A comparison is b minus a, item by item, with the exact p."""
    a, b = [0, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1]
    result = stats.compare(a, b)
    assert (result.n, result.wins, result.losses) == (6, 3, 1)
    assert result.difference == pytest.approx(2 / 6)
    assert result.p == stats.mcnemar_exact(3, 1)
    with pytest.raises(UsageError):
        stats.compare([0, 1], [0])


def test_graded_scores_are_compared_by_sign_flips():
    """The sign-flip p is the exact permutation p, up to its resolution."""
    d = np.array([0.3, 0.1, -0.2, 0.4, 0.05, 0.2])
    exact = sps.permutation_test(
        (d, 0 * d), lambda x, y: np.mean(x - y), permutation_type="samples"
    )
    assert stats.sign_flip(d) == pytest.approx(exact.pvalue, abs=0.02)
    assert stats.compare(0 * d, d).p == stats.sign_flip(d)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "gain"), [(40, 0.0), (150, 0.05)])
def test_the_paired_interval_covers_the_truth(n, gain):
    """95 % intervals hold the true difference in 93 to 97.5 of 100 simulated comparisons."""
    rng, hits, runs = np.random.default_rng(0), 0, 600
    for seed in range(runs):
        d = rng.choice([1, -1, 0], p=[0.1 + gain, 0.1, 0.8 - gain], size=n).astype(float)
        low, high = stats.paired_bootstrap(d, n=1000, seed=seed)
        hits += low <= gain <= high
    assert 0.925 <= hits / runs <= 0.98


@pytest.mark.slow
def test_mcnemar_rarely_cries_wolf():
    """Equal models are called different in at most 5 of 100 comparisons."""
    rng = np.random.default_rng(0)
    b, c, _ = rng.multinomial(200, [0.08, 0.08, 0.84], size=4000).T
    wrong = [stats.mcnemar_exact(x, y) < 0.05 for x, y in zip(b.tolist(), c.tolist(), strict=True)]
    assert np.mean(wrong) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("n", "p"), [(30, 0.107), (100, 0.98), (500, 0.396)])
def test_wilson_covers_where_the_normal_interval_does_not(n, p):
    """Near the ends and with few items too, 94 to 98 of 100 intervals hold the true share."""
    held = [stats.wilson(k, n).low <= p <= stats.wilson(k, n).high for k in range(n + 1)]
    assert 0.94 <= sps.binom.pmf(range(n + 1), n, p) @ held <= 0.98
    mean = np.arange(n + 1) / n
    normal = abs(mean - p) <= 1.96 * np.sqrt(mean * (1 - mean) / n)
    assert sps.binom.pmf(range(n + 1), n, p) @ normal < (0.88 if n < 500 else 0.96)


@pytest.mark.slow
def test_clustered_and_averaged_scores_are_covered():
    """60 templates of 4 items that fall together, and 30 problems of 8 answers: 93 to 97.5 %."""
    rng, clusters, whole, means = np.random.default_rng(1), np.repeat(np.arange(60), 4), 0, 0
    for seed in range(600):
        d = np.repeat(rng.normal(0.1, 0.3, 60), 4) + rng.normal(0, 0.3, 240)
        low, high = stats.paired_bootstrap(d, clusters.tolist(), n=1000, seed=seed)
        whole += low <= 0.1 <= high
        solved = rng.binomial(8, rng.beta(2, 2, 30)) / 8
        low, high = stats.mean_interval(solved)
        means += low <= 0.5 <= high
    assert 0.925 <= whole / 600 <= 0.975
    assert 0.925 <= means / 600 <= 0.975


@pytest.mark.slow
def test_a_visible_difference_is_seen_four_times_out_of_five():
    """At the difference that `mde` names the exact test finds 70 to 88 of 100."""
    rng, n, share = np.random.default_rng(2), 400, 0.2
    gain = stats.mde(n, math.sqrt(share))
    p = [(share + gain) / 2, (share - gain) / 2, 1 - share]
    b, c, _ = rng.multinomial(n, p, size=2000).T
    seen = [stats.mcnemar_exact(x, y) < 0.05 for x, y in zip(b.tolist(), c.tolist(), strict=True)]
    assert 0.7 <= np.mean(seen) <= 0.88


@pytest.mark.slow
def test_no_test_errs_more_often_than_it_says():
    """Sign flips on equal models, any of five under Holm, and TOST at its margin: 5 % at most."""
    rng, flips, family, alike = np.random.default_rng(3), 0, 0, 0
    for seed in range(800):
        d = rng.uniform(-1, 1, 40)
        flips += stats.sign_flip(d, n=400, seed=seed) < 0.05
        family += min(stats.holm(rng.uniform(size=5).tolist())) < 0.05
        alike += stats.tost_margin(rng.normal(0.1, 0.3, 60)) < 0.1
    slack = 3 * math.sqrt(0.05 * 0.95 / 800)
    assert max(flips, family, alike) / 800 <= 0.05 + slack
    assert min(flips, family, alike) / 800 >= 0.05 - slack
