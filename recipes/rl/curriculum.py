"""From easy to hard: which level the next prompt comes from, and when a level is left.

Every prompt is a new item, answered before it is trained on, so the share of right answers among
the prompts of the current level is a held-out measure that costs nothing extra. A level is left
when that share, over the last few steps, reaches a bound, or when the level's part of the steps is
spent (what an easy level saves goes to the harder ones). A tenth of the prompts come from levels
already left, so that they are not forgotten.

The state is a function of the rewards seen: a resumed run replays its curve and stands where it
was.
"""

from collections import deque
from random import Random

from recipes.rl.settings import Settings


class Curriculum:
    """Levels in the order of training, and where the run stands among them."""

    def __init__(self, levels: tuple[int, ...], settings: Settings) -> None:
        self.levels, self.settings = levels, settings
        self._done = 0
        self._enter(0)

    @property
    def level(self) -> int:
        """The level that is being learned."""
        return self.levels[self._place]

    def level_of(self, slot: int) -> int:
        """Return the level for prompt number `slot` of the run: the current one, or a replay."""
        rng = Random(f"curriculum/{self.settings.seed}/{slot}")
        if self._place and rng.random() < self.settings.replay:
            return rng.choice(self.levels[: self._place])
        return self.level

    def report(self, correct: float | None) -> bool:
        """Note one step's share of right answers at the current level; True if it is now left.

        None says that the step had no prompt of this level.
        """
        self._done += 1
        if correct is not None:
            self._recent.append(correct)
        window, bound = self.settings.window, self.settings.promote_at
        learned = len(self._recent) == window and sum(self._recent) / window >= bound
        left = (learned or self._done >= self._until) and self._place < len(self.levels) - 1
        if left:
            self._enter(self._place + 1)
        return left

    def _enter(self, place: int) -> None:
        self._place = place
        self._recent: deque[float] = deque(maxlen=self.settings.window)
        self._until = self._done + (self.settings.steps - self._done) // (len(self.levels) - place)
