"""What shows work to whoever looks: lines, progress, trials. This one shows nothing.

Work of any room tells its screen what it does and knows nothing of terminals: the command's screen
draws bars and boxes, and a call from Python shows nothing unless it is given one.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import Any

# Called with a trial, finished or under way (RUNNING, with its items so far), and the best yet.
Told = Callable[[Any, Any], None]


class Screen:
    """Shows nothing: a piece of work that is its own progress."""

    def say(self, text: str) -> None:
        """Show a line."""

    def step(self, n: int = 1, note: str = "") -> None:
        """Move on by n and show a note of a few words."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Any]:
        """Show the progress of work with a known number of steps; the manager gives `step`."""
        return nullcontext(self)

    def trials(
        self, done: int, total: int | None, about: str = "", seconds: float = inf
    ) -> AbstractContextManager[Told]:
        """Show the trials as they go; the manager gives what is called with each.

        They end at `total`, if that is a number, or when the seconds are used.
        """
        return nullcontext(lambda trial, best: None)


QUIET = Screen()


def clock(seconds: float) -> str:
    """Return a duration as people read it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
