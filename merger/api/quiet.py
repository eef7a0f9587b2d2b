"""How long work shows itself where nobody looks; the command gives a screen that does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.trial import Trial


class Quiet:
    """A screen that shows nothing: a piece of work that is its own progress."""

    def say(self, text: str) -> None:
        """Show no line."""

    def step(self, n: int = 1, note: str = "") -> None:
        """Move on."""

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Quiet]:
        """Show no progress."""
        yield self

    @contextmanager
    def trials(
        self, done: int, total: int, about: str = ""
    ) -> Iterator[Callable[[Trial, Trial | None], None]]:
        """Show no trial."""
        yield lambda trial, best: None


QUIET = Quiet()
