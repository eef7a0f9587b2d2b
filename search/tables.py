"""A report document as tables, and the tables as markdown. No number is computed here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search import draw_ablation, draw_search
from search.format import Document, Section, Table

# One drawer a section; sections are shown in this order.
DRAWERS: dict[str, Callable[[Section, Document], list[Table]]] = {
    "verdict": draw_search.verdict,
    "scoreboard": draw_search.scoreboard,
    "comparisons": draw_search.comparisons,
    "leave_one_out": draw_ablation.leave_one_out,
    "shapley": draw_ablation.shapley,
    "shapley_uniform": draw_ablation.shapley_uniform,
    "who_solves": draw_ablation.who_solves,
    "oracle": draw_ablation.oracle,
    "shrinkage": draw_search.shrinkage,
    "trials": draw_search.trials,
    "method": draw_search.method,
}


def tables(document: Document, only: Sequence[str] = ()) -> list[Table]:
    """Return the tables of a document, of all sections or of some."""
    found = document["sections"]
    names = [n for n in DRAWERS if n in found and (not only or n in only)]
    return [table for name in names for table in DRAWERS[name](found[name], document)]


def markdown(document: Document) -> str:
    """Return the report as GitHub markdown."""
    parts = [f"# {document['run']}", f"Objective: {document['objective']}. Scores are in points."]
    for table in tables(document):
        parts.append(f"## {table.title}")
        if table.columns:
            parts.append(_grid(table))
        parts += [f"{note}" for note in table.notes]
    return "\n\n".join(parts) + "\n"


def _grid(table: Table) -> str:
    heads_ = [c.lstrip(">") for c in table.columns]
    rule = ["---:" if c.startswith(">") else "---" for c in table.columns]
    lines = [heads_, rule, *table.rows]
    return "\n".join("| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in lines)
