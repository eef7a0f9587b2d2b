"""What the calls share: how long work shows itself where nobody looks, and ranges of options."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any, NamedTuple


class Least(NamedTuple):
    """The least value of an option; the command line refuses what lies below."""

    value: float


Count = Annotated[int | None, Least(1)]
Number = Annotated[int, Least(0)]


class Quiet:
    """A screen that shows nothing: a piece of work that is its own progress."""

    def say(self, text: str) -> None:
        """Show no line."""

    def step(self, n: int = 1, note: str = "") -> None:
        """Move on."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Any]:
        """Show no progress."""
        return nullcontext(self)

    def trials(
        self, done: int, total: int, about: str = ""
    ) -> AbstractContextManager[Callable[..., None]]:
        """Show no trial."""
        return nullcontext(lambda trial, best: None)


QUIET = Quiet()
