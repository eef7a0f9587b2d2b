"""Ablations: exact shares against permutations, designs, who solves what, the honest oracle."""

from itertools import permutations

import numpy as np
import pytest

from merger.errors import UnknownNameError
from search.ablation import SECTIONS, Ablation, section_names
from search.candidate import BASE, Candidate
from search.complement import agreement, oracle, who_solves
from search.designs import averages, coalition, renormalised, without
from search.objective import parse
from search.shapley import shapley, subsets, synergy
from tests import synthetic
from tests.synthetic import EXPERTS

WINNER = Candidate.of({"ded": 0.5, "ind": 0.3, "abd": 0.2}, scale=1.2)


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return {s: rng.random((3, 5)) for s in subsets("abcd")}


def test_shares_sum_to_the_whole(values):
    """Shapley shares add up to v(all) − v(none), entry by entry."""
    total = sum(shapley(values, "abcd").values())
    assert total == pytest.approx(values[frozenset("abcd")] - values[frozenset()])


def test_shares_are_means_over_orders(values):
    """A share is the mean of what a player adds over all orders of arrival."""
    found = shapley(values, "abcd")
    for player in "abcd":
        adds = []
        for order in permutations("abcd"):
            before = frozenset(order[: order.index(player)])
            adds.append(values[before | {player}] - values[before])
        assert found[player] == pytest.approx(np.mean(adds, axis=0))


def test_synergy_of_two_is_what_the_pair_adds():
    """For two players synergy is v(ab) − v(a) − v(b) + v(); without interaction it is 0."""
    v = {s: np.array(float(len(s) == 2)) for s in subsets("ab")}
    assert synergy(v, "ab")["a", "b"] == pytest.approx(1.0)
    flat = {s: np.array(float(len(s))) for s in subsets("abc")}
    assert all(x == pytest.approx(0.0) for x in synergy(flat, "abc").values())


def test_dropping_to_base_keeps_the_other_coefficients():
    """With `mean`, scale × share of the others is what it was; renormalising keeps the scale."""
    dropped, fresh = without(WINNER, "abd"), renormalised(WINNER, "abd")
    for name in ("ded", "ind"):
        before = WINNER.scale * WINNER.shares[name]
        assert dropped.scale * dropped.shares[name] == pytest.approx(before)
        assert fresh.shares[name] == pytest.approx(WINNER.shares[name] / 0.8)
    assert fresh.scale == WINNER.scale
    assert coalition(WINNER, ()) == BASE
    assert coalition(WINNER, EXPERTS) is WINNER


def test_dropping_from_a_consensus_keeps_the_scale():
    """With `ram` an absent expert leaves the average at each entry, so the scale stays."""
    ram = Candidate.of(dict(WINNER.weights), 1.2, 0.5, "ram")
    assert without(ram, "abd") == renormalised(ram, "abd") or without(ram, "abd").scale == 1.2
    assert without(ram, "abd").key == renormalised(ram, "abd").key


def test_averages_are_the_warm_starts():
    """The coalitions of plain averages are candidates that a search has scored already."""
    from search.starts import warm_starts

    known = {s.candidate.key for s in warm_starts(EXPERTS)} | {BASE.key}
    assert {c.key for c in averages(EXPERTS).values()} <= known


def test_every_item_is_in_one_cell():
    """The cells of who-solves-what hold every item once, and count what the merge keeps."""
    a, b, m = np.array([1, 1, 0, 0.0]), np.array([1, 0, 1, 0.0]), np.array([1, 0, 0, 1.0])
    rows = who_solves({"a": {"t": a}, "b": {"t": b}}, {"t": m})
    table = {tuple(r["solved_by"]): (r["items"], r["merged"]) for r in rows}
    assert table == {("a", "b"): (1, 1), ("a",): (1, 0), ("b",): (1, 0), (): (1, 1)}


def test_agreement_is_yules_q():
    """Q is 1 for equal experts, −1 for opposite ones, 0 for independent ones."""
    x = np.array([1, 1, 0, 0.0])
    pairs = {"same": x, "other": 1 - x, "half": np.array([1, 0, 1, 0.0])}
    found = {n: agreement({"x": {"t": x}, n: {"t": y}})[0]["q"] for n, y in pairs.items()}
    assert found == {"same": 1.0, "other": -1.0, "half": 0.0}


def test_the_oracle_of_copies_has_no_excess():
    """Three equal experts have no more than three tries of one."""
    rng = np.random.default_rng(0)
    sampled = {n: (rng.random((2000, 3)) < 0.4).astype(float) for n in "abc"}
    found = oracle({n: m[:, 0] for n, m in sampled.items()}, "a", sampled["a"])
    assert abs(found["excess"]) < 0.03
    assert found["ci95"][0] < found["excess"] < found["ci95"][1]
    assert found["pass_at_k"] == pytest.approx(1 - 0.6**3, abs=0.03)


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    search = synthetic.search(tmp_path_factory.mktemp("run") / "r", trials=12)
    search.go()
    search.world.pools.sealed.clear()
    return Ablation(search.world, WINNER, EXPERTS, search.objective)


def test_what_the_search_paid_for_is_free(ablation):
    """The uniform Shapley table and the experts' own scores cost nothing after a search."""
    assert ablation.cost(["shapley_uniform"]) == (0, 0)
    merges, answers = ablation.cost(["who_solves"])
    assert merges <= 3
    assert answers == merges * 3 * 40


def test_cost_is_what_is_paid(ablation):
    """The announced answers are those generated, and a second report generates none."""
    _, answers = ablation.cost(SECTIONS)
    before = len(ablation.world.answerer.asked)
    report = {name: ablation.section(name) for name in SECTIONS}
    assert len(ablation.world.answerer.asked) - before == answers
    assert ablation.cost(SECTIONS) == (0, 0)
    assert "missing" in report["oracle"]


def test_the_report_adds_up(ablation):
    """Shares sum to winner − base, task by task and together, and stand within their interval."""
    section = ablation.section("shapley")
    for task in [t.name for t in synthetic.TASKS]:
        summed = sum(row["tasks"][task] for row in section["rows"])
        assert summed == pytest.approx(section["total"]["tasks"][task])
    assert sum(r["value"] for r in section["rows"]) == pytest.approx(section["total"]["value"])
    assert all(r["ci95"][0] <= r["value"] <= r["ci95"][1] for r in section["rows"])


def test_a_minimum_is_explained_by_the_mean(ablation):
    """Minima do not add up: under `min` the mean is shared out."""
    objective = parse("min", [t.name for t in synthetic.TASKS])
    assert Ablation(ablation.world, WINNER, EXPERTS, objective).objective.kind == "mean"


def test_an_unknown_section_is_named():
    """A typo in --sections is answered with the nearest name."""
    assert section_names("shapley, oracle") == ["shapley", "oracle"]
    with pytest.raises(UnknownNameError, match="shaply"):
        section_names("shaply")
