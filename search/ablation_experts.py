"""Sections on experts: who is missed, fair shares, who solves what, and an honest oracle."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from search.ablation import Ablation, Absent, Found, Need, Needs, part
from search.complement import agreement, joined, oracle, who_solves
from search.designs import averages, coalition, renormalised, renormalises, without
from search.effects import (
    Rows,
    against,
    forest,
    gain,
    holmed,
    per_task,
    value,
)
from search.format import Column, Section, columns, grid, section
from search.objective import Scores
from search.shapley import MAX_EXACT, arrivals, orders, sampled, shapley, subsets, synergy
from search.starts import average
from search.variant import Merge
from search.world import scores


def _dropped(a: Ablation) -> dict[str, Merge]:
    ways = {"to base": without} | ({"rest to 1": renormalised} if renormalises(a.winner) else {})
    return {
        f"− {name}, {how}": drop(a.winner, name)
        for how, drop in ways.items()
        for name in a.winner.experts
    }


def _plan_dropped(a: Ablation) -> Needs:
    return {"winner": Need(a.winner)} | {n: Need(m) for n, m in _dropped(a).items()}


@part("Leave one out", _plan_dropped)
def leave_one_out(a: Ablation, found: Found) -> Section:
    """Return what each expert's absence costs, under both readings of absence."""
    marks = {name: scores(rows) for name, rows in found.items()}
    whole = marks.pop("winner")
    return a.compared(
        "leave_one_out",
        "What each expert's absence changes",
        against(marks, whole),
        f"Winner: {a.winner.describe()}. Δ below 0: the expert is missed. To base: the "
        "others' coefficients stay; rest to 1: their shares grow to 1 (renormalised).",
    )


def _sets(a: Ablation, players: tuple[str, ...]) -> list[frozenset[str]]:
    """Return the sets of experts whose merges are scored: all, or those of drawn orders."""
    if len(players) <= MAX_EXACT:
        return list(subsets(players))
    return list(dict.fromkeys(s for o in orders(players, seed=a.seed) for s in arrivals(o)))


def _coalitions(a: Ablation) -> dict[frozenset[str], Merge]:
    return {s: coalition(a.winner, s) for s in _sets(a, a.winner.experts)}


def _plan_shapley(a: Ablation) -> Needs:
    return {_label(s): Need(m) for s, m in _coalitions(a).items()}


def _plan_uniform(a: Ablation) -> Needs:
    if not a.facts.trials:
        raise Absent("There was no search, so its warm starts were not scored.")
    table = averages(_sets(a, a.experts), a.experts)
    return {_label(s): Need(m, "search") for s, m in table.items()}


def _label(members: frozenset[str]) -> str:
    return " + ".join(sorted(members)) or "base"


@part("Shapley: who gave what of winner − base", _plan_shapley)
def shapley_(a: Ablation, found: Found) -> Section:
    """Return every expert's fair share of the winner's gain, and the synergy of every pair."""
    return _shares(a, found, a.winner.experts, "shapley")


@part("Shapley of plain averages (search items, from the warm starts)", _plan_uniform)
def shapley_uniform(a: Ablation, found: Found) -> Section:
    """Return the shares of plain averages, which the warm starts gave for nothing."""
    return _shares(a, found, a.experts, "shapley_uniform")


def _shares(a: Ablation, found: Found, players: tuple[str, ...], name: str) -> Section:
    sets = _sets(a, players)
    marks = {s: scores(found[_label(s)]) for s in sets}
    values = {t: {s: marks[s][t] for s in sets} for t in a.objective.tasks}
    total = {t: v[frozenset(players)] - v[frozenset()] for t, v in values.items()}
    if len(players) <= MAX_EXACT:
        shares, errors = {t: shapley(v, players) for t, v in values.items()}, dict[str, float]()
        how = f"Exact: all {len(sets)} merges."
    else:
        shares, errors = _sampled(a, values, players)
        how = f"Sampled: {len(sets)} merges along random orders and their reverses; the intervals "
        how += "hold this, too."
    rows = holmed(
        [
            {"name": p}
            | gain({t: shares[t][p] for t in values}, a.objective, a.seed, errors.get(p, 0.0))
            for p in players
        ]
    )
    whole = {"name": "sum = whole − base"} | gain(total, a.objective, a.seed)
    columns = _gains(a)
    made = section(f"{how} Points, n={whole['n']}. Holm over the experts.")
    made["tables"] = [grid(columns, [*rows, whole])]
    made["figures"] = [forest(name, "Fair shares of the gain over the base", rows, "value")]
    if len(players) <= MAX_EXACT:
        made["tables"].append(grid(columns, _links(a, values, players), "Synergy of pairs"))
        made["notes"].append("Synergy above 0: the pair gives more together than the sum of both.")
    return made


