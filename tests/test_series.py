"""A recipe over seeds: a run each, finished ones skipped, one report with sign tests."""

import json
from dataclasses import replace

import pytest

from recipes.job import KINDS, Job
from recipes.recipe import Recipe, Stage
from recipes.series import Series
from recipes.story import write_pooled
from tests.test_recipe_runner import Screen


def scored(difference):
    """Return what an eval stage tells: a model and the first one, on one task."""
    tasks = [{"deduction": {"n": 9, "mean": m, "ci95": [0, 1]}} for m in (0.5, 0.5 + difference)]
    pair = {"a": "merged", "b": "base", "task": "deduction", "n": 9, "difference": difference}
    models = [{"model": m, "tasks": t} for m, t in zip(("merged", "base"), tasks, strict=True)]
    return {"models": models, "pairs": [pair | {"ci95": [-1, 1], "p": 0.5}]}


@pytest.fixture
def made(monkeypatch):
    """A kind of stage that scores by its seed alone, and notes that it ran."""
    ran = []

    def told(*, seed: int) -> Job:
        def run(here):
            here.out.mkdir()
            ran.append(seed)
            return scored(-seed / 100)

        return Job((), {"seed": seed}, run)

    monkeypatch.setitem(KINDS, "told", told)
    return ran


def series(tmp_path, *seeds):
    recipe = Recipe("test", (Stage("scores", "told"), Stage("report", "report")), seeds=seeds)
    return Series(recipe, tmp_path / "run", Screen())


def test_each_seed_is_a_run_of_its_own_and_none_is_done_twice(tmp_path, made):
    """Seeds may be run one by one, by other processes; the whole then only pools them."""
    series(tmp_path, 2).go()
    whole = series(tmp_path, 1, 2, 3)
    assert [line.state for line in whole.plan()] == ["1 of 3"] * 2
    whole.go()
    assert made == [2, 1, 3]
    assert (tmp_path / "run" / "seed-3" / "state.json").exists()
    assert replace(whole.recipe).seeds == (1, 2, 3)


def test_what_is_finished_can_be_collected_while_the_rest_is_not(tmp_path, made):
    """Two of six seeds make a report that says so; nothing is run for it."""
    series(tmp_path, 2).go()
    series(tmp_path, 5).go()
    told = series(tmp_path, *range(1, 7)).go("report")
    text = (tmp_path / "run" / "report.md").read_text()
    assert made == [2, 5]
    assert list(told) == ["seed-2", "seed-5"]
    assert text.startswith("# run, 2 of 6 seeds: 2, 5\n\nNot finished: 1, 3, 4, 6.")


def test_differences_are_tested_over_seeds(tmp_path):
    """Six seeds all below 0: the two-sided sign test gives 2 / 64; the mean is theirs."""
    write_pooled(tmp_path, {n: {"scores": scored(-n / 100)} for n in range(1, 7)}, range(1, 7))
    told = json.loads((tmp_path / "report.json").read_text())["stages"]["scores"]
    test = told["tests"]["base"]["deduction"]
    assert (test["above"], test["seeds"], test["p"]) == (0, 6, pytest.approx(2 / 64))
    assert test["mean"] == pytest.approx(-0.035)
    text = (tmp_path / "report.md").read_text()
    assert "| merged | 50.0 ± 0.0 |" in text
    assert (
        "| base | deduction | -3.5 | -1.0, -2.0, -3.0, -4.0, -5.0, -6.0 | 0 of 6 | 0.0312 |" in text
    )
