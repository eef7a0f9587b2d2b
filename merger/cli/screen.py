"""How a search shows itself: a box on a terminal, one plain line a trial in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, Any

from merger.cli.console import WIDTH, Progress, box, console, out, progress, say, table
from merger.cli.panel import Panel, line

if TYPE_CHECKING:
    from search.trial import Trial


class Screen:
    """Everything goes to stderr; stdout is for the result."""

    def say(self, text: str) -> None:
        """Show a line."""
        say(text)

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Show the progress of work with a known number of steps."""
        return progress(label, total)

    @contextmanager
    def trials(
        self, done: int, total: int, about: str = ""
    ) -> Iterator[Callable[[Trial, Trial | None], None]]:
        """Show the trials as they go: a box on a terminal, a line for each finished one else."""
        if not console().is_terminal:
            yield lambda trial, best: None if trial.state == "RUNNING" else say(line(trial, best))
            return
        panel = Panel(done, total, about)
        with box("merger search · Ctrl-C pauses, --resume continues", panel.lines) as refresh:

            def told(trial: Trial, best: Trial | None) -> None:
                panel.tell(trial, best)
                refresh()

            yield told


def show(report: Mapping[str, Any], only: Sequence[str] = ()) -> None:
    """Print the tables of a report on stdout."""
    from search.tables import tables

    for shown in tables(report, only):
        if shown.columns:
            table(shown.title, shown.columns, shown.rows)
        else:
            out(shown.title)
        for note in shown.notes:
            out(fill(note, WIDTH))
        out("")
