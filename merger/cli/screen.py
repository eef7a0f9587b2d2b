"""How a search shows itself: a box on a terminal, one plain line a trial in a pipe; and reports.

The box is pure text, 76 columns wide inside its frame, so that it can be tested without a terminal.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from math import inf
from textwrap import fill
from typing import TYPE_CHECKING, Any

from merger.cli.console import WIDTH, Progress, box, console, out, progress, say, table
from merger.screen import Screen, clock

if TYPE_CHECKING:
    from search.trial import Trial

INSIDE = 76
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class Terminal(Screen):
    """Everything goes to stderr; stdout is for the result. `every` shows each step on a line."""

    every: bool = False

    def say(self, text: str) -> None:
        """Show a line."""
        say(text)

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Show the progress of work with a known number of steps."""
        return progress(label, total, every=self.every)

    @contextmanager
    def trials(
        self, done: int, total: int | None, about: str = "", seconds: float = inf
    ) -> Iterator[Callable[["Trial", "Trial | None"], None]]:
        """Show the trials as they go: a box on a terminal, a line for each finished one else."""
        if not console().is_terminal:
            yield lambda trial, best: None if trial.state == "RUNNING" else say(line(trial, best))
            return
        panel = Panel(done, total, about, seconds)
        with box("merger search · Ctrl-C pauses, --resume continues", panel.lines) as refresh:

            def told(trial: "Trial", best: "Trial | None") -> None:
                panel.tell(trial, best)
                refresh()

            yield told


@dataclass
class Panel:
    """What is known of a search, from the trials that were told."""

    done: int
    total: int | None
    about: str = ""
    seconds: float = inf
    begun: float = field(default_factory=time.monotonic)
    history: list[float] = field(default_factory=list)
    items: list[int] = field(default_factory=list)  # of the trials that were finished here
    raced: int = 0
    whole: int = 0  # items of a trial that is not stopped
    best: "Trial | None" = None
    rows: dict[str, str] = field(default_factory=dict)

    def tell(self, trial: "Trial", best: "Trial | None") -> None:
        """Take note of a trial, finished or under way."""
        facts, items = trial.facts, int(trial.facts.get("items", 0))
        self.whole = max(self.whole, items, int(facts.get("of", 0)))
        part = min(1.0, items / max(1, self.whole))
        head = fit(f"#{trial.number} {trial.candidate.describe()}", 40)
        head += f" {'▓' * round(8 * part):░<8} {items:>4}/{self.whole:<4}"
        if trial.state == "RUNNING":
            self.rows["here"] = f"{head} Δ {100 * facts['gap']:+.1f}"
            return
        self.best = best or self.best
        self.history += [best.values[0]] if best else []
        self.rows.pop("here", None)
        if trial.state == "COMPLETE":
            self.done += 1
            self.items.append(items)
            self.raced += bool(facts.get("raced_out"))
        worker = str(facts.get("worker", "here")).rpartition(":")[2]
        told = numbers(trial) if trial.state == "COMPLETE" else "failed"
        self.rows[worker] = f"{head} {told}{' out' if facts.get('raced_out') else ''}"
        while len(self.rows) > 4:
            self.rows.pop(next(iter(self.rows)))

    def lines(self) -> list[str]:
        """Return the lines inside the frame."""
        made, spent = len(self.items), time.monotonic() - self.begun
        part, left = spent / self.seconds, max(0.0, self.seconds - spent)
        if self.total:
            part = max(part, self.done / self.total)
            pace = spent / made if made else inf
            left = min(left, pace * max(0, self.total - self.done))
        count = f"{self.done}/{self.total}" if self.total else f"{self.done}"
        eta = "…" if left == inf else clock(left)
        full = max(self.items, default=0) * made
        saved = full - sum(self.items)
        told = [
            f"search {'█' * round(24 * min(1.0, part)):░<24} {count} trials  ETA {eta}",
            f"{self.about} · raced out {self.raced} ({self.raced / max(1, made):.0%}) · "
            f"{saved} answers saved ({saved / max(1, full):.0%})",
        ]
        if self.best:
            course = spark(self.history[-16:]) if self.history else ""
            head = f"#{self.best.number} {self.best.candidate.describe()}"
            told.append(f"best {numbers(self.best)} {course} {head}")
            if (worth := self.best.facts.get("expected")) is not None:
                spread, beats = self.best.facts["expected_error"], self.best.facts.get("beats")
                odds = "" if beats is None else f"P(best > reference) {beats:.2f} · "
                told.append(f"{odds}expect {100 * worth:+.1f} ± {100 * spread:.1f} when confirmed")
        return [fit(text, INSIDE).rstrip() for text in [*told, *self.rows.values()]]


def line(trial: "Trial", best: "Trial | None") -> str:
    """Return what a pipe shows of a finished trial."""
    head = f"trial {trial.number:>3}  {trial.source:<10.10} {fit(trial.candidate.describe(), 34)}"
    if not (told := outcome(trial)):
        why = str(trial.facts.get("error", "")).partition("\n")[0]
        return fit(f"{head} failed: {why}", 160).rstrip()
    same = best is not None and best.candidate == trial.candidate
    return f"{head} {told}" + ("  best" if same and not trial.facts.get("raced_out") else "")


def outcome(trial: "Trial") -> str:
    """Return in a few words what became of a trial; nothing where it failed."""
    if trial.state != "COMPLETE":
        return ""
    out = f"  out at {trial.facts['items']}" if trial.facts.get("raced_out") else ""
    return numbers(trial) + out


def numbers(trial: "Trial") -> str:
    """Return the values of a trial in points."""
    return " ".join(f"{100 * v:5.1f}" for v in trial.values)


def fit(text: str, width: int) -> str:
    """Cut or pad a text to a width."""
    return text[: width - 1] + "…" if len(text) > width else text.ljust(width)


def spark(values: Sequence[float], span: tuple[float, float] | None = None) -> str:
    """Draw numbers as a row of blocks, from the least to the largest, or over a span."""
    low, high = span or (min(values), max(values))
    width = (high - low) or 1.0
    return "".join(_BARS[round((len(_BARS) - 1) * (v - low) / width)] for v in values)


def show(report: Mapping[str, Any]) -> None:
    """Print the tables of a report on stdout."""
    from search.tables import tables

    width = min(WIDTH, console(stderr=False).width)
    for shown in tables(report, width):
        if shown.columns:
            table(shown.title, shown.columns, shown.rows)
        else:
            out(fill(shown.title, width))
        for note in shown.notes:
            out(fill(note, width))
        out("")
