"""What a report is made of: records of plain data, and how their cells are written.

A section is a title, tables, figures and notes. A column says what its numbers are (its kind), so
the terminal, markdown and HTML write the same cell from the same number. Scores are in points
(percent), differences carry their sign, p values their usual form; nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]
Section = dict[str, Any]
Column = list[Any]


@dataclass(frozen=True)
class Table:
    """A table for people; columns that begin with '>' are right-aligned."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def columns(text: str) -> list[Column]:
    """Read columns, `key:label:kind, …`: the label is the key and the kind text where left out.

    A `*` behind a column leaves it out where a line has 80 characters.
    """
    made = []
    for one in text.split(", "):
        key, label, kind = [*one.rstrip("*").split(":"), "", ""][:3]
        made.append([key, label or key, kind or "text", one.endswith("*")])
    return made


def grid(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]], title: str = "") -> Section:
    """Return a table as data; rows are looked up by the columns' keys and may hold more."""
    return {"title": title, "columns": list(columns), "rows": [dict(row) for row in rows]}


def box(facts: Mapping[str, str]) -> Section:
    """Return facts by name as a table without heads."""
    return grid([["name", "", "text", False], ["value", "", "text", False]],
                [{"name": name, "value": text} for name, text in facts.items()])  # fmt: skip


def section(*notes: str, title: str = "", **facts: Any) -> Section:
    """Return a section as data: notes, `tables`, `figures` and whatever else it states."""
    return {"title": title, "notes": [n for n in notes if n], "tables": [], "figures": []} | facts


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


# Kind of a column -> how a cell that is there is written; all but text are right-aligned.
WRITERS: dict[str, Callable[[Any], str]] = {
    "text": str,
    "count": str,
    "points": points,
    "signed": signed,
    "interval": lambda ends: f"{points(ends[0])}–{points(ends[1])}",
    "between": between,
    "p": chance,
    "share": lambda value: f"{value:.0%}",
    "shares": lambda ends: f"{ends[0]:.0%}–{ends[1]:.0%}",
    "won": lambda pair: f"{pair[0]}/{pair[1]}",
    "number": lambda value: f"{value:.3g}".replace("-", "−"),
    "values": lambda values: " ".join(map(points, values)),
}


def cell(kind: str, value: Any) -> str:
    """Write a cell; what is not known is a dash."""
    return "–" if value is None else WRITERS[kind](value)
