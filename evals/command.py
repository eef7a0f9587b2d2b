"""A command of yours as a scorer: it gets a model's folder and prints a row for each item.

`{model}` in the command becomes the folder and `{items}`, where it occurs, a file of the wanted
item ids, one a line. The command is cut into words first and no shell reads it, so nothing in a
path is ever executed. Rows are {"id": …, "score": 0 to 1}, a line each, with `text` if wanted.
"""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

from evals.jsonl import parse_objects
from evals.ledger import Cell, Ledger, Row
from merger.errors import EvalError

ROW = '{"id": …, "score": between 0 and 1}'


def score_by_command(
    command: str, model: Path, *, items: Sequence[str] | None = None, timeout: float | None = None
) -> list[Row]:
    """Run a command on a model's folder and return its rows, in the order of `items` if given.

    A row that was not asked for is left out. Raises `EvalError` where the command cannot be run,
    fails, takes more than `timeout` seconds, prints something else, or misses an item.
    """
    with TemporaryDirectory() as folder:
        listed = Path(folder, "items")
        listed.write_text("".join(f"{item}\n" for item in items or ()), "utf-8")
        words = _words(command, {"{model}": str(model), "{items}": str(listed)})
        rows = read_rows(_output(words, timeout), command)
    if items is None:
        return list(rows.values())
    if missing := [item for item in items if item not in rows]:
        law = f"{command!r} gave no row for {missing[0]!r} and {len(missing) - 1} more"
        raise EvalError(law, "Print a row for every item asked for.")
    return [rows[item] for item in items]


def check_command(command: str) -> None:
    """Raise `EvalError` unless a command can be read and says where the model goes."""
    word = _words(command, {})[0]
    if which(word) is None:
        raise EvalError(f"{word!r} is no command that can be run", "Check its path and its rights.")


def command_cell(command: str, fingerprint: str, name: str = "command") -> Cell:
    """Return where the ledger keeps a command's rows; the files it names are part of the key."""
    files = (Path(word) for word in _words(command, {}))
    texts = [command.encode(), *(f.read_bytes() for f in files if f.is_file())]
    return Cell(fingerprint, name, "v1", sha256(b"\0".join(texts)).hexdigest()[:12], "")


def command_rows(command: str, fingerprint: str, model: Path, ledger: Ledger) -> list[Row]:
    """Return a command's rows for some weights: from the ledger if there, else run and kept."""
    cell = command_cell(command, fingerprint)
    if not ledger.rows(cell):
        ledger.put(cell, score_by_command(command, model))
    return list(ledger.rows(cell).values())


def read_rows(text: str, command: str) -> dict[str, Row]:
    """Read a command's output as rows by item; `EvalError` names the line that is wrong."""
    rows: dict[str, Row] = {}
    for where, facts in parse_objects(text, f"{command!r} printed line", ROW):
        item, score = str(facts.get("id", "")), facts.get("score")
        if not item or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise EvalError(f"{where}: {facts} is no row", f"Print {ROW} on each line.")
        if item in rows:
            raise EvalError(f"{where}: item {item!r} is there already", "Print one row an item.")
        said = str(facts.get("text", ""))
        rows[item] = Row(item, 0, said, "", 0, True, True, float(score), "command")
    if not rows:
        raise EvalError(f"{command!r} printed no rows", f"Print {ROW}, one line an item.")
    return rows


def _words(command: str, places: dict[str, str]) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise EvalError(f"the command {command!r} cannot be read: {error}", "Quote it.") from error
    if not any("{model}" in word for word in words):
        law = f"the command {command!r} does not say where the model goes"
        raise EvalError(law, "Write {model} in it, as in './eval.sh {model}'.")
    return [re.sub(r"\{\w+\}", lambda m: places.get(m[0], m[0]), word) for word in words]


def _output(words: Sequence[str], timeout: float | None) -> str:
    """Run words as a process of its own group, so that nothing outlives a stop or a timeout."""
    options: dict[str, Any] = {"text": True, "start_new_session": True}
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(words, stdout=pipe, stderr=pipe, **options)  # noqa: S603
    except OSError as error:
        law = f"{words[0]!r} cannot be run: {error.strerror or error}"
        raise EvalError(law, "Check the command.") from error
    try:
        output, errors = process.communicate(timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            law = f"{shlex.join(words)!r} took more than {timeout:g} s"
            raise EvalError(law, "Allow more time, or score fewer items.") from error
        raise
    if process.returncode:
        said = errors.strip().splitlines()[-1:] or ["nothing on stderr"]
        law = f"{shlex.join(words)!r} ended with {process.returncode}: {said[0]}"
        raise EvalError(law, "Run it by hand.")
    return str(output)
