"""What a search needs of whoever shows it: lines, progress, trials; nothing here draws.

A trial that is under way is told too, in the state RUNNING and with the items it has seen, so that
one call serves bars, boxes and plain lines.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from search.trial import Trial

# Called with a finished trial, or one under way, and the best one so far.
Told = Callable[[Trial, Trial | None], None]


class Steps(Protocol):
    """A piece of work that moves on by steps."""

    def step(self, n: int = 1, note: str = "") -> None:
        """Move on by n and show a note of a few words."""


class Screen(Protocol):
    """What a search needs of whoever shows it."""

    def say(self, text: str) -> None:
        """Show a line."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Steps]:
        """Show the progress of work with a known number of steps."""

    def trials(self, done: int, total: int, about: str = "") -> AbstractContextManager[Told]:
        """Show the trials as they go; the manager gives what is called with each."""
