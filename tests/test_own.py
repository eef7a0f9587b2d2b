"""Laws of items from a file: found answers, checks, and lines that are wrong."""

import json
import sys

import pytest

from evals.own import find_answer, read_items
from merger.errors import EvalError, UnknownNameError


def load(tmp_path, *rows, check="exact"):
    path = tmp_path / "my.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return read_items(path, check)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so <answer> 5 </answer> bye", "5"),
        ("so \\boxed{1} then \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("First.\nIt is 7\n\n", "It is 7"),
        ("  \n ", None),
    ],
)
def test_the_answer_is_in_tags_or_box_or_last_line(text, answer):
    """The most explicit place wins."""
    assert find_answer(text) == answer


def test_exact_forgives_case_and_spaces(tmp_path):
    """Exact means the same words."""
    task, (item,) = load(tmp_path, {"prompt": "Capital of France?", "answer": "Paris"})
    assert task.check("<answer> PARIS\n</answer>", item).correct
    assert not task.check("<answer>Parish</answer>", item).correct


def test_number_compares_values(tmp_path):
    """Spellings of one number are equal; a gold that is no number is an error."""
    row = {"prompt": "?", "answer": "0.5"}
    task, (item,) = load(tmp_path, row, check="number")
    assert task.check("The answer:\n1/2", item).correct
    task, (item,) = load(tmp_path, row | {"answer": "half"}, check="number")
    with pytest.raises(EvalError, match="'half' is no number"):
        task.check("1", item)


def test_a_function_of_yours_sees_text_and_line(tmp_path, monkeypatch):
    """package:function gets the whole completion and the line's object; it may stand right here."""
    (tmp_path / "judge.py").write_text("def short(text, item): return len(text) < item['limit']")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    task, (item,) = load(tmp_path, {"prompt": "?", "answer": "", "limit": 4}, check="judge:short")
    assert task.check("abc", item).correct
    assert not task.check("abcd", item).correct
    with pytest.raises(EvalError, match="cannot be imported"):
        load(tmp_path, {"prompt": "?", "answer": ""}, check="judge:nothing")


def test_a_line_may_hold_its_system_prompt(tmp_path):
    """Without one no system message is sent, and nothing is pre-filled."""
    rows = [{"prompt": "a", "answer": "b"}, {"prompt": "c", "answer": "d", "system": "Be brief."}]
    task, (plain, told) = load(tmp_path, *rows)
    assert [m["role"] for m in task.messages(plain)] == ["user"]
    assert task.messages(told)[0] == {"role": "system", "content": "Be brief."}
    assert task.prefill == ""


def test_another_wording_is_another_item(tmp_path):
    """An id does not hide a changed prompt from the ledger."""
    ids = [load(tmp_path, {"id": 1, "prompt": p, "answer": ""})[1][0].id for p in "ab"]
    assert ids[0] != ids[1]
    assert all(i.startswith("1#") for i in ids)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "my.jsonl:1: '{' is no JSON object"),
        ([{"prompt": "a"}], "my.jsonl:1: no `prompt` and `answer`"),
        (["", "[1]"], "my.jsonl:2: '.1.' is no JSON object"),
        ([{"prompt": "a", "answer": "b"}] * 2, "my.jsonl:2: this item is there already"),
        ([], "holds no items"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path, rows, message):
    """What cannot be used is told before a model is loaded."""
    with pytest.raises(EvalError, match=message):
        load(tmp_path, *rows)


def test_an_unknown_check_suggests(tmp_path):
    """Typos in --check are answered."""
    with pytest.raises(UnknownNameError, match="Did you mean 'number'"):
        load(tmp_path, {"prompt": "a", "answer": "b"}, check="numbr")
