"""What the trainer is fed: prompts for its slots, and scores for its answers.

A slot is a number: prompt 7 of a run is slot 7 whatever happens to the process, and its item is a
function of (level, slot). So nothing about the data needs saving for a resumed run to see what an
unbroken one would have seen. Scores are those of the task's own verifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from evals.rewards import REWARDS
from evals.task import Item, Score
from merger.errors import RecipeError
from merger.registry import unknown

if TYPE_CHECKING:
    from evals.generate import Answerer
    from recipes.rl.curriculum import Curriculum
    from recipes.rl.settings import Settings
    from recipes.rl.source import Source

RewardFunction = Callable[..., list[float]]
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

    def rewards(self) -> list[RewardFunction]:
        """Return one function per column; each takes the answers' token ids and their items.

        Text is decoded here as in every evaluation: special tokens kept, the last one cut.
        """
        seen: dict[tuple[str, tuple[int, ...]], tuple[float, ...]] = {}

        def column(place: int) -> RewardFunction:
            def values(completion_ids: list[list[int]], item: list[Item], **_: Any) -> list[float]:
                if place == 0:
                    seen.clear()
                keys = [(one.id, tuple(ids)) for one, ids in zip(item, completion_ids, strict=True)]
                for key, one in zip(keys, item, strict=True):
                    if key not in seen:
                        seen[key] = self._measure(key[1], one)
                return [seen[key][place] for key in keys]

            values.__name__ = COLUMNS[place]
            return values

        return [column(place) for place in range(len(COLUMNS))]

    def _measure(self, ids: tuple[int, ...], item: Item) -> tuple[float, ...]:
        said = ids[:-1] if ids and ids[-1] in self.answerer.ends else ids
        text = self.answerer.tokenizer.decode(
            said, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        score = self.source.tasks[item.task].check(text, item)
        reward = get_reward(self.settings.reward)(score, f"{item.id}/{ids}")
        worked = bool(text.split("</think>")[0].strip())
        return reward, float(score.correct), float(score.format), float(worked), float(item.level)

    def _row(self, slot: int) -> dict[str, Any]:
        level, limit = self.curriculum.level_of(slot), self.settings.max_prompt_tokens
        for attempt in range(100):
            item = self.source.draw(level, slot + attempt * STRIDE)
            prompt = self.answerer.prompt(self.source.tasks[item.task], item)
            if len(self.answerer.tokenizer.encode(prompt, add_special_tokens=False)) <= limit:
                return {"prompt": prompt, "item": item, "slot": slot}
        raise RecipeError(
            f"{self.settings.task} level {level}: 100 items running exceed {limit} prompt tokens",
            "Raise max_prompt_tokens or train on easier levels.",
        )
