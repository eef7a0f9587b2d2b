"""The report of a run as one document, report.json; every other form is drawn from it.

A document is a list of sections by name, each plain data (see tables.py) with its n, intervals and
exact p values, so terminal, markdown, HTML and figures cannot disagree. Sections are added by who
computes them: a search writes verdict, scoreboard, comparisons, shrinkage, trials and method; an
ablation the rest. docs/report.md describes the schema.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.candidate import Candidate
from search.draw import save_figures
from search.effects import EFFECT, SAME, interval, per_task
from search.objective import Objective, Scores, means
from search.page import html
from search.protocol import Search
from search.run import Run
from search.tables import Section, box, columns, grid, markdown, points, section
from search.world import Answers, World, health, scores

SCHEMA = "merger.report/2"
BEST = 8  # trials shown


def search_report(search: Search, confirmed: Mapping[str, Any]) -> dict[str, Any]:
    """Write the report of a finished search; return the document."""
    world, goal, who = search.world, search.objective, contenders(confirmed)
    for name, merge in who.items():
        world.ledger.name(world.fingerprint(merge), name)  # so others find it
    found = {name: world.answers(merge, "confirm") for name, merge in who.items()}
    about = {name: merge.describe() for name, merge in who.items()}
    facts = method_facts(search.run, world, search.study.sampler_name)
    sections = {
        "verdict": _verdict(confirmed),
        "scoreboard": section(
            "cut: answers that ran out of tokens.",
            title="Scores on confirm items",
            tables=[score_table(found, about, goal, world.tasks)],
        ),
        "comparisons": _comparisons(confirmed["confirm"]),
        "shrinkage": _shrinkage(search, who["winner"]),
        "trials": _trials(search),
        "method": section(title="Method", tables=[box(facts)]),
    }
    if confirmed["guard"] and search.guards:
        sections["guard"] = _guard(confirmed["guard"], search.guards.tasks)
    return write(search.run, world, goal, sections)


def write(
    run: Run, world: World, objective: Objective, sections: Mapping[str, Section]
) -> dict[str, Any]:
    """Put sections into the run's report, beside those that are there, and draw all its forms."""
    known = run.read("report.json") or {}
    kept = known.get("sections", {}) if known.get("schema") == SCHEMA else {}
    document: dict[str, Any] = _strict(
        {
            "schema": SCHEMA,
            "run": run.path.name,
            "objective": objective.text,
            "tasks": [{"name": t.name, "alias": t.alias} for t in world.tasks],
            "sections": kept | dict(sections),
        }
    )
    run.write("report.json", document)
    run.write_text("report.md", markdown(document))
    run.write_text("report.html", html(document))
    save_figures(document, run.path / "figures")
    return document


