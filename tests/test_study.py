"""A search on a synthetic world, end to end: it finds the hill, survives anything, pays once."""

import json

import pytest

from merger.errors import SearchError, UnknownNameError, UsageError
from search.candidate import Candidate
from search.crash import JournalLock, mend_journal
from search.run import MANY
from search.samplers import derive_seed
from search.space import Space
from search.starts import Start, average
from search.study import Study
from search.trial import Trial, busy
from tests import synthetic
from tests.synthetic import EXPERTS, interrupt_at, ledger_rows, truth


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a finished search of 20 trials."""
    search = synthetic.search(tmp_path_factory.mktemp("run") / "r", trials=20, sampler="gp", n=50)
    return search, search.go()


def test_a_search_finds_the_hill(finished):
    """The frozen winner is truly better than the paper's recipe, uniform and every expert."""
    search, document = finished
    from search.candidate import Candidate

    winner = Candidate.from_mapping(document["frozen"])
    rivals = [search.reference, average(EXPERTS), *(average([e]) for e in EXPERTS)]
    assert truth(winner, 2000) > max(truth(r, 2000) for r in rivals)


def test_warm_starts_come_first_with_their_source(finished):
    """The first trials are the paper's recipe, uniform, each expert and the pairs, never raced."""
    trials = finished[0].study.trials()
    sources = ["paper", "uniform", "ded", "ind", "abd", "ded+ind", "ded+abd", "ind+abd"]
    assert [t.source for t in trials[:8]] == sources
    assert all(t.full for t in trials[:8])


def test_raced_out_trials_teach_the_sampler(finished):
    """A trial that is stopped early is COMPLETE, below the incumbent, and says why."""
    trials = finished[0].study.trials()
    raced = [t for t in trials if t.facts.get("raced_out")]
    assert raced
    best = max(t.values[0] for t in trials if t.full)
    for trial in raced:
        assert trial.state == "COMPLETE"
        assert trial.values[0] < best
        assert trial.facts["items"] < 150
        assert trial.facts["lost_to"] in ("incumbent", "reference")


def test_no_answer_is_paid_twice(finished):
    """Every (candidate, item) was asked for once, but for those of the A/A test."""
    asked = finished[0].world.answerer.asked
    twice = finished[0].run.manifest["prepared"]["aa"]["items"]
    assert len(asked) == len(set(asked)) + twice


def test_a_finished_run_asks_for_nothing(finished):
    """Resuming a finished run generates no answer and returns the same document."""
    search, document = finished
    again = synthetic.search(search.run.path)
    assert again.go() == document
    assert again.world.answerer.asked == []


@pytest.mark.parametrize("answers", [20, 200, 700, 1300])
def test_a_paused_run_goes_on(tmp_path, answers):
    """Ctrl-C at any point loses at most the answers in flight; the rest is not paid again."""
    with pytest.raises(KeyboardInterrupt):
        synthetic.search(tmp_path / "r", stop=interrupt_at(answers)).go()
    paid = set(ledger_rows(tmp_path / "r"))
    search = synthetic.search(tmp_path / "r")
    document = search.go()
    assert {mark for mark, _ in paid & set(search.world.answerer.asked)} <= {search.reference.key}
    assert search.study.finished() == 12
    assert document["verdict"] in ("better", "worse", "not distinguishable")


def test_an_interrupted_candidate_is_tried_again(tmp_path):
    """The trial that was running when the process died is failed, and its candidate enqueued."""
    with pytest.raises(KeyboardInterrupt):
        synthetic.search(tmp_path / "r", stop=interrupt_at(300)).go()
    search = synthetic.search(tmp_path / "r")
    search.go()
    failed = [t for t in search.study.trials() if t.state == "FAIL"]
    again = [t for t in search.study.trials() if t.facts.get("retry_of") == failed[0].number]
    assert len(failed) == len(again) == 1
    assert again[0].candidate == failed[0].candidate
    assert again[0].source == failed[0].source


def test_a_torn_journal_is_mended(tmp_path):
    """Half a line at the end of the journal is cut off; every whole line stays."""
    synthetic.search(tmp_path / "r", trials=3, objective="min").go()
    journal = tmp_path / "r" / "study.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 5, "wor')
    assert synthetic.search(tmp_path / "r").study.finished() == 3
    lines = journal.read_bytes().splitlines()
    assert [json.loads(line) for line in lines][: whole.count(b"\n")]
    assert journal.read_bytes().startswith(whole)


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"not: json", b"\xff\xfe"])
def test_a_damaged_journal_is_named(tmp_path, line):
    """A line that is no entry is told with its number before Optuna stumbles over it."""
    file = tmp_path / "s.log"
    file.write_bytes(b'{"op_code": 0}\n' + line + b"\n")
    with pytest.raises(SearchError, match=r"s\.log:2 is no entry"):
        mend_journal(file, JournalLock(file))


