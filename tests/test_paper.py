"""Laws of the paper's benchmarks: its settings, the Hub's columns, one exam for everybody."""

import json

import pytest

from evals.generate import Settings
from evals.paper import BENCHMARKS, paper_settings, read_benchmark, suite_names
from evals.suite import parse_suite
from merger.errors import EvalError, UnknownNameError

CHOICES = {f"Incorrect Answer {i}": f" no {i}" for i in (1, 2, 3)} | {"Correct Answer": "yes "}
ROWS = {
    "math500": {"problem": "p", "answer": "\\frac{1}{2}", "level": 3, "unique_id": "test/1"},
    "aime": {"Question": "q", "Answer": "27", "ID": "1983-1"},
    "aime24": {"problem": "p", "answer": "204"},
    "amc23": {"question": "q", "answer": 27.0},
    "olympiad": {"question": "q", "final_answer": ["2"]},
    "gpqa": CHOICES | {"Question": "q"},
}


@pytest.fixture
def folder(tmp_path):
    for name, row in ROWS.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("math500", "0.5", "2"),
        ("aime", "027", "72"),
        ("aime24", "204", "-204"),
        ("amc23", "27", "26"),
        ("olympiad", "2.0", "3"),
    ],
)
def test_the_last_box_is_graded(folder, name, right, wrong):
    """Equal values are right however written; a text without a box has no answer."""
    task, (item,) = read_benchmark(name, folder)
    assert task.check(f"\\boxed{{{wrong}}} no, \\boxed{{{right}}}", item).correct
    assert not task.check(f"\\boxed{{{right}}} no, \\boxed{{{wrong}}}", item).correct
    assert not task.check(f"It is {right}", item).parsed


def test_choices_are_shuffled_once_for_all(folder):
    """The letter of the right choice follows from the question; others are wrong."""
    task, (item,) = read_benchmark("gpqa", folder)
    assert f"({item.answer}) yes" in item.prompt
    assert read_benchmark("gpqa", folder)[1][0].id == item.id
    right = [x for x in "ABCDE" if task.check(f"\\boxed{{({x})}}", item).correct]
    assert right == [item.answer]
    assert not task.check("\\boxed{yes}", item).parsed


def test_the_settings_are_the_papers():
    """Greedy but for AIME24 and AMC23; a temperature that was asked for stays."""
    plain = Settings(max_new_tokens=9)
    for name in BENCHMARKS:
        drawn = Settings(9, 32, 1.0, 0.95) if name in ("aime24", "amc23") else plain
        assert paper_settings(name, plain) == drawn
    asked = Settings(9, 8, 1.0, 0.95)
    assert paper_settings("aime24", asked) == asked


def test_the_suite_and_its_parts_are_named(folder):
    """All that is run, or one; n applies to each."""
    entries = parse_suite("paper-7", split="test", n=1, data=folder)
    assert [e.name for e in entries] == list(BENCHMARKS)
    assert suite_names("paper-7:gpqa") == ["gpqa"]
    with pytest.raises(UnknownNameError, match="math500"):
        suite_names("paper-7:math50")


def test_what_is_not_run_is_refused_with_the_reason(folder, monkeypatch):
    """LiveCodeBench by name; missing files, columns and data sets with what would help."""
    with pytest.raises(EvalError, match="no sandbox"):
        suite_names("paper-7:livecodebench")
    (folder / "aime.jsonl").write_text('{"question": "q"}\n')
    with pytest.raises(EvalError, match=r"aime\.jsonl:1: no column 'Answer'"):
        read_benchmark("aime", folder)
    (folder / "aime.jsonl").unlink()
    (folder / "gpqa.jsonl").rename(folder / "gpqa.parquet")
    (folder / "amc23.jsonl").unlink()
    with pytest.raises(EvalError, match=r"no aime\.jsonl, amc23\.jsonl \(.*\n.*gneubig.*math-ai"):
        parse_suite("paper-7", split="test", data=folder)
    monkeypatch.setattr("datasets.load_dataset", lambda *a, **k: 1 / 0)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EvalError, match="--data DIR"):
        read_benchmark("aime")
