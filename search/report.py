"""The report of a run as one document, report.json; every other form is drawn from it.

A document is a list of sections by name, each plain data with its n, intervals and exact p
values, so terminal, markdown and whatever comes later cannot disagree. Sections are added by who
computes them: a search writes verdict, scoreboard, comparisons, shrinkage, trials and method; an
ablation the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from search.candidate import Candidate
from search.objective import Objective, Scores, means
from search.paired import resampled
from search.protocol import Search
from search.run import Run
from search.tables import markdown
from search.world import World, health, scores

SCHEMA = "merger.report/1"
Section = dict[str, Any]


def search_report(search: Search, confirmed: Mapping[str, Any]) -> dict[str, Any]:
    """Write report.json and report.md of a finished search; return the document."""
    sections = {
        "verdict": {k: confirmed[k] for k in ("verdict", "words", "kept", "winner", "frozen")},
        "scoreboard": scoreboard(search.world, contenders(confirmed), search.objective, "confirm"),
        "comparisons": {"tests": len(confirmed["confirm"]), "rows": confirmed["confirm"]},
        "shrinkage": _shrinkage(search, confirmed),
        "trials": _trials(search),
        "method": _method(search),
    }
    return write(search.run, search, sections)


def write(run: Run, search: Search, sections: Mapping[str, Section]) -> dict[str, Any]:
    """Put sections into the run's report, beside those that are there, and draw report.md."""
    known = run.read("report.json") or {}
    document = {
        "schema": SCHEMA,
        "run": run.path.name,
        "objective": str(search.objective),
        "tasks": [{"name": t.name, "alias": t.alias} for t in search.world.tasks],
        "sections": known.get("sections", {}) | dict(sections),
    }
    run.write("report.json", document)
    run.write_text("report.md", markdown(document))
    return document


def contenders(confirmed: Mapping[str, Any]) -> dict[str, Candidate]:
    """Return who stood in the confirmation, by name, the winner first, each model once."""
    table = {"winner": Candidate.from_mapping(confirmed["frozen"])}
    seen = {confirmed["frozen"]["fingerprint"]: "winner"}
    for name, stated in confirmed["references"].items():
        if stated["fingerprint"] not in seen:
            seen[stated["fingerprint"]] = name
            label = f"{name}: {confirmed['best_expert']}" if name == "best expert" else name
            table[label] = Candidate.from_mapping(stated)
    return table


def scoreboard(
    world: World, who: Mapping[str, Candidate], objective: Objective, pool: str
) -> Section:
    """Return scores by task and together, with intervals, tokens and answers cut off."""
    rows, n = [], 0
    for name, candidate in who.items():
        answers = world.answers(candidate, pool)
        world.ledger.name(world.fingerprint(candidate), name)  # so that others find it by name
        marks = scores(answers)
        n = sum(map(len, marks.values()))
        rows.append(
            {
                "name": name,
                "candidate": candidate.to_mapping(),
                "about": candidate.describe(),
                "fingerprint": world.fingerprint(candidate),
                "tasks": means(marks),
                "value": objective.value(means(marks)),
                "ci95": interval(marks, objective),
                **health(answers),
            }
        )
    return {"pool": pool, "n": n, "rows": rows}


def interval(marks: Scores, objective: Objective, seed: int = 0) -> list[float]:
    """Return the 95 % interval of the objective's value, items drawn anew within tasks."""
    nothing = {task: np.zeros_like(m) for task, m in marks.items()}
    draws = resampled(marks, nothing, objective, seed=seed)
    return [float(q) for q in np.quantile(draws, (0.025, 0.975))]


def _shrinkage(search: Search, confirmed: Mapping[str, Any]) -> Section:
    """Return the winner's value on each pool: the first is flattered by having been chosen on."""
    winner = Candidate.from_mapping(confirmed["frozen"])
    pools = {}
    for pool in ("search", "select", "confirm"):
        marks = scores(search.world.answers(winner, pool))
        pools[pool] = {
            "n": sum(map(len, marks.values())),
            "value": search.objective.value(means(marks)),
            "ci95": interval(marks, search.objective),
        }
    return {"pools": pools}


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
    return {"rows": rows}


def _method(search: Search) -> Section:
    run, options = search.run, search.options
    manifest = run.manifest
    prepared = manifest.get("prepared", {})
    return {
        "experts": list(options.experts),
        "base": options.base,
        "fingerprints": manifest.get("fingerprints"),
        "lineage": manifest.get("lineage", []),
        "items_per_task": {
            "search": options.n_search,
            "select": options.n_select,
            "confirm": options.n_confirm,
        },
        "levels": {t: list(levels) for t, levels in options.levels.items()},
        "seeds": {"search": options.seed, "confirm": options.confirm_seed},
        "sampler": search.study.sampler_name,
        "racing": options.racing,
        "prefer": options.prefer,
        "aa": prepared.get("aa"),
        "discordance": prepared.get("discordance"),
        "engine": search.world.answerer_name,
        "versions": manifest.get("versions"),
        "bootstrap": 10_000,
    }
