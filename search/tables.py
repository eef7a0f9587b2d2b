"""A report document as tables for a terminal, and as GitHub markdown; no number is made here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.format import Column, Document, Section, Table, cell

# Sections are shown in this order, others behind them.
ORDER = (
    *("verdict", "scoreboard", "comparisons", "leave_one_out", "shapley", "shapley_uniform"),
    *("who_solves", "oracle", "operators", "density", "scale", "paths", "geometry", "resets"),
    *("simplex", "importance", "items", "robustness", "domain", "shrinkage", "trials", "method"),
)


def sections(document: Document, only: Sequence[str] = ()) -> dict[str, Section]:
    """Return the sections of a document in their order, all or some."""
    found = document["sections"]
    names = [*(n for n in ORDER if n in found), *(n for n in found if n not in ORDER)]
    return {n: found[n] for n in names if not only or n in only}


def tables(document: Document, only: Sequence[str] = ()) -> list[Table]:
    """Return what a terminal shows: no column or table that asks for more than 80 characters."""
    return [t for s in sections(document, only).values() for t in _drawn(s, wide=False)]


def markdown(document: Document) -> str:
    """Return the report as GitHub markdown; figures are files beside it."""
    parts = [f"# {document['run']}", f"Objective: {document['objective']}. Scores are in points."]
    for found in sections(document).values():
        for i, drawn in enumerate(_drawn(found, wide=True)):
            parts.append(f"{'###' if i else '##'} {drawn.title}")
            parts += [_grid(drawn)] if drawn.columns else []
            parts += drawn.notes
        parts += [f"![{f['title']}](figures/{f['name']}.svg)" for f in found["figures"]]
    return "\n\n".join(parts) + "\n"


def _drawn(found: Section, *, wide: bool) -> Iterator[Table]:
    """Yield a section's tables; its notes stand under the first."""
    shown = [t for t in found["tables"] if wide or not t.get("wide")]
    sketch = () if wide else [line for f in found["figures"] for line in f.get("sketch", ())]
    if not shown:
        yield Table(found["title"], notes=[*found["notes"], *sketch])
    for i, table in enumerate(shown):
        columns = [c for c in table["columns"] if wide or not c[3]]
        title = table["title"] or found["title"]
        rows = [written(row, columns) for row in table["rows"]]
        notes = [] if i else [*found["notes"], *sketch]
        yield Table(title, [_head(c) for c in columns], rows, notes)


def written(row: Mapping[str, Any], columns: Sequence[Column]) -> list[str]:
    """Return the cells of a row as texts."""
    return [cell(kind, row.get(key)) for key, _, kind, _ in columns]


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
