"""Sections on experts: who is missed, fair shares, who solves what, and an honest oracle."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from search.ablation import Ablation, Absent, Found, Need, Needs, part
from search.complement import agreement, joined, oracle, who_solves
from search.designs import averages, coalition, renormalised, renormalises, without
from search.effects import by_sample, forest, gain, holmed, per_task, value
from search.objective import Scores
from search.shapley import MAX_EXACT, arrivals, orders, sampled, shapley, subsets, synergy
from search.tables import Section, columns, grid, section
from search.world import scores


def _dropped(a: Ablation) -> Needs:
    ways = {"to base": without} | ({"rest to 1": renormalised} if renormalises(a.winner) else {})
    return {"winner": Need(a.winner)} | {
        f"− {name}, {how}": Need(drop(a.winner, name))
        for how, drop in ways.items()
        for name in a.winner.experts
    }


@part("Leave one out", _dropped)
def leave_one_out(a: Ablation, found: Found) -> Section:
    """Return what each expert's absence costs, under both readings of absence."""
    return a.from_winner(
        "leave_one_out",
        "What each expert's absence changes",
        found,
        f"Winner: {a.winner.describe()}. Δ below 0: the expert is missed. To base: the "
        "others' coefficients stay; rest to 1: their shares grow to 1 (renormalised).",
    )


def _sets(a: Ablation, players: tuple[str, ...]) -> list[frozenset[str]]:
    """Return the sets of experts whose merges are scored: all, or those of drawn orders."""
    if len(players) <= MAX_EXACT:
        return list(subsets(players))
    drawn = orders(players, seed=a.wanted.seed)
    return list(dict.fromkeys(s for order in drawn for s in arrivals(order)))


def _label(members: frozenset[str]) -> str:
    return " + ".join(sorted(members)) or "base"


def _plan_shapley(a: Ablation) -> Needs:
    return {_label(s): Need(coalition(a.winner, s)) for s in _sets(a, a.winner.experts)}


def _plan_uniform(a: Ablation) -> Needs:
    if not a.facts.trials:
        raise Absent("There was no search, so its warm starts were not scored.")
    table = averages(_sets(a, a.experts), a.experts)
    return {_label(s): Need(m, "search") for s, m in table.items()}


@part("Shapley: who gave what of winner − base", _plan_shapley)
def shapley_(a: Ablation, found: Found) -> Section:
    """Return every expert's fair share of the winner's gain, and the synergy of every pair."""
    return _shares(a, found, a.winner.experts, "shapley")


@part("Shapley of plain averages (search items, from the warm starts)", _plan_uniform)
def shapley_uniform(a: Ablation, found: Found) -> Section:
    """Return the shares of plain averages, which the warm starts gave for nothing."""
    return _shares(a, found, a.experts, "shapley_uniform")


def _shares(a: Ablation, found: Found, players: tuple[str, ...], name: str) -> Section:
    sets, exact = _sets(a, players), len(players) <= MAX_EXACT
    marks = {s: scores(found[_label(s)]) for s in sets}
    values = {t: {s: marks[s][t] for s in sets} for t in a.objective.tasks}
    total = {t: v[frozenset(players)] - v[frozenset()] for t, v in values.items()}
    if exact:
        shares, errors = {t: shapley(v, players) for t, v in values.items()}, dict[str, float]()
        how = f"Exact: all {len(sets)} merges."
    else:
        shares, errors = _sampled(a, values, players)
        how = f"Sampled: {len(sets)} merges along random orders and their reverses; the intervals "
        how += "hold this, too."
    rows = holmed([_gain(a, shares, p, p, errors.get(p, 0.0)) for p in players])
    whole = {"name": "sum = whole − base"} | gain(total, a.objective, a.wanted.seed)
    made = section(f"{how} Points, n={whole['n']}. Holm over the experts.")
    rest = "value:all:signed, ci95:95 %:between, p_holm:p Holm:p, n::count*, mde:sees:points*"
    shown = [*columns("name:who"), *per_task(a.world.tasks), *columns(rest)]
    made["tables"] = [grid(shown, [*rows, whole])]
    made["figures"] = [forest(name, "Fair shares of the gain over the base", rows, "value")]
    if exact:
        links = {t: synergy(v, players) for t, v in values.items()}
        pairs = [_gain(a, links, " × ".join(p), p) for p in combinations(players, 2)]
        made["tables"].append(grid(shown, holmed(pairs), "Synergy of pairs"))
        made["notes"].append("Synergy above 0: the pair gives more together than the sum of both.")
    return made


