"""Sections that follow a knob: operators, density, scale, paths between models, parts reset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from merger.names import layer_of, module_of
from search.ablation import Ablation, Absent, Found, Need, Needs, part
from search.candidate import OWN, Candidate
from search.designs import by_operator, scaled, variant
from search.effects import against, blind, bootstrapped, spread, value
from search.objective import Scores
from search.starts import average
from search.tables import Section, columns, grid, section
from search.variant import Merge
from search.world import scores

BANDS, FOLDS = 4, 5
REFERENCE = "linear"
Curve = list[tuple[float, Scores]]


def _plan_operators(a: Ablation) -> Needs:
    table = by_operator(a.experts, a.effort.operators)
    return {f"{n} {s:g}": Need(scaled(m, s)) for n, m in table.items() for s in a.effort.scales}


@part("Operators at equal shares, and at their own tuned scale", _plan_operators)
def operators(a: Ablation, found: Found) -> Section:
    """Compare operators with the plain average, each at scale 1 and at the scale that suits it."""
    table, scales = by_operator(a.experts, a.effort.operators), a.effort.scales
    marks = {n: {s: scores(found[f"{n} {s:g}"]) for s in scales} for n in table}
    best = {n: max(c, key=lambda s: (value(c[s], a.objective), -s)) for n, c in marks.items()}
    reference = marks[REFERENCE][1.0]
    pairs = {f"{n} ×1": marks[n][1.0] for n in table if n != REFERENCE}
    pairs |= {f"{n} tuned ×{best[n]:g}": tune(curve, a) for n, curve in marks.items()}
    made = a.compared(
        "operators",
        "Operators against the plain average",
        against(pairs, reference),
        f"Δ against the plain average ({100 * value(reference, a.objective):.1f}), equal shares, "
        "half the density where there is one. Scale multiplies the whole change. Tuned: the scale "
        f"is chosen among {', '.join(f'{s:g}' for s in scales)} on {FOLDS - 1} of {FOLDS} folds "
        "of the items and scored on the other, so its luck is not in Δ; × names the choice on all "
        "items.",
    )
    series = {n: list(c.items()) for n, c in marks.items()}
    made["figures"] += [curves("operator_scales", "Score over scale", "scale", a, series)]
    if a.facts.change:
        made["notes"].append(
            "Cost: seconds to merge in the live model, surveys kept; memory that a merge from "
            "files takes beyond its process. Kept: changed entries that a cast to bfloat16 leaves "
            "changed; lost: what it takes of the change's length."
        )
        shown = columns(
            "name:operator, seconds::number, megabytes:MB:number, relative:length:"
            "number, bf16_survive:bf16 kept:share, bf16_error:lost:share"
        )
        costs = [{"name": n} | dict(a.facts.change(merge)) for n, merge in table.items()]
        made["tables"].append(grid(shown, costs, "What each costs, and what a cast leaves of it"))
    return made


def tune(curve: Mapping[float, Scores], a: Ablation) -> Scores:
    """Return each item's mark at the scale chosen on the other folds: no item chooses its own."""
    out = {t: np.zeros_like(m) for t, m in next(iter(curve.values())).items()}
    for fold in range(FOLDS):
        inside = {t: np.arange(len(m)) % FOLDS == fold for t, m in out.items()}
        worth = {
            s: value({t: m[~inside[t]] for t, m in marks.items()}, a.objective)
            for s, marks in curve.items()
        }
        chosen = curve[max(worth, key=lambda s: (worth[s], -s))]
        for t, held in inside.items():
            out[t][held] = chosen[t][held]
    return out


RULES = ("mean", "sign")


def _plan_density(a: Ablation) -> Needs:
    w = a.winner
    whole = w if isinstance(w, Candidate) and w.method == OWN else average(a.experts)
    return {
        f"{rule} {d:g}": Need(replace(whole, consensus=rule, density=d))
        for rule in RULES
        for d in a.effort.density
    }