def test_mending_a_whole_journal_changes_nothing(tmp_path):
    """A journal without a torn tail keeps every byte; one that is not there stays away."""
    file = tmp_path / "j"
    lock, whole = JournalLock(file), b'{"op_code": 0}\n' * 2
    assert mend_journal(file, lock) == 0
    assert not file.exists()
    file.write_bytes(whole)
    assert mend_journal(file, lock) == 0
    file.write_bytes(whole + b"c")
    assert mend_journal(file, lock) == 1
    assert file.read_bytes() == whole


def small(tmp_path, **options):
    return Study(f"journal://{tmp_path / 's.log'}", Space(EXPERTS), **options)


def test_three_failures_in_a_row_end_the_run(tmp_path):
    """Failed trials are recorded with their reason; the third in a row stops the search."""

    def fail(proposal):
        raise ValueError("no memory")

    study = small(tmp_path, trials=9, sampler="random")
    with pytest.raises(SearchError, match="no memory"):
        study.run(fail)
    trials = study.trials()
    assert [t.state for t in trials] == ["FAIL"] * 3
    assert "no memory" in trials[0].facts["error"]


def test_one_failure_is_passed_over(tmp_path):
    """A failed trial does not count and does not end the run."""

    def flaky(proposal):
        if proposal.number % 2:
            raise ValueError("sometimes")
        return ((0.5,), {})

    study = small(tmp_path, trials=3, sampler="random")
    study.run(flaky)
    assert study.finished() == 3


def test_the_sampler_moves_on_after_a_restart(tmp_path):
    """A restarted study proposes other points than it began with; the same one repeats itself."""

    def points(folder, runs):
        folder.mkdir()
        for trials in runs:
            study = small(folder, trials=trials, sampler="random", seed=1)
            study.run(lambda p: ((0.5,), {}))
        return [t.candidate.key for t in study.trials()]

    restarted = points(tmp_path / "a", (2, 4))
    assert len(set(restarted)) == 4
    assert points(tmp_path / "b", (2, 4)) == restarted


@pytest.mark.parametrize("sampler", ["tpe", "nsga", "gp", "cmaes"])
def test_every_sampler_proposes(tmp_path, sampler):
    """Each sampler runs, over one number and over a front."""
    for directions in (1,) if sampler == "cmaes" else (1, 2):
        folder = tmp_path / str(directions)
        folder.mkdir()
        study = small(folder, trials=12, sampler=sampler, directions=directions)
        give = ((0.5,) * directions, {})
        study.run(lambda p, give=give: give)
        assert study.finished() == 12


def test_auto_grows_out_of_the_gaussian_process(tmp_path, monkeypatch):
    """Beyond the points that a Gaussian process can fit, `auto` goes on with TPE."""
    monkeypatch.setattr("search.samplers.MAX_POINTS", 2)
    study = small(tmp_path, trials=4)
    study.run(lambda p: ((0.5,), {}))
    assert [t.source for t in study.trials()] == ["gp", "gp", "tpe", "tpe"]


def test_a_database_holds_a_study(tmp_path):
    """A study in SQLite goes on where it stopped, and an interrupted trial is tried again."""
    place = f"sqlite:///{tmp_path / 's.db'}"

    def stop(proposal):
        raise KeyboardInterrupt

    def give(proposal):
        return ((0.5,), {})

    def opened():
        return Study(place, Space(EXPERTS), trials=2, sampler="random")

    study = opened()
    study.enqueue([Start("uniform", average(EXPERTS)), Start("ded", average(["ded"]))])
    study.run(give, more=lambda: study.finished() < 1)
    with pytest.raises(KeyboardInterrupt):
        opened().run(stop)
    again = opened()
    again.run(give)
    done = [t for t in again.trials() if t.state == "COMPLETE"]
    assert [t.source for t in done] == ["uniform", "ded"]


def test_two_runs_share_a_database(tmp_path):
    """Each has trials of its own, though their studies have one name."""
    place = f"sqlite:///{tmp_path / 's.db'}"
    for owner, experts in (("one", EXPERTS), ("two", EXPERTS[:2])):
        study = Study(place, Space(experts), trials=2, sampler="random", owner=owner)
        study.run(lambda p: ((0.5,), {}))
        assert study.finished() == len(study.trials()) == 2
        study.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ImportError])
def test_a_worker_that_is_interrupted_gives_its_candidate_back(tmp_path, error):
    """Ctrl-C in a worker fails its trial and queues the candidate for the others.

    In the middle of an import it comes as an error of the import.
    """

    def stop(proposal):
        raise error from KeyboardInterrupt()

    first = small(tmp_path, trials=1, sampler="random")
    first.enqueue([Start("ded", average(["ded"]))])
    worker = small(tmp_path, trials=1, sampler="random", worker="b")
    with pytest.raises(KeyboardInterrupt):
        worker.run(stop)
    first.run(lambda p: ((0.1,), {}))
    assert [(t.state, t.source) for t in first.trials()] == [("FAIL", "ded"), ("COMPLETE", "ded")]


