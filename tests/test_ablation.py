"""Ablations: designs and plans, who gave what, cost and reuse, sections on a run of known truth."""

import math

import numpy as np
import pytest

from evals.task import items
from merger.errors import SearchError, UnknownNameError
from search.ablation import QUICK, Ablation, Absent, Facts, affordable, section_names
from search.ablation import parts as every_part
from search.ablation_curves import barrier, tune
from search.ablation_items import read_curve
from search.asked import Wanted
from search.candidate import BASE, Candidate
from search.complement import agreement, oracle, who_solves
from search.objective import parse
from search.shapley import subsets
from search.starts import warm_starts
from search.tables import ORDER
from search.template import one_turn
from search.variant import averages, by_operator, coalition, renormalised, scaled, variant, without
from tests import synthetic
from tests.synthetic import EXPERTS

QUICKLY = Wanted(quick=True)
WINNER = Candidate.of({"ded": 0.5, "ind": 0.3, "abd": 0.2}, scale=1.2)


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
    assert without(ram, "abd").key == renormalised(ram, "abd").key


def test_a_variant_loses_experts_to_the_base():
    """In a config an expert that is dropped is replaced by the base, or taken off the list."""
    whole = variant(WINNER)
    assert whole.experts == EXPERTS
    dropped, shorter = without(whole, "ind"), renormalised(whole, "ind")
    assert [m["model"] for m in dropped.told()["models"]] == ["ded", "@base", "abd"]
    assert shorter.experts == dropped.experts == ("ded", "abd")
    assert len({whole.key, dropped.key, shorter.key, scaled(whole, 1.5).key}) == 4
    assert without(Candidate.of({"ded": 1}), "ded") == BASE


def test_operators_are_those_that_take_the_experts():
    """Every operator stands in the list that needs nothing but equal weights, none by hand."""
    three, two = by_operator(EXPERTS), by_operator(EXPERTS[:2])
    assert {"linear", "ties", "ram", "model_stock"} <= three.keys()
    assert "nuslerp" in two
    assert not {"nuslerp", "slerp", "consensus"} & three.keys()
    assert set(QUICK.operators) <= three.keys()


def test_averages_are_the_warm_starts():
    """The coalitions of plain averages are candidates that a search has scored already."""
    known = {s.candidate.key for s in warm_starts(EXPERTS)} | {BASE.key}
    assert {c.key for c in averages(subsets(EXPERTS), EXPERTS).values()} <= known


def test_every_item_is_in_one_cell():
    """The cells of who-solves-what hold every item once, and count what the merge keeps."""
    a, b, m = np.array([1, 1, 0, 0.0]), np.array([1, 0, 1, 0.0]), np.array([1, 0, 0, 1.0])
    rows = who_solves({"a": {"t": a}, "b": {"t": b}}, {"t": m})
    table = {r["name"]: (r["items"], r["merged"], r["lost"]) for r in rows}
    assert table == {"all": (1, 1, 0), "only a": (1, 0, 1), "only b": (1, 0, 1), "none": (1, 1, 0)}
    many = {str(i): {"t": (np.arange(40) % (i + 2) == 0) * 1.0} for i in range(6)}
    rows = who_solves(many, {"t": np.ones(40)})
    assert sum(r["items"] for r in rows) == sum(r["merged"] for r in rows) == 40
    assert len(rows) == 1 + 6 + 4 + 1


COUNTS = (40.5, 30.5, 10.5, 20.5)


def test_agreement_is_yules_q():
    """Q is 1 for equal experts, −1 for opposite ones, 0 for independent ones."""
    x = np.array([1, 1, 0, 0.0])
    pairs = {"same": x, "other": 1 - x, "half": np.array([1, 0, 1, 0.0])}
    found = {n: agreement({"x": {"t": x}, n: {"t": y}})[0]["q"] for n, y in pairs.items()}
    assert found == {"same": 1.0, "other": -1.0, "half": 0.0}


def test_the_interval_of_yules_q_is_woolfs():
    """Counts 40, 30 together and 10, 20 apart: Woolf's interval by hand."""
    x = np.array([1.0] * 50 + [0.0] * 50)
    y = np.array([1.0] * 40 + [0.0] * 10 + [0.0] * 30 + [1.0] * 20)
    row = agreement({"x": {"t": x}, "y": {"t": y}})[0]
    odds, se = math.log(40.5 * 30.5 / (10.5 * 20.5)), math.sqrt(sum(1 / c for c in COUNTS))
    wanted = [(math.exp(o) - 1) / (math.exp(o) + 1) for o in (odds - 1.96 * se, odds + 1.96 * se)]
    assert row["q_ci95"] == pytest.approx(wanted)
    assert wanted[0] < row["q"] < wanted[1]