def _strict(data: Any) -> Any:
    """Return data with null for numbers that are not finite: JSON has no word for them."""
    if isinstance(data, Mapping):
        return {key: _strict(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_strict(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def contenders(confirmed: Mapping[str, Any]) -> dict[str, Candidate]:
    """Return who stood in the confirmation, by name, the winner first, each model once."""
    stated = {"winner": confirmed["frozen"]} | confirmed["references"]
    first = {s["fingerprint"]: name for name, s in reversed(stated.items())}
    told = {"best expert": f"best expert: {confirmed['best_expert']}"}
    return {
        told.get(n, n): Candidate.from_mapping(stated[n]) for n in stated if n in first.values()
    }


def score_table(
    found: Mapping[str, Answers],
    about: Mapping[str, str],
    objective: Objective,
    tasks: Sequence[Any],
    seed: int = 0,
) -> Section:
    """Return scores by task and together, with intervals, tokens and answers cut off."""
    rows = []
    for name, answers in found.items():
        marks = scores(answers)
        rows.append(
            {"name": name, "about": about[name]}
            | {f"task {t}": m for t, m in means(marks).items()}
            | _overall(marks, objective, seed)
            | health(answers)
        )
    rest = "value:all:points, ci95:95 %:interval, n::count*, tokens::number, truncated:cut:share"
    shown = [*columns("name:recipe, about:merge*"), *per_task(tasks, "points"), *columns(rest)]
    return grid(shown, rows)


def _overall(marks: Scores, objective: Objective, seed: int = 0) -> dict[str, Any]:
    """Return the objective's value of marks, its interval, and the items they are of."""
    n, ends = sum(map(len, marks.values())), interval(marks, objective, seed)
    return {"n": n, "value": objective.of(marks), "ci95": ends}


def _verdict(confirmed: Mapping[str, Any]) -> Section:
    winner, frozen, kept = confirmed["winner"], confirmed["frozen"], confirmed["kept"]
    return section(
        confirmed["words"],
        f"Frozen winner: {frozen['name']} (weights {frozen['fingerprint'][:12]}).",
        f"Recipe that stands: {kept}, {winner['name']}." if kept != "winner" else "",
        title=f"Verdict: {confirmed['verdict'].upper()}",
        **{k: confirmed[k] for k in ("verdict", "words", "kept", "winner", "frozen")},
    )


def _guard(table: Mapping[str, Mapping[str, float]], tasks: Sequence[Any]) -> Section:
    rows = [{"name": n} | {f"task {t}": m for t, m in row.items()} for n, row in table.items()]
    shown = [*columns("name:recipe"), *per_task(tasks, "points")]
    note, title = "Nothing was chosen by these scores.", "Guard tasks, never searched on"
    return section(note, title=title, tables=[grid(shown, rows)])


def _comparisons(family: Sequence[Mapping[str, Any]]) -> Section:
    rows = []
    for c in family:
        verdict = "unclear" if c["verdict"] == SAME else c["verdict"]
        told = {"name": c["reference"], "won": [c["wins"], c["losses"]], "verdict": verdict}
        rows.append({**c, **told})
    seen = [points(c["mde"]) for c in family if c["mde"]]
    shown = [*columns("name:winner minus"), *EFFECT[1:2], *EFFECT[3:]]
    return section(
        f"p: exact paired tests, Holm over {len(rows)}; differences this n sees in 4 of 5 runs: "
        f"{', '.join(seen) or 'none differed'}.",
        title="The frozen winner against its references",
        tables=[grid(shown, rows)],
    )


def _shrinkage(search: Search, winner: Candidate) -> Section:
    """Return the winner's value on each pool: the first is flattered by having been chosen on."""
    rows = [
        {"name": pool} | _overall(scores(search.world.answers(winner, pool)), search.objective)
        for pool in ("search", "select", "confirm")
    ]
    return section(
        "It was chosen for its score on the first two pools; only the last is a fair one.",
        title="The winner's score on each pool",
        tables=[grid("name:items, n::count, value:score:points, ci95:95 %:interval", rows)],
    )


def _trials(search: Search) -> Section:
    rows: list[dict[str, Any]] = [
        {
            "study": t.study,
            "number": t.number,
            "state": t.state,
            "source": t.source,
            "seconds": round(t.seconds, 3),
            "about": t.candidate.describe(),
            "candidate": t.candidate.to_mapping(),
            "values": list(t.values),
        }
        | {k: v for k, v in t.facts.items() if k not in ("candidate", "source", "worker")}
        for t in search.trials()
    ]
    done = [r for r in rows if r["state"] == "COMPLETE"]
    full = [r for r in done if not r.get("raced_out")]
    best = sorted(full, key=lambda r: (-sum(r["values"]), r["study"], r["number"]))
    again = {(r["study"], r.get("retry_of")) for r in rows}  # cut off, and tried again: no failure
    failed = sum(r["state"] == "FAIL" and (r["study"], r["number"]) not in again for r in rows)
    used = sum(r["items"] for r in done)
    shown = "number:#:count, source, about:candidate, values:score:values"
    if len(studies := {r["study"] for r in rows}) > 1:
        shown = f"study, {shown}"
    return section(
        f"{len(done)} trials{f' in {len(studies)} studies' if len(studies) > 1 else ''}, "
        f"{len(done) - len(full)} raced out, {failed} failed; {used} answers on search items.",
        title="Best trials on search items",
        tables=[grid(shown, best[:BEST])],
        trials=rows,
    )


def method_facts(run: Run, world: World, sampler: str = "") -> dict[str, str]:
    """Return the method box: what another person needs to judge the rest, name by name."""
    o, manifest = run.options, run.manifest
    aa = manifest.get("prepared", {}).get("aa") or {}
    facts = {
        "base, experts": f"{o.base}; {', '.join(o.experts)}",
        "lineage": "; ".join(manifest.get("lineage") or ["every expert descends from the base"]),
        "items per task": ", ".join(f"{pool} {n}" for pool, n in o.sizes.items()),
        "levels": "; ".join(f"{t} {', '.join(map(str, lv))}" for t, lv in o.levels.items()),
        "seeds": f"items and sampler {o.seed}, confirm items {o.confirm_seed}",
        "search": f"sampler {sampler}, racing {o.racing}, prefer {o.prefer}" if sampler else "none",
        "A/A": f"{aa.get('differ', '?')} of {aa.get('items', '?')} marks differ when asked again",
        "intervals": "paired bootstrap within tasks, 10000 draws; p exact; Holm within a section",
        "engine": getattr(world.answerer, "engine", ""),
        "weights": ", ".join(f"{n} {m[:12]}" for n, m in manifest.get("fingerprints", {}).items()),
        "versions": ", ".join(f"{k} {v}" for k, v in manifest.get("versions", {}).items()),
    }
    return {name: text for name, text in facts.items() if text}
