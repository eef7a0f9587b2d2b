"""Laws of what to evaluate: names become entries, commands become rows."""

import sys

import pytest

from evals.generate import Answerer, Settings
from evals.ledger import Ledger
from evals.suite import CommandEntry, LmEvalEntry, Subject, TaskEntry, parse_levels, parse_suite
from merger.errors import EvalError, UsageError
from tests.toy_models import toy_model, toy_tokenizer


def test_names_become_entries(tmp_path):
    """Tasks, lm-eval names and files may be mixed; n applies to each."""
    (tmp_path / "my.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    names = f"arith, lm_eval:gsm8k@exact_match,{tmp_path}/my.jsonl"
    entries = parse_suite(names, split="test", n=3, levels=(1,))
    assert [type(e) for e in entries] == [TaskEntry, LmEvalEntry, TaskEntry]
    assert [e.name for e in entries] == ["arithmetic", "lm_eval:gsm8k@exact_match", "my"]
    assert [e.size for e in entries] == [3, 3, 1]


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


def scoring(tmp_path, code):
    """Return an entry that runs a script, and a subject in a folder."""
    script = tmp_path / "score.py"
    script.write_text(
        f"import json, sys\nopen({str(tmp_path / 'calls')!r}, 'a').write('x')\n{code}\n"
    )
    subject = Subject("f0", Answerer(toy_model(), toy_tokenizer()), tmp_path / "the model")
    return CommandEntry(f"{sys.executable} {script} {{model}}"), subject


def test_a_command_scores_a_folder_once(tmp_path):
    """The path is one argument, spaces and all; the rows are kept and not paid for again."""
    code = "for i, s in ((1, 0.5), (2, len(sys.argv) == 2)): print(json.dumps(dict(id=i, score=s)))"
    entry, subject = scoring(tmp_path, code)
    store = Ledger(":memory:")
    for _ in range(2):
        rows = entry.rows(subject, ledger=store, settings=Settings())
        assert {r.item: r.correct for r in rows} == {"1": 0.5, "2": 1.0}
    assert (tmp_path / "calls").read_text() == "x"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('no memory')", "ended with 1: no memory"),
        ("print('hello')", "line 1: 'hello' is no row"),
        ('print(\'{"id": 1, "score": 7}\')', "is no row"),
        ("", "printed no rows"),
    ],
)
def test_a_command_that_fails_is_quoted(tmp_path, code, message):
    """Exit codes and wrong lines are told with what the command said."""
    entry, subject = scoring(tmp_path, code)
    with pytest.raises(EvalError, match=message):
        entry.rows(subject, ledger=Ledger(":memory:"), settings=Settings())


def test_a_live_model_has_no_folder_to_score():
    """A command is told to wait for a saved model."""
    subject = Subject("f0", Answerer(toy_model(), toy_tokenizer()))
    with pytest.raises(UsageError, match="folder"):
        CommandEntry("true").rows(subject, ledger=Ledger(":memory:"), settings=Settings())