def test_the_oracle_multiplies_failures():
    """All fail with the product of their chances; pass@k is exact when every sample is right."""
    ours, theirs = oracle({"a": {"t": np.array([[1, 0.0]])}, "b": {"t": np.array([[1, 1.0]])}}, "b")
    assert (ours["t"][0], theirs["t"][0]) == (1.0, 1.0)
    ours, theirs = oracle({"a": {"t": np.array([[1, 0.0]])}, "b": {"t": np.array([[1, 0.0]])}}, "b")
    assert (ours["t"][0], theirs["t"][0]) == (0.75, 1.0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Return the ablation of a finished search."""
    search = synthetic.search(tmp_path_factory.mktemp("run") / "r", trials=12)
    search.go()
    search.world.pools.sealed.clear()
    facts = Facts(trials=search.study.trials(), run={"seed": "0"},
                  tensors=("model.layers.0.mlp.w", "model.layers.1.self_attn.q.w"))  # fmt: skip
    return Ablation(search.world, WINNER, EXPERTS, search.objective, QUICKLY, facts=facts)


def test_what_the_search_paid_for_is_free(parts):
    """The uniform Shapley table costs nothing after a search; the experts alone little."""
    assert parts.cost(["shapley_uniform"]) == (0, 0, 0)
    merges, answers, _ = parts.cost(["who_solves"])
    assert merges <= 4
    assert answers == merges * 3 * 40


def test_the_cost_is_told_without_merging(parts):
    """What a report costs is known before a single merge is made."""
    merged = parts.world.holder.merged
    before = merged.applied
    assert parts.cost(section_names(None)).merges > 0
    assert merged.applied == before


def test_cost_is_what_is_paid(parts):
    """The announced answers are those generated, and a second report generates none."""
    names = section_names(None)
    _, answers, readings = parts.cost(names)
    before = len(parts.world.answerer.asked)
    report = {name: parts.section(name) for name in names}
    assert len(parts.world.answerer.asked) - before == answers > 0
    assert parts.cost(names) == (0, 0, 0)
    assert readings == 0
    absent = {name for name, found in report.items() if found.get("missing")}
    assert absent == {"geometry", "domain"}


def test_sections_beyond_the_budget_are_left_out(parts):
    """With no merge to spend, only what is known already is made; all are in the set order."""
    fresh = Ablation(parts.world, scaled(WINNER, 0.9), EXPERTS, parts.goal, QUICKLY,
                     facts=parts.facts)  # fmt: skip
    kept = affordable(fresh, section_names(None), 0)
    assert "shapley_uniform" in kept
    assert "shapley" not in kept
    assert affordable(fresh, section_names(None), None) == [
        n for n in ORDER if n in section_names(None)
    ]


def test_shares_add_up(parts):
    """Shapley shares sum to winner − base, task by task and together, each within its interval."""
    *rows, total = parts.section("shapley")["tables"][0]["rows"]
    for key in ["value", *(f"task {t.name}" for t in synthetic.TASKS)]:
        assert sum(r[key] for r in rows) == pytest.approx(total[key])
    assert all(r["ci95"][0] <= r["value"] <= r["ci95"][1] for r in rows)
    assert [r["name"] for r in rows] == list(EXPERTS)


def test_every_effect_has_all_its_statistics(parts):
    """A row of an effect states n, both intervals, p, Holm's p, what could be seen, a verdict."""
    for name in ("scoreboard", "leave_one_out", "operators", "density", "scale", "resets"):
        rows = [r for t in parts.section(name)["tables"] for r in t["rows"] if "verdict" in r]
        assert rows, name
        for row in rows:
            assert row["n"] == 120
            assert row["ci95"][0] <= row["difference"] <= row["ci95"][1]
            assert row["p"] <= row["p_holm"] <= 1
            assert row["verdict"] in ("better", "worse", "equal", "unclear")


def test_no_item_chooses_its_own_scale(parts):
    """A tuned mark comes from the scale that is best on the other folds."""
    one = {t.name: np.zeros(40) for t in synthetic.TASKS}
    lucky = {t: m.copy() for t, m in one.items()}
    for marks in lucky.values():
        marks[0] = 1.0  # right in fold 0 alone: chosen by the other folds, never by its own
    tuned = tune({1.0: one, 2.0: lucky}, parts)
    assert all(marks.sum() == 0 for marks in tuned.values())


def test_a_barrier_is_a_fall_below_the_chord(parts):
    """The barrier of a V is its depth, and of a hill none; its interval holds it."""

    def level(p):
        return {t.name: (np.arange(200) < 200 * p).astype(float) for t in synthetic.TASKS}

    at, depth, ends = barrier({0.0: level(0.8), 0.5: level(0.3), 1.0: level(0.6)}, parts)
    assert (at, depth) == (0.5, pytest.approx(0.4))
    assert 0 < ends[0] < 0.4 < ends[1]
    assert barrier({0.0: level(0.2), 0.5: level(0.9), 1.0: level(0.2)}, parts)[1] < 0


def test_a_minimum_is_explained_by_the_mean(parts):
    """Minima do not add up: under `min` the mean is shared out."""
    objective = parse("min", [t.name for t in synthetic.TASKS])
    assert Ablation(parts.world, WINNER, EXPERTS, objective).objective.kind == "mean"


def test_curves_of_training_are_compared_by_seed(parts, tmp_path):
    """Two seeds give an interval, one gives a warning instead; a torn line is named."""
    for i, base in enumerate((0.5, 0.52, 0.2, 0.24)):
        lines = [f'{{"step": {s}, "correct": {base + s / 100}}}' for s in range(20)]
        (tmp_path / f"{i}.jsonl").write_text("\n".join(lines))
    runs = [read_curve(tmp_path / f"{i}.jsonl") for i in range(4)]
    parts.facts = Facts(logs={"merged": runs[:2], "base": runs[2:]})
    rows = parts.section("domain")["tables"][0]["rows"]
    assert rows[-1]["difference"] == pytest.approx(0.29)
    assert rows[-1]["ci95"][0] < 0.29 < rows[-1]["ci95"][1]
    parts.facts = Facts(logs={"merged": runs[:1], "base": runs[2:3]})
    assert "One seed" in " ".join(parts.section("domain")["notes"])
    (tmp_path / "0.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(SearchError, match=r"0\.jsonl:1"):
        read_curve(tmp_path / "0.jsonl")


def test_samples_can_be_declined():
    """Without samples there is no oracle, and the section says what would pay for it."""
    world = synthetic.world()
    plain = Ablation(world, WINNER, EXPERTS, parse("mean", ["t"]), Wanted(samples=0))
    with pytest.raises(Absent, match="--samples"):
        next(every_part()["oracle"].make(plain))


def test_another_template_asks_the_same_in_one_turn():
    """The question is the task's, all in one message, and its answers are kept apart."""
    task = synthetic.TASKS[0]
    (item,) = items(task, n=1, split="test", seed=0)
    other = one_turn(task)
    (said,) = other.messages(item)
    assert [m["content"] in said["content"] for m in task.messages(item)] == [True, True]
    assert said["role"] == "user"
    assert other.contract != task.contract
    assert other.check(f"</think><answer>{item.answer}</answer>", item).correct


def test_an_unknown_section_is_named():
    """A typo in --sections is answered with the nearest name."""
    assert section_names("shapley, oracle") == ["shapley", "oracle"]
    with pytest.raises(UnknownNameError, match="shaply"):
        section_names("shaply")


@pytest.mark.parametrize("experts", [("ded", "ind"), (*EXPERTS, "v", "w", "x", "y", "z")])
def test_two_to_eight_experts(experts, tmp_path):
    """Sections on experts take two experts, and eight, whose shares are sampled and still sum."""
    world = synthetic.world(tmp_path / "l.sqlite", n=6, confirm=9)
    world.pools.sealed.clear()
    winner = Candidate.of(dict.fromkeys(experts, 1.0), scale=1.2)
    goal = parse("mean", [t.name for t in synthetic.TASKS])
    made = Ablation(world, winner, experts, goal, QUICKLY)
    *rows, total = made.section("shapley")["tables"][0]["rows"]
    assert sum(r["value"] for r in rows) == pytest.approx(total["value"])
    assert len(rows) == len(experts)
    assert made.section("leave_one_out")["tables"][0]["rows"]
    cells = made.section("who_solves")["tables"][0]["rows"]
    assert sum(r["items"] for r in cells) == 27
    assert made.section("simplex")["missing"]
