"""What a user types, read into options: items, durations, levels, tasks, models."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from evals.stats import items_for
from evals.task import Task
from merger.errors import UsageError
from merger.registry import unknown
from merger.spec.parse import dtype_of
from search.objective import Objective, parse
from search.racing import RULES
from search.run import Options
from search.study import SAMPLERS
from search.tasks import deal, open_task

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_TRIALS = 60
# With a time limit only, trials end when the time does.
_MANY = 10_000


@dataclass(frozen=True)
class Asked:
    """The options of a new search as texts, before anything is checked."""

    experts: str | None
    base: str = "base"
    family: str | None = None
    tasks: str = "ded,ind,abd"
    check: str = "exact"
    levels: str | None = None
    items: str = "100+200"
    mde: float | None = None
    trials: int | None = None
    time: str | None = None
    objective: str = "mean"
    sampler: str = "auto"
    racing: str = "sign"
    prefer: str = "simple"
    storage: str | None = None
    store: str | None = None
    dtype: str | None = None
    device: str = "cpu"
    max_new_tokens: int | None = None
    seed: int | None = None


def options_of(asked: Asked) -> Options:
    """Check what was asked and return the options; UsageError names the first thing wrong."""
    experts = _names(asked.experts or "")
    if not experts:
        raise UsageError("no experts are named", "Write --experts ded,ind,abd, or --resume RUN.")
    named = [_whole(name) for name in _names(asked.tasks)]
    found = [open_task(name, asked.check) for name in named]
    tasks = tuple(one.task for one in found)
    for kind, name, known in (
        ("sampler", asked.sampler, SAMPLERS),
        ("racing rule", asked.racing, RULES),
        ("preference", asked.prefer, ("simple", "best")),
    ):
        if name not in known:
            raise unknown(kind, name, known)
    goal = objective_of(asked.objective, tasks)
    n_search, n_select, n_confirm = items_of(asked.items)
    if asked.mde is not None:
        n_confirm = confirm_items(asked.mde, len(tasks))
    sizes = {"search": n_search, "select": n_select, "confirm": n_confirm}
    for name, one in zip(named, found, strict=True):
        if one.items:
            deal(one.items, sizes, name)
    seconds = seconds_of(asked.time) if asked.time else None
    sources = short_names((asked.base, *experts))
    base, *labels = sources
    return Options(
        experts=tuple(labels),
        base=base,
        sources=sources,
        tasks=tuple(named),
        check=asked.check,
        family=asked.family,
        levels=_levels_by_task(asked.levels, [one.task for one in found if not one.items]),
        trials=asked.trials or (_MANY if seconds else _TRIALS),
        seconds=seconds,
        objective=goal.text,
        sampler=asked.sampler,
        racing=asked.racing,
        n_search=n_search,
        n_select=n_select,
        n_confirm=n_confirm,
        seed=asked.seed or 0,
        # Confirm items that earlier searches have seen would favour what those searches liked.
        confirm_seed=secrets.randbelow(2**31) if asked.seed is None else asked.seed,
        prefer=asked.prefer,
        storage=asked.storage,
        store=asked.store,
        dtype=dtype_of(asked.dtype, "--dtype") if asked.dtype else None,
        device=asked.device,
        max_new_tokens=asked.max_new_tokens,
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


def objective_of(text: str, tasks: Sequence[Task]) -> Objective:
    """Read an objective over tasks, which may be named by their aliases."""
    return parse(text, [t.name for t in tasks], {t.alias: t.name for t in tasks})


def items_of(text: str) -> tuple[int, int, int]:
    """Read `search+confirm` or `search+select+confirm` items per task."""
    parts = text.split("+")
    if len(parts) not in (2, 3) or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise UsageError(f"--items is {text!r}", "Write search+confirm, such as 100+200.")
    numbers = [int(p) for p in parts]
    return (numbers[0], numbers[0], numbers[1]) if len(numbers) == 2 else tuple(numbers)  # type: ignore[return-value]


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
    hours, minutes, seconds = (float(g or 0) for g in found.groups()) if found else (0.0, 0.0, 0.0)
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise UsageError(f"--time is {text!r}", "Write a duration such as 90s, 10m or 1h30m.")
    return total


def levels_of(text: str) -> tuple[int, ...]:
    """Read levels: `1-2`, `3` or `1,3`."""
    levels: list[int] = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UsageError(f"--levels is {text!r}", "Write 1-2 or 1,3.")
        levels.extend(range(int(first), int(last or first) + 1))
    return tuple(dict.fromkeys(levels))


def _levels_by_task(text: str | None, tasks: Sequence[Task]) -> dict[str, tuple[int, ...]]:
    if text is None:
        return {}
    levels = levels_of(text)
    for task in tasks:
        if missing := [str(lv) for lv in levels if lv not in task.levels]:
            known = ", ".join(map(str, task.levels))
            raise UsageError(f"{task.name} has no level {missing[0]}", f"Its levels: {known}.")
    return {task.name: levels for task in tasks}


def _whole(name: str) -> str:
    """Return a task's name, or the absolute path of a file of items."""
    return str(Path(name).absolute()) if name.endswith(".jsonl") else name


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if len(set(names)) < len(names):
        raise UsageError(f"{text!r} names something twice", "Name each once.")
    return names
