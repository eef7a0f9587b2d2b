"""What the trainer is fed: items for its slots, as prompts, and scores for its answers.

A slot is a number: prompt 7 of a run is slot 7 whatever happens to the process, and its item is a
function of (level, slot), the seed being fixed. So nothing about the data needs saving for a
resumed run to see what an unbroken one would have seen. Items come from tasks that draw them
without end, several being taken in turn, or from a file, gone through in a new order each time
round. Scores are those of the task's own verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from evals.own import FILES, read_items
from evals.rewards import REWARDS
from evals.task import Item, Score, Task, draw_item, get_task
from merger.errors import RecipeError
from merger.registry import unknown

if TYPE_CHECKING:
    from evals.generate import Answerer
    from recipes.rl.curriculum import Curriculum
    from recipes.rl.settings import Settings

# The columns of a step: the reward counts, the others are watched.
COLUMNS = ("reward", "correct", "format", "worked", "level")
# Redrawn items of a slot are this far apart, beyond any number of slots a run has; divisible by up
# to 16 tasks, so that a slot's task stays the same.
STRIDE = 720_720_000
# Rewards that know nothing of the answer's worth, as controls: the tags alone, and a coin, which is
# a function of the answer's address, so that a resumed run tosses the same.
CONTROLS: dict[str, Callable[[Score, str], float]] = {
    "format": lambda score, address: float(score.format),
    "random": lambda score, address: float(Random(address).getrandbits(1)),
}


def get_reward(name: str) -> Callable[[Score, str], float]:
    """Return a reward of (score, address of the answer): a preset or a control."""
    if name in CONTROLS:
        return CONTROLS[name]
    if name not in REWARDS:
        raise unknown("reward", name, [*REWARDS, *CONTROLS])
    return lambda score, address: REWARDS[name](score)


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
        how: dict[str, Any] = {"split": "train", "seed": settings.seed, "index": place}
        return draw_item(tasks[which], level=level, **how)

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


@dataclass(frozen=True)
class Feed:
    """Turns slots into prompts of the right level, and answers into rewards."""

    source: Source
    answerer: Answerer
    curriculum: Curriculum
    settings: Settings

    def rows(self, slots: Sequence[int]) -> list[dict[str, Any]]:
        """Return prompt, item and slot for each slot, as the trainer takes them.

        The prompt is a string, rendered here: the trainer would close a pre-filled turn.
        """
        made = {slot: self._row(slot) for slot in sorted(set(slots))}
        return [made[slot] for slot in slots]

    def measure(self, ids: Sequence[int], item: Item) -> tuple[float, ...]:
        """Return the columns of an answer, given as token ids.

        Text is decoded here as in every evaluation: special tokens kept, the last one cut.
        """
        said = ids[:-1] if ids and ids[-1] in self.answerer.ends else ids
        text = self.answerer.text(list(said))
        score = self.source.tasks[item.task].check(text, item)
        reward = get_reward(self.settings.reward)(score, f"{item.id}/{tuple(ids)}")
        worked = bool(text.split("</think>")[0].strip())
        return reward, float(score.correct), float(score.format), float(worked), float(item.level)

    def _row(self, slot: int) -> dict[str, Any]:
        level, limit = self.curriculum.level_of(slot), self.settings.max_prompt_tokens
        for attempt in range(100):
            item = self.source.draw(level, slot + attempt * STRIDE)
            prompt = self.answerer.prompt(self.source.tasks[item.task], item)
            if len(self.answerer.tokenizer.encode(prompt, add_special_tokens=False)) <= limit:
                return {"prompt": prompt, "item": item, "slot": slot}
        law = f"{self.settings.task} level {level}: 100 items running exceed {limit} prompt tokens"
        raise RecipeError(law, "Raise max_prompt_tokens or train on easier levels.")
