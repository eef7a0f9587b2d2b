"""What a user types, read into options: items, durations, levels, tasks, models.

All that can be refused is refused here, before a run folder is made. Confirm items are drawn by a
seed of their own that is not foreseeable, unless --seed asks for a rerun.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import fields, replace
from math import ceil
from pathlib import Path

from evals.ledger import hidden
from evals.stats import items_for
from evals.suite import parse_levels
from evals.task import Task
from merger.device import check_device
from merger.errors import UsageError
from merger.operators import OPERATORS
from merger.registry import unknown
from merger.spec.parse import dtype_of
from search.asked import Asked, Common
from search.objective import Objective, parse
from search.racing import check_rule
from search.run import MANY, TRIALS, Options
from search.samplers import sampler_of
from search.scorers import Opened, Scorer, deal, open_task, refuse_benchmark

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_SQLITE = b"SQLite format 3\0"


def options_of(asked: Asked) -> Options:
    """Check what was asked and return the options; UsageError names the first thing wrong."""
    experts = _names(asked.experts or "")
    if not experts:
        raise UsageError("no experts are named", "Write --experts ded,ind,abd, or --resume RUN.")
    _check_words(asked)
    sources = short_names((asked.base, *experts))
    base, *labels = sources
    tasks = ("command",) if asked.objective_cmd else _tasks(asked.tasks)
    n_search, n_select, n_confirm = items_of(asked.items)
    if asked.mde is not None:
        n_confirm = confirm_items(asked.mde, len(tasks))
    kept = {f.name: getattr(asked, f.name) for f in fields(Common)}
    if asked.dtype:
        kept["dtype"] = dtype_of(asked.dtype, "--dtype")
    made = Options(
        **kept,
        experts=tuple(labels),
        base=base,
        sources=sources,
        tasks=tasks,
        guard=_tasks(asked.guard),
        operators=_operators(asked.operators, len(experts)),
        trials=asked.trials or (MANY if asked.time else TRIALS),
        seconds=seconds_of(asked.time) if asked.time else None,
        n_search=n_search,
        n_select=n_select,
        n_confirm=n_confirm,
        seed=asked.seed or 0,
        # Confirm items that earlier searches have seen would favour what those searches liked.
        confirm_seed=secrets.randbelow(2**31) if asked.seed is None else asked.seed,
    )
    for name in made.guard:  # what cannot be opened is told now, not when it is needed
        open_task(name, asked.check, asked.include_path)
    return _with_tasks(made, asked)


def _check_words(asked: Asked) -> None:
    check_device(asked.device)
    for option, url in (("--storage", asked.storage), ("--store", asked.store)):
        if url and hidden(url) != url:
            law = f"{option} {hidden(url)} holds a password, and the run folder would keep it"
            raise UsageError(law, "Leave it out: set PGPASSWORD, or write ~/.pgpass.")
        _check_file(option, (url or "").removeprefix("sqlite:///"))
    at_least(1, trials=asked.trials, max_new_tokens=asked.max_new_tokens)
    at_least(0, stage2=asked.stage2)
    for kind, name, known in (
        ("preference", asked.prefer, ("simple", "best")),
        ("space", asked.space, ("shares", "box")),
        ("warm start", asked.warm, ("losses", "gradient", "none")),
    ):
        if name not in known:
            raise unknown(kind, name, known)


def at_least(least: int, **given: float | None) -> None:
    """Refuse options below their least value, by name."""
    for name, value in given.items():
        if value is not None and value < least:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is {value:g}", f"Ask for {least} or more.")


def _operators(text: str, experts: int) -> tuple[str, ...]:
    """Check the operators to race: each must take this many experts."""
    for name in (names := _names(text)):
        fewest, most = OPERATORS[name].experts
        if not fewest <= experts <= (most or experts):
            law = f"operator {name} does not take {experts} experts"
            raise UsageError(law, "Leave it out of --operators.")
    return names


def _with_tasks(made: Options, asked: Asked) -> Options:
    """Open the tasks: their levels, whether they hold enough items, what may be searched on."""
    if not asked.allow_benchmark:
        for name in made.tasks:
            refuse_benchmark(name, asked.include_path)
    if asked.objective_cmd:
        found = [Opened(Scorer(*made.tasks))]  # what it holds it says when it is run
    else:
        found = [open_task(name, asked.check, asked.include_path) for name in made.tasks]
    tasks = [one.task for one in found]
    names = [task.name for task in tasks]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"task {min(twice)} stands twice", "Name each once; rename a file.")
    goal = objective_of(asked.objective, tasks)
    check_rule(asked.racing, goal.weights)
    sampler_of(asked.sampler, goal.directions)
    for name, one in zip(made.tasks, found, strict=True):
        if one.items:
            deal(one.items, made.sizes, name)
    drawn = [one.task for one in found if isinstance(one.task, Task) and not one.items]
    return replace(made, objective=goal.text, levels=_levels_by_task(asked.levels, drawn))


def _tasks(text: str) -> tuple[str, ...]:
    """Read names of tasks; files stand with their absolute paths."""
    return tuple(
        str(Path(name).absolute()) if name.endswith(".jsonl") else name for name in _names(text)
    )


def short_names(models: Sequence[str]) -> dict[str, str]:
    """Return what models are called here, short name -> source: folders by their last part.

    A folder stands with its absolute path, so that its name means the same from anywhere; where two
    last parts are equal, all keep the names they were given.
    """
    if len(set(models)) < len(models):
        raise UsageError(f"{', '.join(models)}: a model stands twice", "Name each model once.")
    last = [Path(name).name if Path(name).is_dir() else name for name in models]
    names = last if len(set(last)) == len(last) else models
    return {
        label: str(Path(name).absolute()) if Path(name).is_dir() else name
        for label, name in zip(names, models, strict=True)
    }


def objective_of(text: str, tasks: Sequence[Task | Scorer]) -> Objective:
    """Read an objective over tasks, which may be named by their aliases."""
    return parse(text, [t.name for t in tasks], {t.alias: t.name for t in tasks})


def items_of(text: str) -> tuple[int, int, int]:
    """Read `search+confirm` or `search+select+confirm` items per task."""
    parts = text.split("+")
    if len(parts) not in (2, 3) or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise UsageError(f"--items is {text!r}", "Write search+confirm, such as 100+200.")
    first, *rest = (int(p) for p in parts)
    select, confirm = rest if len(rest) == 2 else (first, rest[0])
    return first, select, confirm


def confirm_items(points: float, tasks: int, discordant: float = 0.1) -> int:
    """Return the confirm items a task that see a difference of so many points, with power 0.8.

    `discordant` is the share of items on which two merges are taken to differ.
    """
    if not 0 < points < 100:
        raise UsageError(f"--mde is {points}", "Give points, such as 2 for 2 %.")
    return ceil(items_for(points / 100, discordant) / tasks)


def seconds_of(text: str) -> float:
    """Read a duration such as 90s, 10m or 1h30m."""
    found = _DURATION.fullmatch(text.strip())
    parts = [float(part or 0) for part in found.groups()] if found else []
    total = sum(size * part for size, part in zip((3600, 60, 1), parts, strict=False))
    if total <= 0:
        raise UsageError(f"--time is {text!r}", "Write a duration such as 90s, 10m or 1h30m.")
    return total


def _levels_by_task(text: str | None, tasks: Sequence[Task]) -> dict[str, tuple[int, ...]]:
    if text is None:
        return {}
    levels = parse_levels(text) or ()
    for task in tasks:
        if missing := [str(lv) for lv in levels if lv not in task.levels]:
            known = ", ".join(map(str, task.levels))
            raise UsageError(f"{task.name} has no level {missing[0]}", f"Its levels: {known}.")
    return {task.name: levels for task in tasks}


def _check_file(option: str, place: str) -> None:
    """Refuse a file for a database where none can be, before a run folder is made."""
    path = Path(place)
    if not place or "://" in place:
        return
    if not path.parent.is_dir():
        raise UsageError(f"{option}: there is no folder {path.parent}", "Make it, or name another.")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(16) in (b"", _SQLITE):
                return
    if path.exists():
        raise UsageError(f"{option}: {path} is no SQLite database", "Name a new file.")


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(set(names)) < len(names):
        raise UsageError(f"{text!r} names something twice", "Name each once.")
    return names
