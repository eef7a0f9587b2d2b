"""What a report is made of, records of plain data; and their tables, for a terminal and markdown.

A section is a title, tables, figures and notes. A column says what its numbers are (its kind), so
the terminal, markdown and HTML write the same cell from the same number. Scores are in points
(percent), differences carry their sign, p values their usual form; nothing is said by colour alone.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def brief(names: Sequence[str], width: int = 7) -> list[str]:
    """Return names cut to a width: their beginnings, or where these are alike their ends."""
    heads = [n if len(n) <= width else f"{n[: width - 1]}…" for n in names]
    tails = [n if len(n) <= width else f"…{n[1 - width :]}" for n in names]
    known = (told for told in (heads, tails) if len(set(told)) == len(names))
    return next(known, [f"{i}: {head}" for i, head in enumerate(heads, 1)])


def grid(
    shown: str | Sequence[Column], rows: Iterable[Mapping[str, Any]], title: str = ""
) -> Section:
    """Return a table as data; rows are looked up by the columns' keys and may hold more.

    A column of which nothing is known is left out.
    """
    heads, told = columns(shown) if isinstance(shown, str) else shown, [dict(row) for row in rows]
    known = [c for c in heads if not told or any(row.get(c[0]) is not None for row in told)]
    return {"title": title, "columns": known, "rows": told}


def figure(kind: str, name: str, title: str, **data: Any) -> Section:
    """Return a figure as data: what draws it, the name of its file, and its numbers."""
    return {"kind": kind, "name": name, "title": title} | data


def box(facts: Mapping[str, str]) -> Section:
    """Return facts by name as a table without heads."""
    heads = [["name", "", "text", False], ["value", "", "text", False]]
    return grid(heads, [{"name": name, "value": text} for name, text in facts.items()])


def section(
    *notes: str,
    title: str = "",
    tables: Sequence[Section] = (),
    figures: Sequence[Section] = (),
    **facts: Any,
) -> Section:
    """Return a section as data: notes, tables, figures and whatever else it states."""
    parts = {"notes": [n for n in notes if n], "tables": [*tables], "figures": [*figures]}
    return {"title": title} | parts | facts


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
    "numbers": lambda ends: " to ".join(cell("number", end) for end in ends),
    "values": lambda values: " ".join(map(points, values)),
}


def cell(kind: str, value: Any) -> str:
    """Write a cell; what is not known is a dash."""
    return "–" if value is None else WRITERS[kind](value)


# Columns that a terminal of less than 80 characters may do without, the first first.
SPARED = ("won", "nll", "tokens", "nll_low", "nll_high", "norm", "p", "p_holm")
# Sections are shown in this order, others behind them.
ORDER = (
    *("verdict", "scoreboard", "comparisons", "guard", "leave_one_out", "shapley"),
    *("shapley_uniform", "who_solves", "oracle", "operators", "density", "scale", "paths"),
    *("geometry", "resets", "simplex", "importance", "items", "robustness", "domain"),
    *("shrinkage", "trials", "method"),
)


def sections(document: Document) -> dict[str, Section]:
    """Return the sections of a document in their order."""
    found = document["sections"]
    return {n: found[n] for n in sorted(found, key=lambda n: (*ORDER, n).index(n))}


def tables(document: Document, width: int = 80) -> list[Table]:
    """Return what a terminal shows: no column or table that asks for more than 80 characters.

    Where it has fewer, tables do without columns that others tell, too.
    """
    return [t for s in sections(document).values() for t in _drawn(s, width)]


def markdown(document: Document) -> str:
    """Return the report as GitHub markdown; figures are files beside it."""
    parts = [f"# {document['run']}", f"Objective: {document['objective']}. Scores are in points."]
    for found in sections(document).values():
        for i, drawn in enumerate(_drawn(found)):
            parts.append(f"{'###' if i else '##'} {drawn.title}")
            parts += [_grid(drawn)] if drawn.columns else []
            parts += drawn.notes
        parts += [f"![{f['title']}](figures/{f['name']}.svg)" for f in found["figures"]]
    return "\n\n".join(parts) + "\n"


def _drawn(found: Section, width: int | None = None) -> Iterator[Table]:
    """Yield a section's tables, for a line of so many characters; notes stand under the first."""
    wide = width is None
    shown = [t for t in found["tables"] if wide or not t.get("wide")]
    sketch = () if wide else [line for f in found["figures"] for line in f.get("sketch", ())]
    if not shown:
        yield Table(found["title"], notes=[*found["notes"], *sketch])
    for i, table in enumerate(shown):
        columns = table["columns"] if width is None else _fitting(table, width)
        title = table["title"] or found["title"]
        rows = [[cell(kind, row.get(key)) for key, _, kind, _ in columns] for row in table["rows"]]
        notes = [] if i else [*found["notes"], *sketch]
        yield Table(title, [_head(c) for c in columns], rows, notes)


def _fitting(table: Section, width: int) -> list[Column]:
    """Return the columns that a line has room for, spared ones left out as far as they must be."""
    columns = [c for c in table["columns"] if not c[3]]
    for spared in SPARED:
        long = (
            max(len(label), *(len(cell(kind, row.get(key))) for row in table["rows"]), 0)
            for key, label, kind, _ in columns
        )
        if sum(3 + n for n in long) > width:
            columns = [c for c in columns if c[0] != spared]
    return columns


def _head(column: Column) -> str:
    return column[1] if column[2] == "text" else f">{column[1]}"


def _grid(table: Table) -> str:
    heads = [c.lstrip(">") for c in table.columns]
    rule = ["---:" if c.startswith(">") else "---" for c in table.columns]
    return "\n".join(
        "| " + " | ".join(_plain(c) for c in row) + " |" for row in [heads, rule, *table.rows]
    )


def _plain(text: str) -> str:
    """Keep a cell a cell, and names that look like tags as they are."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
