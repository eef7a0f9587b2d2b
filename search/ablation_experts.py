"""Sections on experts: who is missed, fair shares, who solves what, and an honest oracle.

Absence has two readings: the weight set to zero with the others kept, or the others scaled up to
the same sum; both are shown. Shares are Shapley's (see shapley.py), and the oracle is set against
as many tries of the best single expert (see complement.py).
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from search.ablation import Ablation, Absent, Need, Steps, part
from search.complement import agreement, joined, oracle, who_solves
from search.effects import ALPHA, BETTER, SAME, WORSE, Rows, by_sample, forest, holmed, per_task
from search.shapley import MAX_EXACT, arrivals, orders, sampled, shapley, subsets, synergy
from search.tables import columns, figure, grid, section
from search.variant import Merge, averages, coalition, renormalised, renormalises, without
from search.world import scores

Players = tuple[str, ...]


@part("Leave one out")
def leave_one_out(a: Ablation) -> Steps:
    """Return what each expert's absence costs, under both readings of absence."""
    ways = {"to base": without} | ({"rest to 1": renormalised} if renormalises(a.winner) else {})
    found = yield {"winner": Need(a.winner)} | {
        f"− {name}, {how}": Need(drop(a.winner, name))
        for how, drop in ways.items()
        for name in a.winner.experts
    }
    yield a.from_winner(
        "leave_one_out",
        "What each expert's absence changes",
        found,
        f"Winner: {a.winner.describe()}. Δ below 0: the expert is missed. To base: the "
        "others' coefficients stay; rest to 1: their shares grow to 1 (renormalised).",
    )


@part("Shapley: who gave what of winner − base")
def shapley_(a: Ablation) -> Steps:
    """Return every expert's fair share of the winner's gain, and the synergy of every pair."""
    players = a.winner.experts
    table = {s: coalition(a.winner, s) for s in _sets(a, players)}
    return _shares(a, table, "confirm", players, "shapley")


@part("Shapley of plain averages (search items, from the warm starts)")
def shapley_uniform(a: Ablation) -> Steps:
    """Return the shares of plain averages, which the warm starts gave for nothing."""
    if not a.facts.trials:
        raise Absent("There was no search, so its warm starts were not scored.")
    table = averages(_sets(a, a.experts), a.experts)
    return _shares(a, table, "search", a.experts, "shapley_uniform")


def _sets(a: Ablation, players: Players) -> list[frozenset[str]]:
    """Return the sets of experts whose merges are scored: all, or those of drawn orders."""
    if len(players) <= MAX_EXACT:
        return list(subsets(players))
    drawn = orders(players, seed=a.wanted.seed)
    return list(dict.fromkeys(s for order in drawn for s in arrivals(order)))


def _shares(
    a: Ablation, table: Mapping[frozenset[str], Merge], pool: str, players: Players, name: str
) -> Steps:
    found = yield {s: Need(merge, pool) for s, merge in table.items()}
    marks = {s: scores(rows) for s, rows in found.items()}
    values = {t: {s: m[t] for s, m in marks.items()} for t in a.objective.tasks}
    exact, errors = len(players) <= MAX_EXACT, dict[str, float]()
    if exact:
        shares = {t: shapley(v, players) for t, v in values.items()}
        how = f"Exact: all {len(marks)} merges."
    else:
        shares, errors = _sampled(a, values, players)
        how = f"Sampled: {len(marks)} merges along random orders and their reverses; the "
        how += "intervals hold this, too."
    rows = holmed([{"name": p} | a.gain(_of(shares, p), errors.get(p, 0.0)) for p in players])
    total = {t: v[frozenset(players)] - v[frozenset()] for t, v in values.items()}
    whole = {"name": "sum = whole − base"} | a.gain(total)
    notes = [f"{how} Points, n={whole['n']}. Holm over the experts."]
    rest = "value:all:signed, ci95:95 %:between, p_holm:p Holm:p, n::count*, mde:sees:points*"
    shown = [*columns("name:who"), *per_task(a.world.tasks), *columns(rest)]
    tables = [grid(shown, [*rows, whole])]
    if exact:
        links = {t: synergy(v, players) for t, v in values.items()}
        pairs = combinations(players, 2)
        linked = holmed([{"name": " × ".join(p)} | a.gain(_of(links, p)) for p in pairs])
        tables.append(grid(shown, linked, "Synergy of pairs"))
        notes.append("Synergy above 0: the pair gives more together than the sum of both.")
    drawn = forest(name, "Fair shares of the gain over the base", rows, "value")
    yield section(*notes, tables=tables, figures=[drawn])


