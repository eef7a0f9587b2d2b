"""The box that a terminal shows while a search runs: where it stands, the best, trials under way.

Pure text, 76 columns wide inside its frame, so that it can be tested without a terminal; colour
says nothing that words do not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.trial import Trial

INSIDE = 76
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class Panel:
    """What is known of a search, from the trials that were told."""

    done: int
    total: int
    about: str = ""
    begun: float = field(default_factory=time.monotonic)
    made: int = 0
    history: list[float] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    raced: int = 0
    best: Trial | None = None
    rows: dict[str, str] = field(default_factory=dict)

    def tell(self, trial: Trial, best: Trial | None) -> None:
        """Take note of a trial, finished or under way."""
        worker = str(trial.facts.get("worker", "here")).rpartition(":")[2]
        head = f"#{trial.number} {trial.candidate.describe()}"
        if trial.state == "RUNNING":
            self.rows["here"] = fit(head, 56) + f" {trial.facts['items']} items"
            return
        self.best = best or self.best
        self.history.extend([best.values[0]] if best else [])
        self.rows.pop("here", None)
        if trial.state == "COMPLETE":
            self.done, self.made = self.done + 1, self.made + 1
            self.items.append(int(trial.facts.get("items", 0)))
            self.raced += bool(trial.facts.get("raced_out"))
        self.rows[worker] = fit(head, 56) + f" {outcome(trial)}"
        while len(self.rows) > 4:
            self.rows.pop(next(iter(self.rows)))

    def lines(self) -> list[str]:
        """Return the lines inside the frame."""
        share = min(1.0, self.done / max(1, self.total))
        bar = "█" * round(24 * share) + "░" * (24 - round(24 * share))
        spent = time.monotonic() - self.begun
        left = spent / self.made * (self.total - self.done) if self.made else 0.0
        eta = f"ETA {left / 60:.0f}m{left % 60:02.0f}s" if self.made else "ETA …"
        full = max(self.items, default=0) * len(self.items)
        saved = full - sum(self.items)
        told = [f"search {bar} {self.done}/{self.total} trials  {eta}"]
        told.append(
            f"{self.about} · raced out {self.raced} ({self.raced / max(1, self.made):.0%}) · "
            f"{saved} answers saved ({saved / max(1, full):.0%})"
        )
        if self.best:
            worth = self.best.facts.get("expected")
            course = spark(self.history[-16:]) if self.history else ""
            told.append(
                f"best {numbers(self.best)} {course} #{self.best.number} "
                f"{self.best.candidate.describe()}"
            )
            if worth is not None:
                spread = self.best.facts["expected_error"]
                told.append(f"expect {100 * worth:+.1f} ± {100 * spread:.1f} when confirmed")
        return [fit(text, INSIDE).rstrip() for text in [*told, *self.rows.values()]]


def outcome(trial: Trial) -> str:
    """Return in a few words what became of a trial."""
    if trial.state != "COMPLETE":
        return "failed"
    out = f" out at {trial.facts['items']}" if trial.facts.get("raced_out") else ""
    return numbers(trial) + out


def fit(text: str, width: int) -> str:
    """Cut or pad a text to a width."""
    return text[: width - 1] + "…" if len(text) > width else text.ljust(width)


def numbers(trial: Trial) -> str:
    """Return the values of a trial in points."""
    return " ".join(f"{100 * v:5.1f}" for v in trial.values)


def spark(values: Sequence[float], span: tuple[float, float] | None = None) -> str:
    """Draw numbers as a row of blocks, from the least to the largest, or over a span."""
    low, high = span or (min(values), max(values))
    width = (high - low) or 1.0
    return "".join(_BARS[round((len(_BARS) - 1) * (v - low) / width)] for v in values)


def line(trial: Trial, best: Trial | None) -> str:
    """Return what a pipe shows of a finished trial."""
    head = f"trial {trial.number:>3}  {trial.source:<10.10} {fit(trial.candidate.describe(), 34)}"
    if trial.state != "COMPLETE":
        return fit(
            f"{head} failed: {trial.facts.get('error', '')}".partition("\n")[0], 120
        ).rstrip()
    if trial.facts.get("raced_out"):
        return f"{head} {numbers(trial)}  out at {trial.facts['items']}"
    same = best is not None and best.candidate == trial.candidate
    return f"{head} {numbers(trial)}" + ("  best" if same else "")