def _gains(a: Ablation) -> list[Column]:
    tasks = per_task(a.objective.tasks, {t.name: t.alias for t in a.world.tasks})
    rest = "value:all:signed, ci95:95 %:between, p_holm:p Holm:p, n::count*, mde:sees:points*"
    return [*columns("name:who"), *tasks, *columns(rest)]


def _links(a: Ablation, values: Mapping[str, Any], players: tuple[str, ...]) -> Rows:
    links = {t: synergy(v, players) for t, v in values.items()}
    return holmed(
        [
            {"name": " × ".join(pair)}
            | gain({t: links[t][pair] for t in values}, a.objective, a.seed)
            for pair in combinations(players, 2)
        ]
    )


def _sampled(
    a: Ablation, values: Mapping[str, Any], players: tuple[str, ...]
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Return shares by task and player, and the standard error that drawing orders leaves."""
    drawn = orders(players, seed=a.seed)
    by_pair = {t: sampled(v, drawn) for t, v in values.items()}
    shares = {t: {p: s.mean(axis=0) for p, s in found.items()} for t, found in by_pair.items()}
    weights = dict(zip(a.objective.tasks, a.objective.weights, strict=True))
    errors = {}
    for p in players:
        per_pair = sum(weights[t] * by_pair[t][p].mean(axis=1) for t in values)
        errors[p] = float(np.std(per_pair, ddof=1) / np.sqrt(len(drawn) / 2))
    return shares, errors


def _plan_alone(a: Ablation) -> Needs:
    return {"winner": Need(a.winner)} | {n: Need(average([n])) for n in a.experts}


@part("Who solves what", _plan_alone)
def who_solves_(a: Ablation, found: Found) -> Section:
    """Return who solves what, how far experts agree, and what the merge keeps."""
    alone = {name: scores(found[name]) for name in a.experts}
    merged = scores(found["winner"])
    n, cells, pairs = len(joined(merged)), who_solves(alone, merged), agreement(alone)
    new = next(r["merged"] for r in cells if r["name"] == "none")
    lost = sum(r["lost"] for r in cells if r["name"] != "none")
    kept = sum(r["merged"] for r in cells if r["name"] != "none")
    made = section(
        f"n={n}: the merge keeps {kept} items that an expert solves, loses {lost}, and solves "
        f"{new} new ones. 95 %: Wilson's interval of the share kept.",
        "Yule's Q: +1 the same items, 0 independent, −1 each what the other does not.",
    )
    made["tables"] = [
        grid(columns("name:solved by, items::count, merged:merge solves:count, lost:not:count, "
                     "kept::share, ci95:95 %:interval"), cells),
        grid(columns("pair, only:only one solves:won, p_holm:p Holm:p, q:Yule's Q:number"),
             holmed(pairs), "Do the experts differ"),
    ]  # fmt: skip
    bars = [{"label": r["name"], "value": r["items"], "part": r["merged"]} for r in cells]
    title = "Items by who solves them; filled: the merge solves them too"
    made["figures"] = [{"kind": "bars", "name": "who_solves", "title": title, "rows": bars}]
    return made


def _plan_oracle(a: Ablation) -> Needs:
    if a.effort.samples == 0:
        raise Absent("No sampled answers were asked for: --samples pays for them.")
    chosen = {f"search {n}": Need(average([n]), "search") for n in a.experts}
    return chosen | {n: Need(average([n]), world="oracle") for n in a.experts}


@part("Honest oracle: all experts, against as many tries of one", _plan_oracle)
def oracle_(a: Ablation, found: Found) -> Section:
    """Return the oracle's excess over pass@k of the best expert; k is the number of experts."""
    tables: dict[str, Scores] = {}
    for name in a.experts:
        tables[name] = {
            task: np.array([float(r.correct) for r in rows]).reshape(
                len({r.item for r in rows}), -1
            )
            for task, rows in found[name].items()
        }
    best, k = a.best, len(a.experts)
    ours, theirs = oracle(tables, best)
    m = next(iter(tables[best].values())).shape[1]
    row = {
        "name": f"oracle − pass@{k} of {best}",
        "oracle": value(ours, a.objective),
        "pass": value(theirs, a.objective),
        **gain({t: ours[t] - theirs[t] for t in ours}, a.objective, a.seed),
    }
    made = section(
        f"{m} samples of each expert at temperature {a.temperature:g}. An oracle over {k} experts "
        f"has {k} tries, and so has {best}, the best expert on search items: only the excess says "
        f"that experts know different things. n={row['n']}, p: sign-flip test.",
    )
    made["tables"] = [
        grid(columns(f"name:comparison, oracle::points, pass:pass@{k}:points, value:excess:signed, "
                     "ci95:95 % paired:between, p::p, mde:sees:points"), [row])
    ]  # fmt: skip
    return made
