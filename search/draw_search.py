"""The sections of a search, drawn as tables."""

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


def verdict(section: Section, document: Document) -> list[Table]:
    """Draw the verdict in words, and which recipe stands."""
    winner, frozen = section["winner"], section["frozen"]
    notes = [
        section["words"],
        f"Frozen winner: {frozen['name']} (sha of weights {frozen['fingerprint'][:12]}).",
    ]
    if section["kept"] != "winner":
        notes.append(f"Recipe that stands: {section['kept']}, {winner['name']}.")
    return [Table(f"Verdict: {section['verdict'].upper()}", notes=notes)]


def scoreboard(section: Section, document: Document) -> list[Table]:
    """Draw the scores of winner and references, by task and together."""
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


def comparisons(section: Section, document: Document) -> list[Table]:
    """Draw the paired comparisons that the verdict rests on."""
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
    columns = ["winner minus", ">Δ", "95 % paired", ">won/lost", ">p", "winner is"]
    blind = [c["mde"] for c in section["rows"] if c["mde"] is not None]
    seen = (
        f"differences of {points(min(blind))} to {points(max(blind))}" if blind else "no difference"
    )
    notes = [
        f"p: exact paired tests, Holm over {section['tests']}; this n sees {seen} in 4 of 5 runs."
    ]
    return [Table("The frozen winner against its references", columns, rows, notes)]


def shrinkage(section: Section, document: Document) -> list[Table]:
    """Draw the winner's score on each pool: how much of it was luck."""
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


def trials(section: Section, document: Document) -> list[Table]:
    """Draw the best trials and what became of all."""
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


def method(section: Section, document: Document) -> list[Table]:
    """Draw the method box: what another person needs to judge the rest."""
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
