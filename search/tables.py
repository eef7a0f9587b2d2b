"""A report document as tables, and the tables as markdown. No number is computed here.

Tables fit 80 columns in a terminal; scores are in points (percent), differences carry their sign,
and whatever a colour could say stands there as a word.
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


Drawer = Callable[[Section, Document], Sequence[Table]]
# One drawer a section; sections are shown in this order.
DRAWERS: dict[str, Drawer] = {}


def draws(name: str) -> Callable[[Drawer], Drawer]:
    """Register the drawer of a section."""

    def keep(drawer: Drawer) -> Drawer:
        DRAWERS[name] = drawer
        return drawer

    return keep


def tables(document: Document, only: Sequence[str] = ()) -> list[Table]:
    """Return the tables of a document, of all sections or of some."""
    found = document["sections"]
    names = [n for n in DRAWERS if n in found and (not only or n in only)]
    return [table for name in names for table in DRAWERS[name](found[name], document)]


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


@draws("verdict")
def _verdict(section: Section, document: Document) -> list[Table]:
    winner, frozen = section["winner"], section["frozen"]
    notes = [
        section["words"],
        f"Frozen winner: {frozen['name']} (sha of weights {frozen['fingerprint'][:12]}).",
    ]
    if section["kept"] != "winner":
        notes.append(f"Recipe that stands: {section['kept']}, {winner['name']}.")
    return [Table(f"Verdict: {section['verdict'].upper()}", notes=notes)]


@draws("scoreboard")
def _scoreboard(section: Section, document: Document) -> list[Table]:
    columns = ["recipe", *heads(document), ">all", "95 %", ">tokens", ">cut"]
    rows = [
        [
            row["name"],
            *by_task(row["tasks"], document, points),
            points(row["value"]),
            f"{points(row['ci95'][0])}–{points(row['ci95'][1])}",
            f"{row['tokens']:.0f}",
            f"{row['truncated']:.0%}",
        ]
        for row in section["rows"]
    ]
    title = f"Scores on {section['pool']} items (n={section['n']})"
    return [Table(title, columns, rows, ["cut: answers that ran out of tokens."])]


@draws("comparisons")
def _comparisons(section: Section, document: Document) -> list[Table]:
    rows = [
        [
            c["reference"],
            signed(c["difference"]),
            between(c["ci95"]),
            f"{c['wins']}/{c['losses']}",
            chance(c["p_holm"]),
            c["verdict"],
        ]
        for c in section["rows"]
    ]
    columns = ["winner minus", ">Δ", "95 % paired", ">won/lost", ">p Holm", "winner is"]
    blind = [c["mde"] for c in section["rows"] if c["mde"] is not None]
    seen = (
        f"differences of {points(min(blind))} to {points(max(blind))}" if blind else "no difference"
    )
    notes = [
        f"Exact paired tests, Holm over {section['tests']}; this n sees {seen} in 4 of 5 runs."
    ]
    return [Table("The frozen winner against its references", columns, rows, notes)]


@draws("shrinkage")
def _shrinkage(section: Section, document: Document) -> list[Table]:
    rows = [
        [
            pool,
            str(row["n"]),
            points(row["value"]),
            f"{points(row['ci95'][0])}–{points(row['ci95'][1])}",
        ]
        for pool, row in section["pools"].items()
    ]
    notes = ["It was chosen for its score on the first two pools; only the last is a fair one."]
    return [
        Table("The winner's score on each pool", ["items", ">n", ">score", "95 %"], rows, notes)
    ]


@draws("trials")
def _trials(section: Section, document: Document) -> list[Table]:
    done = [r for r in section["rows"] if r["state"] == "COMPLETE"]
    full = [r for r in done if not r.get("raced_out")]
    best = sorted(full, key=lambda r: (-sum(r["values"]), r["number"]))[:8]
    rows = [
        [str(r["number"]), r["source"], r["about"], " ".join(map(points, r["values"]))]
        for r in best
    ]
    failed = sum(r["state"] == "FAIL" for r in section["rows"])
    used, raced = sum(r["items"] for r in done), len(done) - len(full)
    notes = [
        f"{len(done)} trials, {raced} raced out, {failed} failed; {used} answers on search items."
    ]
    return [
        Table("Best trials on search items", [">#", "source", "candidate", ">score"], rows, notes)
    ]


@draws("method")
def _method(section: Section, document: Document) -> list[Table]:
    n, seeds, aa = section["items_per_task"], section["seeds"], section["aa"] or {}
    rows = [
        ["base, experts", f"{section['base']}; {', '.join(section['experts'])}"],
        ["items per task", f"search {n['search']}, select {n['select']}, confirm {n['confirm']}"],
        ["seeds", f"items and sampler {seeds['search']}, confirm items {seeds['confirm']}"],
        [
            "search",
            f"sampler {section['sampler']}, racing {section['racing']}, prefer {section['prefer']}",
        ],
        ["A/A", f"{aa.get('differ', '?')} of {aa.get('items', '?')} marks differ when asked again"],
        ["intervals", f"paired bootstrap within tasks, {section['bootstrap']} draws"],
        ["versions", ", ".join(f"{k} {v}" for k, v in (section["versions"] or {}).items())],
    ]
    return [Table("Method", ["", ""], rows)]
