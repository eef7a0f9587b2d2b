"""What to evaluate, as users name it: our tasks, lm-eval's, files of items, commands.

`ded,lm_eval:gsm8k,my.jsonl` becomes a list of entries; each gives ledger rows for a subject, a
model that is loaded, lies in a folder, or both. An entry knows its items before any model is
there, so a search can say what it will cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from evals.generate import Answerer, Settings
from evals.ledger import Ledger, Row
from evals.own import FILES, read_items
from evals.paper import SUITE, paper_settings, read_benchmark, suite_names
from evals.runner import Progress, evaluate
from evals.task import Item, Task, get_task, items
from evals.v0 import read_v0
from merger.errors import UsageError

LM_EVAL, V0 = "lm_eval:", "v0:"
_LEVELS = 1_000  # more than any task has
DEFAULT_N = 100  # items of a task of ours; files and lm-eval tasks are taken whole


@dataclass(frozen=True)
class Subject:
    """A model to evaluate: its weights' fingerprint, the live model, its folder if it has one."""

    fingerprint: str
    answerer: Answerer | None
    path: Path | None = None

    @property
    def live(self) -> Answerer:
        """The live model; a `UsageError` where none was loaded."""
        if self.answerer is None:
            raise UsageError("the tasks need a live model", "Load it first.")
        return self.answerer


class Scorer(Protocol):
    """What gives an entry's rows for a subject, from the ledger where they are there."""

    def __call__(
        self, subject: Subject, ledger: Ledger, settings: Settings, progress: Progress | None, /
    ) -> list[Row]:
        """Return a row for each item and sample."""


@dataclass(frozen=True)
class Entry:
    """One thing to evaluate on: the name results are shown under, its size if known, its scorer."""

    name: str
    size: int
    scorer: Scorer
    items: Sequence[Item] = ()

    def rows(
        self,
        subject: Subject,
        *,
        ledger: Ledger,
        settings: Settings,
        progress: Progress | None = None,
    ) -> list[Row]:
        """Return the rows of all items, from the ledger where they are there."""
        return self.scorer(subject, ledger, settings, progress)


def task_entry(
    task: Task, drawn: Sequence[Item], own: Callable[[Settings], Settings] = lambda asked: asked
) -> Entry:
    """Return an entry for a task with its items drawn; `own` is what it makes of the settings."""

    def score(
        subject: Subject, ledger: Ledger, settings: Settings, progress: Progress | None
    ) -> list[Row]:
        return evaluate(
            subject.live,
            subject.fingerprint,
            task,
            drawn,
            ledger=ledger,
            settings=own(settings),
            progress=progress,
        )

    return Entry(task.name, len(drawn), score, drawn)


def lm_eval_entry(name: str, limit: int | None = None, include_path: str | None = None) -> Entry:
    """Return an entry for a task of lm-eval: its own prompts and metrics, on the live model."""

    def score(
        subject: Subject, ledger: Ledger, settings: Settings, progress: Progress | None
    ) -> list[Row]:
        from evals.harness import evaluate_lm_eval

        return evaluate_lm_eval(
            subject.live,
            subject.fingerprint,
            name.removeprefix(LM_EVAL),
            ledger=ledger,
            limit=limit,
            include_path=include_path,
            progress=progress,
        )

    return Entry(name, limit or 0, score)


def command_entry(command: str) -> Entry:
    """Return an entry for a command that scores a folder (evals/command.py)."""
    from evals.command import check_command, command_rows

    check_command(command)

    def score(
        subject: Subject, ledger: Ledger, settings: Settings, progress: Progress | None
    ) -> list[Row]:
        if subject.path is None:
            raise UsageError("a command needs a model in a folder", "Save the model first.")
        rows = command_rows(command, subject.fingerprint, subject.path, ledger)
        if progress:
            progress(len(rows), "command")
        return rows

    return Entry("command", 0, score)


def parse_suite(
    names: str,
    *,
    split: str,
    n: int | None = None,
    seed: int = 0,
    levels: tuple[int, ...] | Mapping[str, tuple[int, ...]] | None = None,
    check: str = "exact",
    include_path: str | None = None,
    data: Path | None = None,
) -> list[Entry]:
    """Read a comma-separated list of tasks, suites and files, n items of each.

    Without n: 100 of our own tasks, all of the others. `levels` are those of every task of ours, or
    by task name (a task that is not named gets all of its levels); `data` is the folder of a
    suite's files.
    """
    entries: list[Entry] = []
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name.startswith(LM_EVAL):
            entries.append(lm_eval_entry(name, n, include_path))
        elif name.partition(":")[0] == SUITE:
            for one in suite_names(name):
                benchmark, found = read_benchmark(one, data)
                entries.append(task_entry(benchmark, found[:n], partial(paper_settings, one)))
        elif name.endswith(FILES):
            path = Path(name.removeprefix(V0))
            file_task, found = read_v0(path) if name.startswith(V0) else read_items(path, check)
            entries.append(task_entry(file_task, found[:n]))
        else:
            task = get_task(name)
            own = levels.get(task.name) if isinstance(levels, Mapping) else levels
            drawn = items(task, n=n or DEFAULT_N, split=split, seed=seed, levels=own)
            entries.append(task_entry(task, drawn))
    if not entries:
        raise UsageError("no task is named", "Name some, as in --tasks ded,ind,abd.")
    return entries


def parse_levels(text: str | None) -> tuple[int, ...] | None:
    """Read `1-3` or `1,2,5`; None stays None (all levels)."""
    if not text:
        return None
    found: list[int] = []
    try:
        for part in text.split(","):
            low, dash, high = part.partition("-")
            found += range(int(low), int(high if dash else low) + 1)[:_LEVELS]
    except ValueError:
        found = []
    if not 0 < len(found) < _LEVELS:
        raise UsageError(f"levels {text!r} cannot be read", "Write 1-3 or 1,2,5.")
    return tuple(dict.fromkeys(found))
