"""Laws of what to evaluate: names become entries."""

import pytest

from evals.generate import Settings
from evals.suite import parse_levels, parse_suite
from merger.errors import EvalError, UsageError


def test_names_become_entries(tmp_path):
    """Tasks, lm-eval names and files may be mixed; n applies to each."""
    (tmp_path / "my.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    names = f"arith, lm_eval:gsm8k@exact_match,{tmp_path}/my.jsonl"
    entries = parse_suite(names, split="test", n=3, levels=(1,))
    assert [e.name for e in entries] == ["arithmetic", "lm_eval:gsm8k@exact_match", "my"]
    assert [e.size for e in entries] == [3, 3, 1]


def test_a_task_is_asked_once_and_no_two_share_a_name(tmp_path):
    """What is named twice is one entry; results by name cannot hold two files of one name."""
    for folder, answer in (("a", "1"), ("b", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "my.jsonl").write_text(f'{{"prompt": "x", "answer": "{answer}"}}\n')
    one, two = (f"{tmp_path}/{folder}/my.jsonl" for folder in "ab")
    twice = parse_suite(f"arith,{one},arithmetic,{one}", split="test", n=3)
    assert [e.name for e in twice] == ["arithmetic", "my"]
    with pytest.raises(UsageError, match="two of the tasks are named 'my'"):
        parse_suite(f"{one},{two}", split="test")


def test_levels_may_differ_by_task():
    """A task that no level is given for gets all of its own."""
    entries = parse_suite("arith,ind", split="test", n=6, levels={"arithmetic": (2, 3)})
    assert [{i.level for i in e.items} for e in entries] == [{2, 3}, {1, 2, 3, 4, 5}]


@pytest.mark.parametrize(
    ("text", "levels"), [(None, None), ("1-3", (1, 2, 3)), ("1,4-5", (1, 4, 5)), ("2,2", (2,))]
)
def test_levels_are_read(text, levels):
    """Ranges and lists, each level once."""
    assert parse_levels(text) == levels


@pytest.mark.parametrize("text", ["x", "3-1", "1-", ","])
def test_levels_that_mean_nothing_are_refused(text):
    """An empty range is a mistake, not everything."""
    with pytest.raises(UsageError):
        parse_levels(text)


def test_a_file_of_no_kind_is_no_unknown_task(tmp_path):
    """Who names a file is told which files are read; a folder is none."""
    (tmp_path / "my.csv").write_text("prompt,answer")
    with pytest.raises(UsageError, match=r"my\.csv is no kind of file that is read"):
        parse_suite(f"{tmp_path}/my.csv", split="test")
    with pytest.raises(EvalError, match="cannot be read"):
        parse_suite(f"v0:{tmp_path}", split="test")


def test_answers_are_counted_by_each_entrys_own_settings(tmp_path):
    """The paper asks AIME 2024 32 times; a progress bar knows."""
    (tmp_path / "aime24.jsonl").write_text('{"problem": "1 + 1", "answer": "2"}\n')
    entries = parse_suite("arith,paper-7:aime24", split="test", n=3, data=tmp_path)
    assert [entry.answers(Settings()) for entry in entries] == [3, 32]
