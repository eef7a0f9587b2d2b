"""What to evaluate, as users name it: our tasks, lm-eval's, files of items, commands.

`ded,lm_eval:gsm8k,my.jsonl` becomes a list of entries; each gives ledger rows for a subject, a
model that is loaded, lies in a folder, or both. An entry knows its items before any model is
there, so a search can say what it will cost.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from evals.command import check_command, command_rows
from evals.generate import Answerer, Settings
from evals.ledger import Ledger, Row
from evals.own import FILES, read_items
from evals.paper import SUITE, paper_settings, read_benchmark, suite_names
from evals.runner import Progress, evaluate_all
from evals.task import Item, Task, get_task, items
from evals.v0 import read_v0
from merger.errors import UsageError

LM_EVAL, V0 = "lm_eval:", "v0:"
_LEVELS = 1_000  # more than any task has
DEFAULT_N = 100  # items of a task of ours; files and lm-eval tasks are taken whole


@dataclass(frozen=True)
class Subject:
    """A model to evaluate: fingerprint of its weights, the live model (no command asks), folder."""

    fingerprint: str
    answerer: Answerer | None
    path: Path


@dataclass(frozen=True)
class Entry:
    """One thing to evaluate on, under the name its results have: a task, lm-eval's or a command.

    `size` is the number of items if known, `own` what the entry makes of the settings asked for.
    """

    name: str
    size: int = 0
    task: Task | None = None
    items: Sequence[Item] = ()
    own: Callable[[Settings], Settings] = lambda asked: asked
    options: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None

    def answers(self, settings: Settings) -> int:
        """Return how many answers are wanted, if known."""
        return self.size * self.own(settings).samples

    def check(self) -> None:
        """Raise `EvalError` where an lm-eval task is unknown or its data cannot be loaded."""
        if self.name.startswith(LM_EVAL):
            from evals.harness import documents

            documents(self.name.removeprefix(LM_EVAL), self.options["include_path"])


def answer_all(
    entries: Sequence[Entry],
    subject: Subject,
    *,
    ledger: Ledger,
    settings: Settings,
    progress: Progress | None = None,
) -> dict[str, list[Row]]:
    """Return the rows of all items by entry, from the ledger where they are there.

    Tasks of ours that are asked alike are one batch.
    """
    kept: dict[str, Any] = {"ledger": ledger, "progress": progress}
    model: Any = subject.answerer  # there is one: only a command is asked without
    mark, found = subject.fingerprint, dict[str, list[Row]]()
    alike = defaultdict[Settings, dict[str, tuple[Task, Sequence[Item]]]](dict)
    for entry in entries:
        if entry.task:
            alike[entry.own(settings)][entry.name] = (entry.task, entry.items)
        elif entry.command is not None:
            found[entry.name] = command_rows(entry.command, mark, subject.path, ledger)
    for how, asked in alike.items():
        rows = evaluate_all(model, mark, list(asked.values()), settings=how, **kept)
        found |= dict(zip(asked, rows, strict=True))
    for entry in entries:
        if entry.name not in found:
            from evals.harness import evaluate_lm_eval

            name = entry.name.removeprefix(LM_EVAL)
            found[entry.name] = evaluate_lm_eval(model, mark, name, **entry.options, **kept)
    return {entry.name: found[entry.name] for entry in entries}


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
    command: str | None = None,
) -> list[Entry]:
    """Read a comma-separated list of tasks, suites and files, n items of each.

    Without n: 100 of our own tasks, all of the others. `levels` are those of every task of ours, or
    by task name (a task that is not named gets all of its levels); `data` is the folder of a
    suite's files. A `command` that scores a folder stands instead of all tasks.
    """
    if command is not None:
        check_command(command)
        return [Entry("command", command=command)]

    def draw(task: Task) -> list[Item]:
        own = levels.get(task.name) if isinstance(levels, Mapping) else levels
        return items(task, n=n or DEFAULT_N, split=split, seed=seed, levels=own)

    entries: dict[str, Entry] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        for entry in _entries(name, draw, n, check, include_path, data):
            if entries.setdefault(entry.name, entry).items != entry.items:
                law = f"two of the tasks are named {entry.name!r}, and their items differ"
                raise UsageError(law, "Rename a file, or ask for one of them at a time.")
    if not entries:
        raise UsageError("no task is named", "Name some, as in --tasks ded,ind,abd.")
    return list(entries.values())


def _entries(
    name: str,
    draw: Callable[[Task], Sequence[Item]],
    n: int | None,
    check: str,
    include_path: str | None,
    data: Path | None,
) -> Iterator[Entry]:
    """Yield what one name stands for: a suite is several."""

    def of(task: Task, found: Sequence[Item], **more: Any) -> Entry:
        return Entry(task.name, len(found), task, found, **more)

    if name.startswith(LM_EVAL):
        yield Entry(name, n or 0, options={"limit": n, "include_path": include_path})
    elif name.partition(":")[0] == SUITE:
        for one in suite_names(name, data):
            benchmark, found = read_benchmark(one, data)
            yield of(benchmark, found[:n], own=partial(paper_settings, one))
    elif name.endswith(FILES) or name.startswith(V0):
        path = Path(name.removeprefix(V0))
        file_task, found = read_v0(path) if name.startswith(V0) else read_items(path, check)
        yield of(file_task, found[:n])
    elif Path(name).is_file():
        law = f"{name} is no kind of file that is read"
        raise UsageError(law, f"One of {', '.join(FILES)} is.")
    else:
        task = get_task(name)
        yield of(task, draw(task))


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
