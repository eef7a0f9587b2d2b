"""The report of a recipe: every stage's facts as a document, and as tables for people."""

import json
from pathlib import Path

from recipes.job import Here
from recipes.rl.curve import tell
from recipes.story import write_story

END = {"reward": 0.5, "correct": 0.4, "format": 1.0, "worked": 0.5, "length": 40.0}
TRAINED = {"task": "deduction", "algorithm": "grpo", "steps": 20, "first": END}
TRAINED |= {"last": END | {"correct": 0.6, "worked": 0.9, "length": 80.0}}
TASKS = {"deduction": {"mean": 0.5, "ci95": [0.4, 0.6]}}
PAIR = {"a": "base", "b": "ded", "task": "deduction", "n": 500, "difference": 0.12}
PAIR |= {"ci95": [0.07, 0.17], "p": 0.0004}
SCORED = {"models": [{"model": m, "tasks": TASKS} for m in ("base", "ded")], "pairs": [PAIR]}


class Screen:
    """Says nothing."""

    def say(self, text):
        pass


def story(tmp_path: Path, **facts) -> tuple[dict, str]:
    here = Here("report", tmp_path / "report", tmp_path / "mine", {}, Screen(), facts)
    write_story(here)
    text = (here.out / "report.md").read_text()
    return json.loads((here.out / "report.json").read_text()), text


def test_the_document_holds_every_stage(tmp_path):
    """report.json is the facts of the stages, unchanged."""
    document, _ = story(tmp_path, ded=TRAINED, scores=SCORED)
    assert document["stages"] == {"ded": TRAINED, "scores": SCORED}


def test_a_training_is_told_by_its_first_and_last_steps(tmp_path):
    """One line a run: task, steps, and what moved from where to where."""
    _, text = story(tmp_path, ded=TRAINED)
    assert "| ded | deduction | 20 | 0.40 → 0.60 | 0.50 → 0.90 | 40 → 80 |" in text


def test_scores_come_with_intervals_and_paired_differences(tmp_path):
    """Points of a hundred, intervals in brackets, the difference with its n and p."""
    _, text = story(tmp_path, scores=SCORED)
    assert "| base | 50.0 [40.0, 60.0] |" in text
    assert "| ded | deduction | 500 | +12.0 | [+7.0, +17.0] | 0.0004 |" in text


def test_a_search_is_told_by_its_verdict(tmp_path):
    """The verdict and its words stand as they were given."""
    _, text = story(tmp_path, merged={"verdict": "better", "words": "It beats the base."})
    assert "**better**: It beats the base." in text


def test_the_ends_of_a_curve_are_means_over_ten_steps(tmp_path):
    """A curve of 20 steps whose reward is its step: 5.5 at first, 15.5 at last."""
    rows = [END | {"step": n, "reward": n} for n in range(1, 21)]
    (tmp_path / "curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"task": "deduction", "algorithm": "grpo", "reward": "binary"}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    facts = tell(tmp_path)
    assert (facts["first"]["reward"], facts["last"]["reward"]) == (5.5, 15.5)
    assert facts["steps"] == 20
