"""The report of a run as one document, report.json; every other form is drawn from it.

A document is a list of sections by name, each plain data (see format.py) with its n, intervals and
exact p values, so terminal, markdown, HTML and figures cannot disagree. Sections are added by who
computes them: a search writes verdict, scoreboard, comparisons, shrinkage, trials and method; an
ablation the rest. docs/report.md describes the schema.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from search.candidate import Candidate
from search.draw_figures import save_figures
from search.draw_html import html
from search.effects import EFFECT, interval, per_task, value
from search.format import Section, box, columns, grid, section
from search.objective import Objective, means
from search.paired import SAME
from search.protocol import Search
from search.run import Run
from search.tables import markdown
from search.world import Answers, World, health, scores

SCHEMA = "merger.report/2"
BEST = 8  # trials shown


def search_report(search: Search, confirmed: Mapping[str, Any]) -> dict[str, Any]:
    """Write the report of a finished search; return the document."""
    who = contenders(confirmed)
    found = {name: search.world.answers(merge, "confirm") for name, merge in who.items()}
    about = {name: merge.describe() for name, merge in who.items()}
    for name, merge in who.items():
        search.world.ledger.name(search.world.fingerprint(merge), name)  # so others find it
    board = section("cut: answers that ran out of tokens.", title="Scores on confirm items")
    board["tables"] = [score_table(found, about, search.objective, search.world.tasks)]
    facts = method_facts(search.run, search.world, search.study.sampler_name)
    method = section(title="Method")
    method["tables"] = [box(facts)]
    sections = {
        "verdict": _verdict(confirmed),
        "scoreboard": board,
        "comparisons": _comparisons(confirmed["confirm"]),
        "shrinkage": _shrinkage(search, confirmed),
        "trials": _trials(search),
        "method": method,
    }
    return write(search.run, search.world, search.objective, sections)


def write(
    run: Run, world: World, objective: Objective, sections: Mapping[str, Section]
) -> dict[str, Any]:
    """Put sections into the run's report, beside those that are there, and draw all its forms."""
    known = run.read("report.json") or {}
    kept = known.get("sections", {}) if known.get("schema") == SCHEMA else {}
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "run": run.path.name,
        "objective": str(objective),
        "tasks": [{"name": t.name, "alias": t.alias} for t in world.tasks],
        "sections": kept | dict(sections),
    }
    document = _strict(document)
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
    table = {"winner": Candidate.from_mapping(confirmed["frozen"])}
    seen = {confirmed["frozen"]["fingerprint"]}
    for name, stated in confirmed["references"].items():
        if stated["fingerprint"] not in seen:
            seen.add(stated["fingerprint"])
            label = f"{name}: {confirmed['best_expert']}" if name == "best expert" else name
            table[label] = Candidate.from_mapping(stated)
    return table


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
            {
                "name": name,
                "about": about[name],
                "n": sum(map(len, marks.values())),
                **{f"task {t}": m for t, m in means(marks).items()},
                "value": value(marks, objective),
                "ci95": interval(marks, objective, seed),
                **health(answers),
            }
        )
    by_task = per_task([t.name for t in tasks], {t.name: t.alias for t in tasks}, "points")
    rest = "value:all:points, ci95:95 %:interval, n::count*, tokens::number, truncated:cut:share"
    return grid([*columns("name:recipe, about:merge*"), *by_task, *columns(rest)], rows)


def _verdict(confirmed: Mapping[str, Any]) -> Section:
    winner, frozen = confirmed["winner"], confirmed["frozen"]
    stands = f"Recipe that stands: {confirmed['kept']}, {winner['name']}."
    return section(
        confirmed["words"],
        f"Frozen winner: {frozen['name']} (sha of weights {frozen['fingerprint'][:12]}).",
        stands if confirmed["kept"] != "winner" else "",
        title=f"Verdict: {confirmed['verdict'].upper()}",
        **{k: confirmed[k] for k in ("verdict", "words", "kept", "winner", "frozen")},
    )