def test_a_worker_beats_in_a_database(tmp_path):
    """On a database a worker runs under Optuna's heartbeat and ends with the common budget."""
    place, shown = f"sqlite:///{tmp_path / 's.db'}", []
    worker = Study(place, Space(EXPERTS), trials=2, sampler="random", worker="b")
    worker.run(lambda p: ((0.2,), {}), told=shown.append)
    assert [t.state for t in shown] == ["COMPLETE"] * 2


def test_workers_share_a_study(tmp_path):
    """A worker takes trials of the same study until the common budget is used."""
    first = small(tmp_path, trials=3, sampler="random")
    first.run(lambda p: ((0.1,), {}), more=lambda: first.finished() < 2)
    second, shown = small(tmp_path, trials=3, sampler="random", worker="b"), []
    second.run(lambda p: ((0.2,), {}), told=shown.append)
    assert first.finished() == 3
    assert [t.values for t in shown] == [(0.2,)]


def test_mistakes_are_told(tmp_path):
    """An unknown sampler, a front for CMA-ES and a storage that cannot be opened are named."""
    with pytest.raises(UnknownNameError, match="sampler"):
        small(tmp_path, sampler="gpp")
    with pytest.raises(UsageError, match="cmaes"):
        small(tmp_path, sampler="cmaes", directions=2)
    with pytest.raises(SearchError, match="cannot be opened"):
        Study("sqlite:////no/such/folder/s.db", Space(EXPERTS))


def test_a_time_limit_leaves_room_for_the_verdict(tmp_path):
    """When the time is short the search stops early, and still ends with a verdict."""
    search = synthetic.search(tmp_path / "r", trials=50, seconds=0.001)
    document = search.go()
    assert search.study.finished() == 1
    assert document["confirm"]


def test_operators_leave_time_to_the_search(tmp_path):
    """Where only the time is limited, operators end their race, and the reference is scored."""
    options = {"trials": MANY, "seconds": 1.0, "operators": ("ties", "sce")}
    search = synthetic.search(tmp_path / "r", **options)
    assert search.go()["confirm"]
    assert search.study.trials()[0].source == "paper"
    assert len(search.trials()) < 60


def test_time_is_told_by_the_clock():
    """Trials that workers ran side by side count once, and a pause between two is no work."""
    spans = [(100, 10), (105, 10), (107, 2), (200, 5)]
    candidate = average(EXPERTS)
    trials = [Trial(0, "COMPLETE", candidate, "", (), {}, s, begun) for begun, s in spans]
    assert busy(trials[::-1]) == 20
    assert busy([]) == 0


def test_a_worker_keeps_the_time_limit(tmp_path):
    """A worker leaves when the time is up, trials or not; what is not prepared it does not join."""
    search = synthetic.search(tmp_path / "r", trials=50, seconds=0.001)
    with pytest.raises(SearchError, match="not prepared"):
        search.work()
    search.go()
    worker = synthetic.search(tmp_path / "r")
    worker.work()
    assert worker.study.finished() == 1


def test_seeds_do_not_collide():
    """Neighbouring seeds and counts give unrelated streams."""
    assert derive_seed(0, 11) != derive_seed(1, 1)
    assert derive_seed(1, 10) != derive_seed(11, 0)


@pytest.mark.parametrize("objective", ["min", "weighted:first=2,third=1", "pareto"])
def test_every_objective_ends_with_a_verdict(tmp_path, objective):
    """A search under any objective ends; a front is not raced and keeps one value a task."""
    search = synthetic.search(tmp_path / "r", trials=12, objective=objective)
    assert search.go()["confirm"]
    trials = search.study.trials()
    assert {len(t.values) for t in trials} == {3 if objective == "pareto" else 1}
    assert any(t.facts["raced_out"] for t in trials) == (objective != "pareto")


def test_a_front_of_features_ends_with_a_verdict(tmp_path):
    """Other operators, floors and a second stage in one run: each leaves its trace."""
    extra = {"operators": ("ties", "della", "sce"), "stage2": 4, "floor": 5.0, "seed": 1}
    search = synthetic.search(tmp_path / "r", trials=24, **extra)
    document = search.go()
    methods = [t.candidate.method for t in search.trials() if t.state == "COMPLETE"]
    assert {"ties", "della", "sce", "consensus"} <= set(methods)
    assert methods.count("consensus") >= 12
    assert all("floor:first" in t.facts["floors"] for t in search.trials() if t.full)
    assert any(t.candidate.knobs for t in search.studies["stage2"].trials())
    frozen = Candidate.from_mapping(search.run.read("frozen.json")["candidate"])
    assert frozen == Candidate.from_mapping(document["frozen"])


def test_floors_come_before_scores(tmp_path):
    """The best trial keeps every task above its floor, whatever those below it score."""
    search = synthetic.search(tmp_path / "r", trials=12, floor=0.0)
    search._search(search._prepare())
    best, base = search.best(), search.run.manifest["prepared"]["base"]
    assert best.short == 0
    assert all(best.facts["means"][task] >= floor for task, floor in base.items())
