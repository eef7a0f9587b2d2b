"""The sections of an ablation, drawn as tables."""

from __future__ import annotations

from search.format import (
    Document,
    Section,
    Table,
    between,
    by_task,
    chance,
    heads,
    points,
    signed,
)


def leave_one_out(section: Section, document: Document) -> list[Table]:
    """Draw what the absence of each expert costs."""
    rows = [
        [
            c["reference"].partition(": ")[2],
            c["reference"].partition(": ")[0],
            signed(c["difference"]),
            between(c["ci95"]),
            f"{c['wins']}/{c['losses']}",
            chance(c["p_holm"]),
        ]
        for c in section["rows"]
    ]
    columns = ["without", "reading", ">Δ", "95 % paired", ">won/lost", ">p Holm"]
    notes = [
        f"Winner: {section['winner']}. Δ below 0: the expert is missed. Drop to base: the others' "
        f"coefficients stay; renormalise: their shares grow to 1. Holm over {section['tests']}."
    ]
    return [Table("Leave one out", columns, rows, notes)]


def shapley(section: Section, document: Document) -> list[Table]:
    """Draw each expert's share of the winner's gain."""
    title = "Exact Shapley: who gave what of winner − base"
    return _shares(section, document, title)


def shapley_uniform(section: Section, document: Document) -> list[Table]:
    """Draw the shares of plain averages, which the warm starts gave for nothing."""
    title = "Exact Shapley of plain averages (search items, from the warm starts)"
    return _shares(section, document, title)


def _shares(section: Section, document: Document, title: str) -> list[Table]:
    if "missing" in section:
        return [Table(title, notes=[section["missing"]])]
    longest = max(abs(r["value"]) for r in section["rows"]) or 1.0
    rows = [_gain(", ".join(r["experts"]), r, document, longest) for r in section["rows"]]
    rows.append(_gain("sum = whole − base", section["total"], document, 0.0))
    columns = ["expert", *heads(document), ">all", "95 %", ""]
    notes = [f"{section['merges']} merges, n={section['n']} {section['pool']} items, in points."]
    links = [_gain(" × ".join(r["experts"]), r, document, 0.0)[:-1] for r in section["synergy"]]
    made = [Table(title, columns, rows, notes)]
    if links:
        about = ["Above 0: the pair gives more together than the sum of both."]
        made.append(
            Table("Synergy of pairs", ["pair", *heads(document), ">all", "95 %"], links, about)
        )
    return made


def _gain(name: str, row: Section, document: Document, longest: float) -> list[str]:
    bar = "█" * round(7 * row["value"] / longest) if longest and row["value"] > 0 else ""
    cells = by_task(row["tasks"], document, signed)
    return [name, *cells, signed(row["value"]), between(row["ci95"]), bar]


def who_solves(section: Section, document: Document) -> list[Table]:
    """Draw who solves what, and how far the experts agree."""
    experts = max((r["solved_by"] for r in section["rows"]), key=len)
    rows = []
    for row in section["rows"]:
        who = row["solved_by"]
        name = "all" if who == experts and len(who) > 1 else " + ".join(who) or "none"
        name = f"only {name}" if len(who) == 1 and len(experts) > 1 else name
        kept = f"{row['merged'] / row['items']:.0%}" if row["items"] else "–"
        rows.append([name, str(row["items"]), str(row["merged"]), kept if who else "new"])
    pairs = [
        [
            f"{r['pair'][0]} / {r['pair'][1]}",
            f"{r['only_first']} / {r['only_second']}",
            chance(r["p"]),
            "–" if r["q"] is None else f"{r['q']:+.2f}".replace("-", "−"),
        ]
        for r in section["agreement"]
    ]
    columns = ["solved by", ">items", ">merge solves", ">kept"]
    about = ["Yule's Q: +1 the same items, 0 independent, −1 each what the other does not."]
    return [
        Table(f"Who solves what (n={section['n']})", columns, rows),
        Table(
            "Do the experts differ", ["pair", ">only one solves", ">p", ">Yule's Q"], pairs, about
        ),
    ]


def oracle(section: Section, document: Document) -> list[Table]:
    """Draw the oracle beside as many tries of one expert."""
    title = "Oracle over the experts, against as many tries of one"
    if "missing" in section:
        return [Table(title, notes=[section["missing"]])]
    k = section["k"]
    note = (
        f"oracle of {k} experts {points(section['oracle'])}; pass@{k} of {section['best']} alone "
        f"{points(section['pass_at_k'])}; excess {signed(section['excess'])} "
        f"{between(section['ci95'])}, p {chance(section['p'])} "
        f"(n={section['n']}, temperature {section['temperature']:g})."
    )
    return [Table(title, notes=[note])]
