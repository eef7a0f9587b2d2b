"""Where training items come from: tasks that draw them without end, or a file that holds some.

Either way an item is a function of (level, index), the seed being fixed, so a resumed run sees what
an unbroken one would have seen. Several tasks are taken in turn; a file is gone through in a new
order each time round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from evals.own import FILES, read_items
from evals.task import Item, Task, draw_item, get_task
from merger.errors import RecipeError

if TYPE_CHECKING:
    from recipes.rl.settings import Settings


@dataclass(frozen=True)
class Source:
    """Tasks by name, for prompts and verdicts; levels in the order of training; items."""

    tasks: Mapping[str, Task]
    levels: tuple[int, ...]
    draw: Callable[[int, int], Item]


def is_file(task: str) -> bool:
    """Say whether a task is named by a file of items."""
    return task.endswith(FILES)


def full_name(task: str) -> str:
    """Return a task with aliases written out: ded+ind is deduction+induction."""
    return task if is_file(task) else "+".join(get_task(one).name for one in task.split("+"))


def open_source(settings: Settings) -> Source:
    """Return where the items of a run come from; raises for a task, file or level not there."""
    source = _listed(settings) if is_file(settings.task) else _generated(settings)
    if missing := [level for level in settings.levels if level not in source.levels]:
        known = ", ".join(map(str, source.levels))
        raise RecipeError(f"{settings.task} has no level {missing[0]}", f"Its levels: {known}.")
    return source


def _generated(settings: Settings) -> Source:
    """Draw new items of split `train`; index i asks task i modulo their number."""
    tasks = [get_task(name) for name in settings.task.split("+")]
    levels = tuple(lv for lv in tasks[0].levels if all(lv in task.levels for task in tasks))

    def draw(level: int, index: int) -> Item:
        place, which = divmod(index, len(tasks))
        task = tasks[which]
        return draw_item(task, level=level, split="train", seed=settings.seed, index=place)

    return Source({task.name: task for task in tasks}, levels, draw)


def _listed(settings: Settings) -> Source:
    """Take a file's items: all of a level once, in an order by chance, then all again."""
    task, items = read_items(Path(settings.task), settings.check)

    def draw(level: int, index: int) -> Item:
        here = [item for item in items if item.level == level]
        around, place = divmod(index, len(here))
        return here[_order(f"{settings.seed}/{level}/{around}", len(here))[place]]

    return Source({task.name: task}, tuple(sorted({item.level for item in items})), draw)


@lru_cache(maxsize=4)
def _order(key: str, n: int) -> Sequence[int]:
    return Random(key).sample(range(n), n)
