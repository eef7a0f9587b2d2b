"""From shortlist to verdict: frozen before confirmed, paired, corrected, parsimonious."""

import hashlib
import json

import numpy as np
import pytest

from evals.stats import mcnemar_exact
from merger.errors import SearchError
from search.candidate import BASE, Candidate
from search.confirm import confirm, in_words, kept, overall, shortlist
from search.effects import BETTER, SAME, WORSE, corrected, resampled, versus
from search.objective import parse
from search.report import search_report
from search.run import Options, Run
from search.space import Space
from search.starts import average, references
from search.trial import Trial
from search.winner import selection
from tests import synthetic
from tests.synthetic import EXPERTS, interrupt_at, ledger_rows, truth

MEAN = parse("mean", ["a", "b"])


def drawn(rng, n, gain, tasks=("a", "b")):
    """Return scores of two models whose true difference is `gain`."""
    ours, theirs = {}, {}
    for task in tasks:
        ease = rng.random(n)
        theirs[task] = (ease < 0.5).astype(float)
        flip = rng.random(n) < 0.1
        ours[task] = np.where(flip, 1 - theirs[task], ease < 0.5 + gain).astype(float)
    return ours, theirs


def test_confirm_items_are_sealed():
    """Confirm items cannot be drawn before the seal is taken off."""
    world = synthetic.world()
    with pytest.raises(SearchError, match="sealed"):
        world.answers(BASE, "confirm")
    world.pools.sealed.clear()
    assert len(world.answers(BASE, "confirm", 3)["first"]) == 3


def test_the_winner_is_frozen_before_confirm_items_are_opened(tmp_path):
    """The ledger has no confirm row when frozen.json appears; every later row is of confirm."""
    folder = tmp_path / "r"
    search = synthetic.search(folder)
    search._search(search._prepare())
    search._select()
    before = ledger_rows(folder)
    frozen = json.loads((folder / "frozen.json").read_text())
    assert not any("/confirm/" in item for _, item in before)
    document = synthetic.search(folder).go()
    after = ledger_rows(folder)
    assert after[: len(before)] == before
    assert all("/confirm/" in item for _, item in after[len(before) :])
    assert document["frozen"]["fingerprint"] == frozen["fingerprint"]
    text = json.dumps(frozen["candidate"], sort_keys=True).encode()
    assert frozen["sha256"] == hashlib.sha256(text).hexdigest()


def test_guards_are_scored_for_finalists_alone(tmp_path):
    """Only the winner and its references answer them; report and model card say the scores."""
    search = synthetic.search(tmp_path / "r")
    search.guards = synthetic.world(tasks=(synthetic.task("kept"),), confirm=20)
    document = search.go()
    finalists = [document["frozen"], *document["references"].values()]
    assert {key for key, _ in search.guards.answerer.asked} == {f["key"] for f in finalists}
    (shown,) = search_report(search, document)["sections"]["guard"]["tables"]
    told = {row["name"]: row["task kept"] for row in shown["rows"]}
    assert told == {name: row["kept"] for name, row in document["guard"].items()}
    stands = document["guard"][document["kept"]]["kept"]
    assert f"ke {100 * stands:.1f}" in selection(search, document)["guard tasks"]


def test_a_frozen_winner_stays(tmp_path):
    """A run paused while it confirms keeps its winner: frozen.json is not written again."""
    folder = tmp_path / "r"
    with pytest.raises(KeyboardInterrupt):
        synthetic.search(folder, stop=frozen_then_paused(folder)).go()
    frozen = (folder / "frozen.json").read_bytes()
    trials = synthetic.search(folder).study.finished()
    search = synthetic.search(folder)
    search.go()
    assert (folder / "frozen.json").read_bytes() == frozen
    assert search.study.finished() == trials


def frozen_then_paused(folder):
    """Interrupt when the second group of confirm answers is asked for."""
    asked_since = []

    def stop(asked):
        if (folder / "frozen.json").exists():
            asked_since.append(asked)
            interrupt_at(2)(len(asked_since))

    return stop


def trial(number, value, raced=False, mark=None):
    candidate = Candidate.of({"ded": 1.0, "ind": 0.1 * (number + 1)})
    facts = {"means": {"a": value, "b": value}, "raced_out": raced}
    facts["fingerprint"] = mark or str(number)
    return Trial(number, "COMPLETE", candidate, "gp", (value,), facts, 1.0)


def test_the_shortlist_holds_the_best_that_saw_everything():
    """Raced-out trials do not stand on it, equal weights stand once, equal values by age."""
    trials = [
        trial(0, 0.5),
        trial(1, 0.9, raced=True),
        trial(2, 0.7, mark="x"),
        trial(3, 0.7, mark="x"),
    ]
    trials.append(trial(4, 0.5))
    short = shortlist([(Space(EXPERTS), trials)], MEAN, 3)
    assert short == [trials[2].candidate, trials[0].candidate, trials[4].candidate]


def test_a_comparison_agrees_with_independent_figures():
    """Difference, wins and exact p are those of a plain McNemar test on all items."""
    from scipy.stats import binomtest

    ours, theirs = drawn(np.random.default_rng(0), 200, 0.1)
    found = versus("x", ours, theirs, MEAN)
    gap = np.concatenate([ours[t] - theirs[t] for t in ours])
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    assert (found["wins"], found["losses"], found["n"]) == (wins, losses, 400)
    assert found["difference"] == pytest.approx(gap.mean())
    assert found["p"] == pytest.approx(binomtest(wins, wins + losses).pvalue)
    error = gap.std() / np.sqrt(400)
    assert found["ci95"] == pytest.approx(
        (gap.mean() - 1.96 * error, gap.mean() + 1.96 * error), abs=0.01
    )