def _of(gains: Mapping[str, Mapping[Any, Any]], who: Any) -> dict[str, Any]:
    """Return the gains of one player or pair by task."""
    return {task: found[who] for task, found in gains.items()}


def _sampled(
    a: Ablation, values: Mapping[str, Any], players: Players
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Return shares by task and player, and the standard error that drawing orders leaves."""
    drawn = orders(players, seed=a.wanted.seed)
    by_pair = {t: sampled(v, drawn) for t, v in values.items()}
    shares = {t: {p: s.mean(axis=0) for p, s in found.items()} for t, found in by_pair.items()}
    errors = {}
    for p in players:
        per_pair = sum(a.objective.weights[t] * by_pair[t][p].mean(axis=1) for t in values)
        errors[p] = float(np.std(per_pair, ddof=1) / np.sqrt(len(drawn) / 2))
    return shares, errors


@part("Who solves what")
def who_solves_(a: Ablation) -> Steps:
    """Return who solves what, how far experts agree, and what the merge keeps."""
    found = yield {"winner": Need(a.winner)} | a.alone()
    alone, merged = {n: scores(found[n]) for n in a.experts}, scores(found["winner"])
    *solved, none = cells = who_solves(alone, merged)
    kept, lost = (sum(row[key] for row in solved) for key in ("merged", "lost"))
    shown = "name:solved by, items::count, merged:merge solves:count, lost:not:count, "
    shown += "kept::share, ci95:95 %:interval"
    pairs = "pair, only:only one solves:won, p_holm:p Holm:p, q:Yule's Q:number, "
    pairs += "q_ci95:95 %:numbers"
    bars: Rows = [{"label": r["name"], "value": r["items"], "part": r["merged"]} for r in cells]
    title = "Items by who solves them; filled: the merge solves them too"
    yield section(
        f"n={len(joined(merged))}: the merge keeps {kept} items that an expert solves, loses "
        f"{lost}, and solves {none['merged']} new ones. 95 %: Wilson's interval of the share kept.",
        "Yule's Q: +1 the same items, 0 independent, −1 each what the other does not.",
        tables=[grid(shown, cells), grid(pairs, holmed(agreement(alone)), "Do the experts differ")],
        figures=[figure("bars", "who_solves", title, rows=bars)],
    )


@part("Honest oracle: all experts, against as many tries of one")
def oracle_(a: Ablation) -> Steps:
    """Return the oracle's excess over pass@k of the best expert; k is the number of experts."""
    a.ask_drawn()
    if a.wanted.samples == 0:
        raise Absent("No sampled answers were asked for: --samples pays for them.")
    found = yield a.alone("search ", pool="search") | a.alone(world="oracle")
    tables = {n: by_sample(found[n]) for n in a.experts}
    ours, theirs = oracle(tables, a.best)
    k, m = len(a.experts), next(iter(tables[a.best].values())).shape[1]
    row: dict[str, Any] = {"name": f"oracle − {a.best}", "oracle": a.objective.of(ours)}
    row |= {"pass": a.objective.of(theirs)} | a.gain({t: ours[t] - theirs[t] for t in ours})
    side = BETTER if row["value"] > 0 else WORSE
    row |= {"p_holm": row["p"], "verdict": side if row["p"] < ALPHA else SAME}
    shown = f"name:comparison, oracle::points, pass:pass@{k}:points, value:excess:signed, "
    yield section(
        f"{m} samples of each expert at temperature {a.wanted.temperature:g}. An oracle over {k} "
        f"experts has {k} tries, and so has {a.best}, the best expert on search items: only the "
        f"excess says that experts know different things. n={row['n']}, p: sign-flip test, the "
        f"only one here; verdict: {row['verdict']}.",
        tables=[grid(f"{shown}ci95:95 % paired:between, p_holm:p Holm:p, mde:sees:points", [row])],
    )