@part("Density: the share of each expert's changes that is kept", _plan_density)
def density(a: Ablation, found: Found) -> Section:
    """Follow the density, relative to each task vector's own changed entries."""
    marks = {name: scores(rows) for name, rows in found.items()}
    name, first = next(iter(marks.items()))
    made = a.compared(
        "density_effects",
        "Densities against all changes kept",
        against({n: m for n, m in marks.items() if n != name}, first),
        f"Winner's shares; Δ against {name} ({100 * value(first, a.objective):.1f}). Density "
        "counts each expert's changed entries, largest first (sign: of those, the experts that "
        "agree with the elected sign).",
    )
    series = {r: [(d, marks[f"{r} {d:g}"]) for d in sorted(a.effort.density)] for r in RULES}
    made["figures"] += [curves("density", "Score over relative density", "density", a, series)]
    return made


Ways = dict[str, list[tuple[float, Merge]]]


def _scales(a: Ablation) -> Ways:
    points = sorted({0.0, 1.0, *a.effort.curve})
    return {"base→winner": [(x, scaled(a.winner, x)) for x in points]}


def _between(a: Ablation) -> Ways:
    """Return the straight ways base → expert, and expert ↔ expert (from the first, above four)."""
    inner = [x for x in a.effort.curve if x < 1]
    ways: Ways = {
        f"base→{name}": [(x, scaled(average([name]), x)) for x in (0.0, *inner, 1.0)]
        for name in a.experts
    }
    few = len(a.experts) <= 4
    for one, other in (
        combinations(a.experts, 2) if few else ((a.experts[0], n) for n in a.experts[1:])
    ):
        steps = (0.0, *a.effort.between, 1.0)
        ways[f"{one}↔{other}"] = [(x, Candidate.of({one: 1 - x, other: x})) for x in steps]
    return ways


def _plan_ways(a: Ablation, ways: Ways) -> Needs:
    return {
        f"{world} {way} {x:g}": Need(merge, world=world)
        for way, points in ways.items()
        for x, merge in points
        for world in (("greedy", "nll") if a.likelihoods else ("greedy",))
    }


@part("Scale: base → winner → beyond", lambda a: _plan_ways(a, _scales(a)))
def scale(a: Ablation, found: Found) -> Section:
    """Follow the winner's whole change from nothing to more than it is."""
    return _ways(a, found, _scales(a), "scale")


@part("Paths between models, and their barriers", lambda a: _plan_ways(a, _between(a)))
def paths(a: Ablation, found: Found) -> Section:
    """Follow the straight lines between models: is there a barrier, in accuracy or likelihood."""
    return _ways(a, found, _between(a), "paths")


def _ways(a: Ablation, found: Found, ways: Ways, name: str) -> Section:
    def marks_of(world: str) -> dict[str, Curve]:
        return {
            w: [(x, scores(found[f"{world} {w} {x:g}"])) for x, _ in p] for w, p in ways.items()
        }

    marks, read = marks_of("greedy"), marks_of("nll") if a.likelihoods else {}
    if not all(len(m) for p in read.values() for _, by_task in p for m in by_task.values()):
        read = {}  # no expert solved any item of a task, so there is nothing to read
    nats = {(w, x): -value(m, a.objective) for w, p in read.items() for x, m in p}
    starts = {f"{w} {x:g}": (m, p[0][1]) for w, p in marks.items() for x, m in p[1:]}
    rows = a.effects(starts)
    for row in rows:
        way, _, x = row["name"].rpartition(" ")
        row |= {"name": way, "x": float(x), "nll": nats.get((way, float(x)))}
    told = (
        "NLL: nats a token of answers that experts gave and that were right; smaller is likelier."
    )
    made = section(
        f"Each point against the start of its way. {told if read else ''}",
        "Barrier: the largest fall below the straight line between the ends; its interval is "
        "widened for the number of points looked at, so above 0 means that it is there.",
        blind(rows, a.margin),
    )
    made["tables"] = [
        grid(
            columns(
                "name:way, x:at:number, n::count*, score::points*, nll:NLL:number, "
                "difference:Δ:signed, ci95:95 % paired:between, won:won/lost:won*, p::p*, "
                "p_holm:p Holm:p, mde:sees:points*, verdict"
            ),
            rows,
        ),
        grid(
            columns(
                "name:way, at::number, barrier::signed, ci95:interval:between, "
                "nll:in NLL:number, nll_low:from:number, nll_high:to:number"
            ),
            [_barrier(w, marks[w], read.get(w), a) for w in marks],
            "Barriers",
        ),
    ]
    made["figures"] = [curves(name, "Score along the way", "position", a, marks)]
    if read:
        made["figures"].append(curves(f"{name}_nll", "NLL (nats a token)", "position", a, read, -1))
    return made