def test_weights_reach_difference_and_interval():
    """Under weighted:a=1 only the first task decides."""
    objective = parse("weighted:a=1", ["a", "b"])
    ours = {"a": np.ones(50), "b": np.zeros(50)}
    theirs = {"a": np.zeros(50), "b": np.ones(50)}
    (found,) = corrected([versus("x", ours, theirs, objective)])
    assert (found["difference"], found["verdict"]) == (1.0, BETTER)
    assert corrected([versus("x", theirs, ours, objective)])[0]["verdict"] == WORSE


def test_the_worst_task_is_compared_as_such():
    """For `min` the difference is of minima, and its p comes from the bootstrap."""
    objective = parse("min", ["a", "b"])
    rng = np.random.default_rng(1)
    low, high = (rng.random(200) < 0.3).astype(float), (rng.random(200) < 0.8).astype(float)
    (found,) = corrected([versus("x", {"a": high, "b": high}, {"a": low, "b": high}, objective)])
    assert found["difference"] == pytest.approx(high.mean() - low.mean())
    assert (found["verdict"], found["p"] < 0.001) == (BETTER, True)


def test_holm_can_take_a_verdict_back():
    """What one test alone calls better is not distinguishable in a family of many."""
    ours = {"a": np.r_[np.ones(8), np.zeros(42)], "b": np.zeros(50)}
    theirs = {"a": np.r_[np.zeros(7), np.ones(1), np.zeros(42)], "b": np.zeros(50)}
    one = versus("x", ours, theirs, MEAN)
    assert corrected([one])[0]["verdict"] == BETTER
    assert {c["verdict"] for c in corrected([one] * 6)} == {SAME}


def comparison(reference, verdict):
    ours, theirs = drawn(np.random.default_rng(0), 20, 0.0)
    return versus(reference, ours, theirs, MEAN) | {"verdict": verdict}


def test_a_simple_recipe_stays_unless_beaten():
    """The first simple reference that is not beaten stands; what is the winner itself ends it."""
    family = [comparison("base", BETTER), comparison("paper", BETTER), comparison("uniform", SAME)]
    assert kept(family) == "uniform"
    assert kept(family, prefer="best") == "winner"
    assert kept(family[:2]) == "winner"
    assert kept([family[2]], same={"paper"}) == "winner"
    assert "Kept: uniform" in in_words(family, "uniform")


def test_the_overall_verdict_is_the_weakest():
    """Better means better than every reference; worse than one is worse."""
    assert overall([comparison("a", BETTER)] * 2) == BETTER
    assert overall([comparison("a", BETTER), comparison("b", SAME)]) == SAME
    assert overall([comparison("a", BETTER), comparison("b", WORSE)]) == WORSE
    assert overall([comparison("a", BETTER)], same={"paper"}) == SAME
    assert "same model as paper" in in_words([comparison("a", BETTER)], "winner", {"paper"})


def test_the_same_model_is_not_compared_with_itself():
    """A reference with the winner's weights is left out of the family."""
    world = synthetic.world(confirm=20)
    world.pools.sealed.clear()
    objective = parse("mean", [t.name for t in synthetic.TASKS])
    rivals = {"base": BASE, **references(EXPERTS)}
    family = confirm(world, average(EXPERTS), rivals, objective)
    assert [c["reference"] for c in family] == ["base", "paper"]


def test_one_model_is_one_reference(tmp_path):
    """A lone expert is both the best one and the uniform average: it is tested once."""
    options = {"warm": "none", "sampler": "random", "n_search": 30, "n_confirm": 40, "trials": 8}
    names = tuple(t.name for t in synthetic.TASKS)
    Run(tmp_path / "r").create(Options(experts=("ded",), base="base", tasks=names, **options), {})
    search = synthetic.search(tmp_path / "r")
    assert set(search.go()["references"]) == {"base", "best expert"}


@pytest.mark.slow
def test_intervals_cover_and_tests_keep_their_level():
    """Over 300 worlds without a difference 95 % intervals hold 0 and few p values are small."""
    rng, covered, wrong, runs = np.random.default_rng(0), 0, 0, 300
    for run in range(runs):
        ours, theirs = drawn(rng, 60, 0.0)
        low, high = np.quantile(resampled(ours, theirs, MEAN, n=500, seed=run), (0.025, 0.975))
        covered += low <= 0 <= high
        gap = np.concatenate([ours[t] - theirs[t] for t in ours])
        wrong += mcnemar_exact(int((gap > 0).sum()), int((gap < 0).sum())) < 0.05
    assert 0.91 <= covered / runs <= 0.985
    assert wrong / runs <= 0.06


@pytest.mark.slow
def test_the_confirmed_score_is_honest(tmp_path):
    """Where candidates hardly differ the search score flatters the best, the confirm score not."""
    flattered, honest, flat = [], [], 0.1
    for seed in range(12):
        options = {"height": flat, "trials": 20, "n": 16, "racing": "none"}
        search = synthetic.search(tmp_path / str(seed), seed=seed, confirm_seed=seed, **options)
        document = search.go()
        frozen = Candidate.from_mapping(document["frozen"])
        honest.append(document["confirm"][0]["score"] - truth(frozen, 3000, flat))
        best = search.best()
        flattered.append(best.values[0] - truth(best.candidate, 3000, flat))
    error = np.std(honest) / np.sqrt(len(honest))
    assert np.mean(flattered) > 0.02
    assert abs(np.mean(honest)) < 3 * error < 0.05
