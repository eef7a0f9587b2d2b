"""How a search shows itself: a bar on a terminal, one plain line a trial in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from textwrap import fill
from typing import TYPE_CHECKING, Any

from merger.cli.console import WIDTH, Progress, console, out, progress, say, table

if TYPE_CHECKING:
    from search.trial import Trial

_BARS = "▁▂▃▄▅▆▇█"


class Screen:
    """Everything goes to stderr; stdout is for the result."""

    def say(self, text: str) -> None:
        """Show a line."""
        say(text)

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Show the progress of work with a known number of steps."""
        return progress(label, total)

    @contextmanager
    def trials(self, done: int, total: int) -> Iterator[Callable[[Trial, Trial | None], None]]:
        """Show the trials as they finish."""
        if not console().is_terminal:
            yield lambda trial, best: say(line(trial, best))
            return
        history: list[float] = []
        with progress("search", total) as bar:
            bar.step(done)

            def told(trial: Trial, best: Trial | None) -> None:
                history.extend([best.values[0]] if best else [])
                bar.step(trial.state == "COMPLETE", note(trial, best, history))

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


def line(trial: Trial, best: Trial | None) -> str:
    """Return what a pipe shows of a finished trial."""
    head = f"trial {trial.number:>3}  {trial.source:<10.10} {trial.candidate.describe():<34}"
    if trial.state != "COMPLETE":
        return f"{head} failed: {trial.facts.get('error', '')}"
    if trial.facts.get("raced_out"):
        seen = trial.facts["items"]
        return f"{head} {numbers(trial)}  raced out at {seen} items by the {trial.facts['lost_to']}"
    mark = "  best so far" if best and best.number == trial.number else ""
    return f"{head} {numbers(trial)}{mark}"


def note(trial: Trial, best: Trial | None, history: list[float]) -> str:
    """Return what stands beside the bar: the best score, its course, the best candidate."""
    if best is None:
        return trial.source
    return f"best {numbers(best)} {spark(history[-16:])} {best.candidate.describe()}"


def numbers(trial: Trial) -> str:
    """Return the values of a trial in points."""
    return " ".join(f"{100 * v:5.1f}" for v in trial.values)


def spark(values: Sequence[float], span: tuple[float, float] | None = None) -> str:
    """Draw numbers as a row of blocks, from the least to the largest, or over a span."""
    low, high = span or (min(values), max(values))
    width = (high - low) or 1.0
    return "".join(_BARS[round((len(_BARS) - 1) * (v - low) / width)] for v in values)
