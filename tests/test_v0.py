"""Laws of the paper authors' data and scores: the numbers their own code returned."""

import json

import pytest

from evals.rewards import REWARDS
from evals.v0 import read_v0, score_v0
from merger.errors import EvalError

GOLD = "(1) A is True\n(2) B is False\n"


def rewarded(text, gold=GOLD):
    return REWARDS["upstream"](score_v0(text, gold))


@pytest.mark.parametrize(
    ("answer", "gold", "number"),
    [
        ("(1) a is true\n(2) b is false", GOLD, 3.0),
        ("(1) A is True (2) B is True", GOLD, -0.5),
        ("(1) A is True", GOLD, -1.0),
        ("+3", "3", 3.0),
        ("3.0", "3", -1.0),
        ("(1) M is reachable\n(2) M is reachable", "(1) M is reachable\n(2) M is reachable", -1.0),
    ],
)
def test_answers_are_scored_as_their_code_does(answer, gold, number):
    """Case is forgiven; a missing line, another spelling of a number, a repeated goal are not."""
    assert rewarded(f"<think> r </think> <answer>{answer}</answer> bye", gold) == number


@pytest.mark.parametrize(
    "text",
    [
        "<think> r </think>",
        "<think><think></think><answer>3</answer>",
        "<think><answer>3</answer></think>",
        "<think> Assistant: r </think><answer>3</answer>",
        "<think></think><answer>1</answer><answer>3</answer>",
    ],
)
def test_a_format_failure_is_read_no_further(text):
    """A tag too many, in the wrong place or cut off costs everything, right answer or not."""
    assert rewarded(text, "3") == -3.0


def test_every_golden_row_agrees(shared_data):
    """324 texts, each with the number that the authors' code returned for it."""
    text = (shared_data / "golden/v0_rewards.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.split("\n") if line]
    wrong = [r for r in rows if rewarded(r["text"], r["gold"]) != r["score"]]
    assert (len(rows), wrong) == (324, [])


@pytest.mark.parametrize("name", ["Deduction", "Induction", "Abduction"])
def test_their_files_are_tasks(shared_data, name):
    """Their two messages are asked, and the stored answer in tags is right."""
    task, items = read_v0(shared_data / "upstream" / name / "1" / "test.parquet")
    assert task.name == f"v0:{name}/1/test"
    assert "<answer>" in task.messages(items[0])[0]["content"]
    right = [task.check(f"r</think><answer>{i.answer}</answer>", i).correct for i in items]
    assert sum(right) == len(items) if name != "Abduction" else sum(right) > 0.9 * len(items)


def test_other_files_are_refused(tmp_path):
    """Rows without the authors' prompt are told by their place."""
    (tmp_path / "x.jsonl").write_text('{"answer": 1}')
    with pytest.raises(EvalError, match=r"x\.jsonl:1"):
        read_v0(tmp_path / "x.jsonl")
