"""Where training items come from: a task that draws them without end, or a file that holds some.

Either way an item is a function of (level, index), the seed being fixed, so a resumed run sees what
an unbroken one would have seen. A file is gone through in a new order each time round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Protocol

from evals.own import read_items
from evals.task import Item, Task, draw_item, get_task
from merger.errors import RecipeError
from recipes.rl.settings import Settings

FILES = (".jsonl", ".json")


class Source(Protocol):
    """A task and its training items."""

    @property
    def task(self) -> Task:
        """The task, for prompts and verdicts."""

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels there are, in the order of training."""

    def draw(self, level: int, index: int) -> Item:
        """Return item `index` of a level."""


@dataclass(frozen=True)
class Generated:
    """A task of ours: items of its `train` split, each new."""

    task: Task
    seed: int

    @property
    def levels(self) -> tuple[int, ...]:
        """The task's levels."""
        return self.task.levels

    def draw(self, level: int, index: int) -> Item:
        """Draw an item."""
        return draw_item(self.task, level=level, split="train", seed=self.seed, index=index)


@dataclass(frozen=True)
class Listed:
    """The items of a file."""

    task: Task
    seed: int
    items: tuple[Item, ...]

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that the file's lines state, ascending."""
        return tuple(sorted({item.level for item in self.items}))

    def draw(self, level: int, index: int) -> Item:
        """Take an item: all of a level once, in an order by chance, then all again."""
        here = [item for item in self.items if item.level == level]
        around, place = divmod(index, len(here))
        return here[_order(f"{self.seed}/{level}/{around}", len(here))[place]]


def open_source(settings: Settings) -> Source:
    """Return where the items of a run come from; raises for a task, file or level not there."""
    source = _open(settings)
    if missing := [level for level in settings.levels if level not in source.levels]:
        known = ", ".join(map(str, source.levels))
        raise RecipeError(f"{settings.task} has no level {missing[0]}", f"Its levels: {known}.")
    return source


def is_file(task: str) -> bool:
    """Say whether a task is named by a file of items."""
    return task.endswith(FILES)


def _open(settings: Settings) -> Source:
    if is_file(settings.task):
        task, items = read_items(Path(settings.task), settings.check)
        return Listed(task, settings.seed, tuple(items))
    return Generated(get_task(settings.task), settings.seed)


@lru_cache(maxsize=4)
def _order(key: str, n: int) -> Sequence[int]:
    return Random(key).sample(range(n), n)
