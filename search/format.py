"""Cells and tables: numbers as people read them, 80 columns wide, no meaning in colour alone.

Scores are in points (percent), differences carry their sign, p values their usual form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]
Section = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """A table for people; columns that begin with '>' are right-aligned."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def points(value: float) -> str:
    """Return a share in points: 0.613 is 61.3."""
    return f"{100 * value:.1f}"


def signed(value: float) -> str:
    """Return a difference in points with its sign."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def between(ci: Sequence[float]) -> str:
    """Return an interval of a difference."""
    return f"[{signed(ci[0])}, {signed(ci[1])}]"


def chance(p: float) -> str:
    """Return a p value as it is usually written."""
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def heads(document: Document) -> list[str]:
    """Return short names of the tasks, for columns."""
    return [f">{t['alias'][:7]}" for t in document["tasks"]]


def by_task(
    values: Mapping[str, float], document: Document, show: Callable[[float], str]
) -> list[str]:
    """Return one cell a task."""
    return [show(values[t["name"]]) for t in document["tasks"]]