def _gain(
    a: Ablation, gains: Mapping[str, Mapping[Any, Any]], name: str, who: Any, extra: float = 0.0
) -> dict[str, Any]:
    mine = {task: found[who] for task, found in gains.items()}
    return {"name": name} | gain(mine, a.objective, a.wanted.seed, extra)


def _sampled(
    a: Ablation, values: Mapping[str, Any], players: tuple[str, ...]
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Return shares by task and player, and the standard error that drawing orders leaves."""
    drawn = orders(players, seed=a.wanted.seed)
    by_pair = {t: sampled(v, drawn) for t, v in values.items()}
    shares = {t: {p: s.mean(axis=0) for p, s in found.items()} for t, found in by_pair.items()}
    weights = dict(zip(a.objective.tasks, a.objective.weights, strict=True))
    errors = {}
    for p in players:
        per_pair = sum(weights[t] * by_pair[t][p].mean(axis=1) for t in values)
        errors[p] = float(np.std(per_pair, ddof=1) / np.sqrt(len(drawn) / 2))
    return shares, errors


@part("Who solves what", lambda a: {"winner": Need(a.winner)} | a.alone())
def who_solves_(a: Ablation, found: Found) -> Section:
    """Return who solves what, how far experts agree, and what the merge keeps."""
    alone, merged = {n: scores(found[n]) for n in a.experts}, scores(found["winner"])
    *solved, none = cells = who_solves(alone, merged)
    kept, lost = (sum(row[key] for row in solved) for key in ("merged", "lost"))
    made = section(
        f"n={len(joined(merged))}: the merge keeps {kept} items that an expert solves, loses "
        f"{lost}, and solves {none['merged']} new ones. 95 %: Wilson's interval of the share kept.",
        "Yule's Q: +1 the same items, 0 independent, −1 each what the other does not.",
    )
    made["tables"] = [
        grid(
            columns(
                "name:solved by, items::count, merged:merge solves:count, lost:not:count, "
                "kept::share, ci95:95 %:interval"
            ),
            cells,
        ),
        grid(
            columns("pair, only:only one solves:won, p_holm:p Holm:p, q:Yule's Q:number"),
            holmed(agreement(alone)),
            "Do the experts differ",
        ),
    ]
    bars = [{"label": r["name"], "value": r["items"], "part": r["merged"]} for r in cells]
    title = "Items by who solves them; filled: the merge solves them too"
    made["figures"] = [{"kind": "bars", "name": "who_solves", "title": title, "rows": bars}]
    return made


def _plan_oracle(a: Ablation) -> Needs:
    a.ask_drawn()
    if a.wanted.samples == 0:
        raise Absent("No sampled answers were asked for: --samples pays for them.")
    return a.alone("search ", pool="search") | a.alone(world="oracle")


@part("Honest oracle: all experts, against as many tries of one", _plan_oracle)
def oracle_(a: Ablation, found: Found) -> Section:
    """Return the oracle's excess over pass@k of the best expert; k is the number of experts."""
    tables: dict[str, Scores] = {n: by_sample(found[n]) for n in a.experts}
    ours, theirs = oracle(tables, a.best)
    k, m = len(a.experts), next(iter(tables[a.best].values())).shape[1]
    row = {
        "name": f"oracle − pass@{k} of {a.best}",
        "oracle": value(ours, a.objective),
        "pass": value(theirs, a.objective),
    }
    row |= gain({t: ours[t] - theirs[t] for t in ours}, a.objective, a.wanted.seed)
    made = section(
        f"{m} samples of each expert at temperature {a.wanted.temperature:g}. An oracle over {k} "
        f"experts has {k} tries, and so has {a.best}, the best expert on search items: only the "
        f"excess says that experts know different things. n={row['n']}, p: sign-flip test.",
    )
    made["tables"] = [
        grid(
            columns(
                f"name:comparison, oracle::points, pass:pass@{k}:points, value:excess:signed, "
                "ci95:95 % paired:between, p::p, mde:sees:points"
            ),
            [row],
        )
    ]
    return made