def _barrier(way: str, marks: Curve, read: Curve | None, a: Ablation) -> dict[str, Any]:
    at, fall, ends = barrier(marks, a)
    row: dict[str, Any] = {"name": way, "at": at, "barrier": fall, "ci95": ends}
    if read:
        _, nats, (low, high) = barrier(read, a)
        row |= {"nll": nats, "nll_low": low, "nll_high": high}
    return row


def barrier(points: Curve, a: Ablation) -> tuple[float, float, list[float]]:
    """Return where a path falls most below the chord of its ends (0 and 1), by how much, and ends.

    The interval is Bonferroni's over the points between, so picking the largest does not favour it.
    """
    inside = {x: m for x, m in points if x <= 1}
    draws = {x: bootstrapped(m, a.objective, a.wanted.seed) for x, m in inside.items()}
    worth = {x: value(m, a.objective) for x, m in inside.items()}
    inner = [x for x in inside if 0 < x < 1]
    falls = {x: (1 - x) * worth[0.0] + x * worth[1.0] - worth[x] for x in inner}
    x = max(inner, key=lambda p: falls[p])
    fallen = (1 - x) * draws[0.0] + x * draws[1.0] - draws[x]
    return x, falls[x], spread(fallen, 1 - 0.05 / len(inner))


def curves(
    name: str, title: str, x: str, a: Ablation, series: Mapping[str, Curve], sign: int = 1
) -> Section:
    """Return a figure of scores over a knob, each point with its interval over items."""

    def point(at: float, marks: Scores) -> dict[str, Any]:
        ends = spread(sign * bootstrapped(marks, a.objective, a.wanted.seed))
        return {"x": at, "y": sign * value(marks, a.objective), "ci95": ends}

    lines = [{"label": n, "points": [point(*p) for p in curve]} for n, curve in series.items()]
    unit = "points" if sign > 0 else "number"
    return {"kind": "curves", "name": name, "title": title, "x": x, "unit": unit, "lines": lines}


def _parts(a: Ablation) -> Needs:
    """Return the winner with each band of layers, and each kind of module, put back to the base."""
    if not a.facts.tensors:
        raise Absent("The names of the model's tensors are not known.")
    layers = sorted({found.number for n in a.facts.tensors if (found := layer_of(n))})
    cuts: Sequence[Any] = np.array_split(layers, min(BANDS, len(layers)) or 1)
    bands = [f"layers {c[0]}-{c[-1]}" for c in cuts if len(c)]
    modules, whole = sorted({module_of(n) for n in a.facts.tensors}), variant(a.winner)
    undone = {f"− {p}": Need(replace(whole, label=f"− {p}", reset=p)) for p in [*bands, *modules]}
    return {"winner": Need(a.winner)} | undone


@part("Resets: parts of the winner put back to the base", _parts)
def resets(a: Ablation, found: Found) -> Section:
    """Say where in the network the gain lies: what is lost when a part is the base's again."""
    title = "What the winner loses without a part's change"
    return a.from_winner("resets", title, found, "Δ below 0: the gain needs this part's change.")