def _comparisons(family: Sequence[Mapping[str, Any]]) -> Section:
    rows = [
        {**c, "name": c["reference"], "won": [c["wins"], c["losses"]],
         "verdict": "unclear" if c["verdict"] == SAME else c["verdict"]}
        for c in family
    ]  # fmt: skip
    seen = [f"{100 * c['mde']:.1f}" for c in family if c["mde"]]
    least = (
        f"; this n sees differences of {min(seen, key=float)} to {max(seen, key=float)}"
        if seen
        else ""
    )
    made = section(
        f"p: exact paired tests, Holm over {len(rows)}{least} in 4 of 5 runs." if seen else
        f"p: exact paired tests, Holm over {len(rows)}.",
        title="The frozen winner against its references",
    )  # fmt: skip
    made["tables"] = [grid([*columns("name:winner minus"), *EFFECT[1:2], *EFFECT[3:]], rows)]
    return made


def _shrinkage(search: Search, confirmed: Mapping[str, Any]) -> Section:
    """Return the winner's value on each pool: the first is flattered by having been chosen on."""
    winner = Candidate.from_mapping(confirmed["frozen"])
    rows = []
    for pool in ("search", "select", "confirm"):
        marks = scores(search.world.answers(winner, pool))
        n = sum(map(len, marks.values()))
        ends = interval(marks, search.objective)
        rows.append({"name": pool, "n": n, "value": value(marks, search.objective), "ci95": ends})
    made = section(
        "It was chosen for its score on the first two pools; only the last is a fair one.",
        title="The winner's score on each pool",
    )
    shown = columns("name:items, n::count, value:score:points, ci95:95 %:interval")
    made["tables"] = [grid(shown, rows)]
    return made


def _trials(search: Search) -> Section:
    rows = [
        {
            "number": t.number,
            "state": t.state,
            "source": t.source,
            "about": t.candidate.describe(),
            "candidate": t.candidate.to_mapping(),
            "values": list(t.values),
            "seconds": round(t.seconds, 3),
            **{k: v for k, v in t.facts.items() if k not in ("candidate", "source", "worker")},
        }
        for t in search.study.trials()
    ]
    done = [r for r in rows if r["state"] == "COMPLETE"]
    full = [r for r in done if not r.get("raced_out")]
    best = sorted(full, key=lambda r: (-sum(r["values"]), r["number"]))
    failed, used = sum(r["state"] == "FAIL" for r in rows), sum(r["items"] for r in done)
    made = section(
        f"{len(done)} trials, {len(done) - len(full)} raced out, {failed} failed; {used} answers "
        "on search items.",
        title="Best trials on search items",
        trials=rows,
    )
    shown = columns("number:#:count, source, about:candidate, values:score:values")
    made["tables"] = [grid(shown, best[:BEST])]
    return made


def method_facts(run: Run, world: World, sampler: str = "") -> dict[str, str]:
    """Return the method box: what another person needs to judge the rest, name by name."""
    o, manifest = run.options, run.manifest
    prepared = manifest.get("prepared", {})
    aa = prepared.get("aa") or {}
    sizes = f"search {o.n_search}, select {o.n_select}, confirm {o.n_confirm}"
    facts = {
        "base, experts": f"{o.base}; {', '.join(o.experts)}",
        "lineage": "; ".join(manifest.get("lineage") or ["every expert descends from the base"]),
        "items per task": sizes,
        "levels": "; ".join(f"{t} {', '.join(map(str, lv))}" for t, lv in o.levels.items()),
        "seeds": f"items and sampler {o.seed}, confirm items {o.confirm_seed}",
        "search": f"sampler {sampler}, racing {o.racing}, prefer {o.prefer}" if sampler else "none",
        "A/A": f"{aa.get('differ', '?')} of {aa.get('items', '?')} marks differ when asked again",
        "intervals": "paired bootstrap within tasks, 10000 draws; p exact; Holm within a section",
        "engine": world.answerer_name,
        "weights": ", ".join(f"{n} {m[:12]}" for n, m in manifest.get("fingerprints", {}).items()),
        "versions": ", ".join(f"{k} {v}" for k, v in manifest.get("versions", {}).items()),
    }
    return {name: text for name, text in facts.items() if text}
