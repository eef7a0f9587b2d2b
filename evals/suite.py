"""What to evaluate, as users name it: our tasks, lm-eval's, files of items, commands.

`ded,lm_eval:gsm8k,my.jsonl` becomes a list of entries; each gives ledger rows for a subject, a
model that is loaded, lies in a folder, or both. An entry knows its items before any model is
there, so a search can say what it will cost.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from evals.generate import Answerer, Settings
from evals.ledger import Cell, Ledger, Row
from evals.own import read_items
from evals.runner import Progress, evaluate
from evals.task import Item, Task, get_task, items
from merger.errors import EvalError, UsageError

LM_EVAL = "lm_eval:"
DEFAULT_N = 100  # items of a task of ours; files and lm-eval tasks are taken whole


@dataclass(frozen=True)
class Subject:
    """A model to evaluate: its weights' fingerprint, the live model, its folder if it has one."""

    fingerprint: str
    answerer: Answerer
    path: Path | None = None


class Entry(Protocol):
    """One thing to evaluate on."""

    @property
    def name(self) -> str:
        """The name that results are shown under."""

    @property
    def size(self) -> int:
        """The number of items."""

    def rows(
        self,
        subject: Subject,
        *,
        ledger: Ledger,
        settings: Settings,
        progress: Progress | None = None,
    ) -> list[Row]:
        """Return the rows of all items, from the ledger where they are there."""


@dataclass(frozen=True)
class TaskEntry:
    """A task of ours, or a file of items, with the items drawn."""

    task: Task
    items: Sequence[Item]

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def size(self) -> int:
        """The number of items."""
        return len(self.items)

    def rows(
        self,
        subject: Subject,
        *,
        ledger: Ledger,
        settings: Settings,
        progress: Progress | None = None,
    ) -> list[Row]:
        """Evaluate the live model on the items."""
        return evaluate(
            subject.answerer,
            subject.fingerprint,
            self.task,
            self.items,
            ledger=ledger,
            settings=settings,
            progress=progress,
        )


@dataclass(frozen=True)
class LmEvalEntry:
    """A task of lm-eval on the live model; `size` is what was asked for (0: all of it)."""

    name: str
    size: int = 0
    include_path: str | None = None

    def rows(
        self,
        subject: Subject,
        *,
        ledger: Ledger,
        settings: Settings,
        progress: Progress | None = None,
    ) -> list[Row]:
        """Evaluate through lm-eval; its own prompts and metrics, greedy unless the task samples."""
        from evals.harness import evaluate_lm_eval

        return evaluate_lm_eval(
            subject.answerer,
            subject.fingerprint,
            self.name.removeprefix(LM_EVAL),
            ledger=ledger,
            limit=self.size or None,
            include_path=self.include_path,
            progress=progress,
        )


@dataclass(frozen=True)
class CommandEntry:
    """A command that scores a folder: `{model}` is replaced, rows of JSON are read from stdout.

    A row is {"id": …, "score": 0 to 1} with `text` if wanted; no shell is involved.
    """

    command: str
    name: str = "command"
    size: int = field(default=0)

    def rows(
        self,
        subject: Subject,
        *,
        ledger: Ledger,
        settings: Settings,
        progress: Progress | None = None,
    ) -> list[Row]:
        """Run the command unless the ledger holds its rows for these weights."""
        contract = sha256(self.command.encode()).hexdigest()[:12]
        cell = Cell(subject.fingerprint, self.name, "v1", contract, "")
        if not ledger.rows(cell):
            if subject.path is None:
                raise UsageError("a command needs a model in a folder", "Save the model first.")
            ledger.put(cell, read_rows(run_command(self.command, subject.path), self.command))
        rows = list(ledger.rows(cell).values())
        if progress:
            progress(len(rows), self.name)
        return rows


def run_command(command: str, model: Path) -> str:
    """Run a command with `{model}` replaced and return its stdout; `EvalError` if it fails."""
    words = [w.replace("{model}", str(model)) for w in shlex.split(command)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise EvalError(f"{words[0]!r} cannot be run: {error}", "Check the command.") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        raise EvalError(f"{command!r} ended with {done.returncode}: {said[0]}", "Run it by hand.")
    return done.stdout


def read_rows(text: str, where: str) -> list[Row]:
    """Read rows {"id", "score"} of JSONL; `EvalError` names the line that is wrong."""
    rows: dict[str, Row] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        facts = _json(line)
        score = facts.get("score")
        if "id" not in facts or not isinstance(score, int | float) or not 0 <= score <= 1:
            raise EvalError(
                f"{where}, line {number}: {line[:60]!r} is no row",
                'Print one {"id": …, "score": between 0 and 1} a line and nothing else.',
            )
        item, said = str(facts["id"]), str(facts.get("text", ""))
        rows[item] = Row(item, 0, said, "stop", 0, True, True, float(score), "command")
    if not rows:
        raise EvalError(f"{where} printed no rows", 'Print one {"id": …, "score": …} a line.')
    return list(rows.values())


def _json(line: str) -> dict[str, Any]:
    try:
        facts = json.loads(line)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def parse_suite(
    names: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    levels: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None,
    check: str = "exact",
    include_path: str | None = None,
) -> list[Entry]:
    """Read a comma-separated list of tasks, `lm_eval:` names and .jsonl files, n items of each.

    Without n: 100 of our own tasks, all of the others. `levels` are those of every task of ours, or
    by task name (a task that is not named gets all of its levels).
    """
    entries: list[Entry] = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name.startswith(LM_EVAL):
            entries.append(LmEvalEntry(name, n or 0, include_path))
        elif name.endswith((".jsonl", ".json")):
            entries.append(_file_entry(Path(name), check, n))
        else:
            task = get_task(name)
            own = levels.get(task.name) if isinstance(levels, Mapping) else levels
            drawn = items(task, n=n or DEFAULT_N, split=split, seed=seed, levels=own)
            entries.append(TaskEntry(task, drawn))
    if not entries:
        raise UsageError("no task is named", "Name some, as in --tasks ded,ind,abd.")
    return entries


def _file_entry(path: Path, check: str, n: int | None) -> TaskEntry:
    task, found = read_items(path, check)
    return TaskEntry(task, found[:n])


def parse_levels(text: str | None) -> tuple[int, ...] | None:
    """Read `1-3` or `1,2,5`; None stays None (all levels)."""
    if not text:
        return None
    try:
        found: list[int] = []
        for part in text.split(","):
            low, dash, high = part.partition("-")
            found += range(int(low), int(high if dash else low) + 1)
    except ValueError:
        found = []
    if not found:
        raise UsageError(f"levels {text!r} cannot be read", "Write 1-3 or 1,2,5.")
    return tuple(dict.fromkeys(found))
