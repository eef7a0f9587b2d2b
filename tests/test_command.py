"""Laws of commands that score: no shell, one row an item, nothing that outlives a stop."""

import json
import sys
import time

import pytest

from evals.command import command_cell, command_rows, read_rows, score_by_command
from evals.ledger import Ledger
from merger.errors import EvalError


def command(tmp_path, code, places="{model}"):
    """Return a command that runs a script, which also writes down that it was called."""
    script = tmp_path / "score.py"
    calls = tmp_path / "calls"
    script.write_text(f"import json, sys, time\nopen({str(calls)!r}, 'a').write('x')\n{code}\n")
    return f"{sys.executable} {script} {places}"


def test_a_folder_is_scored_once(tmp_path):
    """The path is one argument, spaces, signs and all; the rows are kept, not paid for again."""
    code = (
        "print(json.dumps(dict(id=1, score=0.5)))\nprint(json.dumps(dict(id=sys.argv[1], score=1)))"
    )
    store, model = Ledger(":memory:"), tmp_path / "a $(model); {items}"
    asked = command(tmp_path, code)
    for _ in range(2):
        rows = command_rows(asked, "f0", model, store)
        assert {r.item: r.correct for r in rows} == {"1": 0.5, str(model): 1.0}
    assert (tmp_path / "calls").read_text() == "x"


def test_a_changed_script_is_another_command(tmp_path):
    """The files a command names belong to the key of its rows."""
    before = command_cell(command(tmp_path, "pass"), "f0")
    assert command_cell(command(tmp_path, "pass"), "f0") == before
    assert command_cell(command(tmp_path, "1"), "f0") != before


def test_wanted_items_come_in_their_order(tmp_path):
    """The ids go to the command as a file; a row not asked for is left out, a missing one told."""
    code = "for i in ['z', *open(sys.argv[2])]: print(json.dumps(dict(id=i.strip(), score=1)))"
    asked = command(tmp_path, code, "{model} {items}")
    assert [r.item for r in score_by_command(asked, tmp_path, items=["b", "a"])] == ["b", "a"]
    with pytest.raises(EvalError, match="no row for 'c'"):
        score_by_command(command(tmp_path, code.replace("2", "0")), tmp_path, items=["c"])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('no memory')", "ended with 1: no memory"),
        ("print('hello')", "line:1: 'hello' is no JSON object"),
        ('print(\'{"id": 1, "score": 7}\')', "is no row"),
        ('print(\'{"id": 1, "score": NaN}\')', "is no row"),
        ('print(\'{"id": 1, "score": 1}\\n\' * 2)', "line:2: item '1' is there already"),
        ("", "printed no rows"),
    ],
)
def test_a_command_that_fails_is_quoted(tmp_path, code, message):
    """Exit codes and wrong lines are told with what the command said."""
    with pytest.raises(EvalError, match=message):
        score_by_command(command(tmp_path, code), tmp_path)


@pytest.mark.parametrize("asked", ["true", "nosuchprogram {model}", "echo '{model}"])
def test_commands_that_cannot_run_are_refused(tmp_path, asked):
    """No place for the model, no such program, an open quote."""
    with pytest.raises(EvalError):
        score_by_command(asked, tmp_path)


def test_a_timeout_ends_the_whole_group(tmp_path):
    """What the command itself started is gone too."""
    code = "import subprocess; subprocess.run(['sh', '-c', f'sleep 1; touch {sys.argv[1]}/late'])"
    with pytest.raises(EvalError, match=r"took more than 0\.4 s"):
        score_by_command(command(tmp_path, code), tmp_path, timeout=0.4)
    time.sleep(1)
    assert not (tmp_path / "late").exists()


def test_rows_may_hold_line_separators():
    """Only a line feed ends a line, whatever Unicode calls a line."""
    line = json.dumps({"id": "a", "score": 1, "text": "x\u2028y"}, ensure_ascii=False)
    assert read_rows(line, "c")["a"].text == "x\u2028y"
