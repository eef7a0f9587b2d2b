"""Score -> reward: the one place where a verdict becomes a number for RL.

`paper` is arXiv 2505.10554 section 3.2 (format +1/-1, answer +2/-2, added); `upstream` is what the
authors' published reward does (+1/-1 for the format; then +2 right, -1.5 wrong, -2 unreadable, the
answer not read at all after a format failure); `binary` is right or not, as SimpleRL-Zoo's Stage C.
"""

from collections.abc import Callable

from evals.task import Score
from merger.registry import Registry

Reward = Callable[[Score], float]
REWARDS: Registry[Reward] = Registry("reward")


def paper(score: Score) -> float:
    """Format +1 or -1, plus answer +2 or -2."""
    return (1.0 if score.format else -1.0) + (2.0 if score.correct else -2.0)


def upstream(score: Score) -> float:
    """What the authors' code returns: +3, -0.5, -1 or -3."""
    if not score.format:
        return -3.0
    return 1.0 + (2.0 if score.correct else -1.5 if score.parsed else -2.0)


def binary(score: Score) -> float:
    """Return 1 when the answer is right, else 0; the format is not asked for."""
    return float(score.correct)


for _name, _reward in (("paper", paper), ("upstream", upstream), ("binary", binary)):
    REWARDS.add(_name, _reward)
