"""What shows work to whoever looks: lines, progress, trials. This one shows nothing.

Work of any room tells its screen what it does and knows nothing of terminals: the command's screen
draws bars and boxes, and a call from Python shows nothing unless it is given one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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

    def trials(self, done: int, total: int, about: str = "") -> AbstractContextManager[Told]:
        """Show the trials as they go; the manager gives what is called with each."""
        return nullcontext(lambda trial, best: None)


QUIET = Screen()
