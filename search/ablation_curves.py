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
from search.effects import (
    against,
    blind,
    bootstrapped,
    interval,
    spread,
    value,
)
from search.format import Section, columns, grid, section
from search.objective import Scores
from search.starts import average
from search.variant import Merge
from search.world import scores

BANDS, FOLDS = 4, 5
REFERENCE = "linear"


def _operators(a: Ablation) -> dict[tuple[str, float], Merge]:
    table = by_operator(a.experts, a.effort.operators)
    return {(n, s): scaled(m, s) for n, m in table.items() for s in a.effort.scales}


@part(
    "Operators at equal shares, and at their own tuned scale",
    lambda a: {f"{name} {s:g}": Need(m) for (name, s), m in _operators(a).items()},
)
def operators(a: Ablation, found: Found) -> Section:
    """Compare operators with the plain average, each at scale 1 and at the scale that suits it."""
    names = list(dict.fromkeys(name for name, _ in _operators(a)))
    marks = {n: {s: scores(found[f"{n} {s:g}"]) for s in a.effort.scales} for n in names}
    tuned = {name: tune(curve, a) for name, curve in marks.items()}
    best = {n: max(c, key=lambda s: (value(c[s], a.objective), -s)) for n, c in marks.items()}
    reference = marks[REFERENCE][1.0]
    pairs = {f"{n} ×1": marks[n][1.0] for n in names if n != REFERENCE}
    pairs |= {f"{n} tuned ×{best[n]:g}": tuned[n] for n in names}
    made = a.compared(
        "operators",
        "Operators against the plain average",
        against(pairs, reference),
        f"Δ against the plain average ({100 * value(reference, a.objective):.1f}), equal shares, "
        "half the density where there is one. Scale multiplies the whole change. Tuned: the scale "
        f"is chosen among {', '.join(f'{s:g}' for s in a.effort.scales)} on {FOLDS - 1} of "
        f"{FOLDS} folds of the items and scored on the other, so its luck is not in Δ; × names "
        "the choice on all items.",
    )
    made["figures"] += [
        curves("operator_scales", "Score over scale", "scale", a,
               {n: list(c.items()) for n, c in marks.items()}),
    ]  # fmt: skip
    return made


def tune(curve: Mapping[float, Scores], a: Ablation) -> Scores:
    """Return each item's mark at the scale chosen on the other folds: no item chooses its own."""
    tasks, out = a.objective.tasks, {}
    folds = {t: np.arange(len(next(iter(curve.values()))[t])) % FOLDS for t in tasks}
    chosen = []
    for fold in range(FOLDS):
        rest = {s: {t: marks[t][folds[t] != fold] for t in tasks} for s, marks in curve.items()}
        worth = {s: value(marks, a.objective) for s, marks in rest.items()}
        chosen.append(max(worth, key=lambda s: (worth[s], -s)))
    for t in tasks:
        table = np.stack([curve[chosen[fold]][t] for fold in range(FOLDS)])
        out[t] = table[folds[t], np.arange(len(folds[t]))]
    return out


def _densities(a: Ablation) -> dict[tuple[str, float], Candidate]:
    w = a.winner
    whole = w if isinstance(w, Candidate) and w.method == OWN else average(a.experts)
    return {
        (rule, d): replace(whole, consensus=rule, density=d)
        for rule in ("mean", "sign")
        for d in a.effort.density
    }


@part(
    "Density: the share of each expert's changes that is kept",
    lambda a: {f"{rule} {d:g}": Need(m) for (rule, d), m in _densities(a).items()},
)
def density(a: Ablation, found: Found) -> Section:
    """Follow the density, relative to each task vector's own changed entries."""
    marks = {key: scores(found[f"{key[0]} {key[1]:g}"]) for key in _densities(a)}
    first = marks["mean", max(a.effort.density)]
    others = {f"{r}, {d:g}": m for (r, d), m in marks.items() if m is not first}
    made = a.compared(
        "density_effects",
        "Densities against all changes kept",
        against(others, first),
        f"Winner's shares; Δ against mean at density {max(a.effort.density):g} "
        f"({100 * value(first, a.objective):.1f}). Density counts each expert's changed entries, "
        "largest first (sign: of those, the experts that agree with the elected sign).",
    )
    series = {r: [(d, marks[r, d]) for d in sorted(a.effort.density)] for r in ("mean", "sign")}
    made["figures"] += [curves("density", "Score over relative density", "density", a, series)]
    return made


Path = list[tuple[float, Merge]]


def _scales(a: Ablation) -> dict[str, Path]:
    points = sorted({0.0, 1.0, *a.effort.curve})
    return {"base→winner": [(x, scaled(a.winner, x)) for x in points]}


def _between(a: Ablation) -> dict[str, Path]:
    """Return the straight ways base → expert, and expert ↔ expert (from the first, above four)."""
    ways: dict[str, Path] = {}
    inner = [x for x in a.effort.curve if x < 1] or list(a.effort.between)
    for name in a.experts:
        alone = average([name])
        ways[f"base→{name}"] = [(x, scaled(alone, x)) for x in (0.0, *inner, 1.0)]
    pairs = list(combinations(a.experts, 2))
    if len(a.experts) > 4:
        pairs = [(a.experts[0], name) for name in a.experts[1:]]
    for one, other in pairs:
        steps = [(x, Candidate.of({one: 1 - x, other: x})) for x in (0.0, *a.effort.between, 1.0)]
        ways[f"{one}↔{other}"] = [(x, merge) for x, merge in steps]
    return ways


def _plan_ways(a: Ablation, ways: Mapping[str, Path]) -> Needs:
    worlds = ("greedy", "nll") if a.likelihoods else ("greedy",)
    return {
        f"{world} {way} {x:g}": Need(merge, world=world)
        for way, points in ways.items()
        for x, merge in points
        for world in worlds
    }


@part("Scale: base → winner → beyond", lambda a: _plan_ways(a, _scales(a)))
def scale(a: Ablation, found: Found) -> Section:
    """Follow the winner's whole change from nothing to more than it is."""
    return _ways(a, found, _scales(a), "scale")


@part("Paths between models, and their barriers", lambda a: _plan_ways(a, _between(a)))
def paths(a: Ablation, found: Found) -> Section:
    """Follow the straight lines between models: is there a barrier, in accuracy or likelihood."""
    return _ways(a, found, _between(a), "paths")


def _ways(a: Ablation, found: Found, ways: Mapping[str, Path], name: str) -> Section:
    marks = {w: [(x, scores(found[f"greedy {w} {x:g}"])) for x, _ in p] for w, p in ways.items()}
    read = {
        w: [(x, scores(found[f"nll {w} {x:g}"])) for x, _ in p]
        for w, p in (ways.items() if a.likelihoods else ())
    }
    if not all(len(m) for p in read.values() for _, by_task in p for m in by_task.values()):
        read = {}  # no expert solved any item of a task, so there is nothing to read
    points = {f"{w} {x:g}": m for w, p in marks.items() for x, m in p}
    start = {f"{w} {x:g}": (m, marks[w][0][1]) for w, p in marks.items() for x, m in p[1:]}
    rows = a.effects(start)
    nats = {f"{w} {x:g}": -value(m, a.objective) for w, p in read.items() for x, m in p}
    for row in rows:
        row["nll"] = nats.get(row["name"])
        way, _, x = row["name"].rpartition(" ")
        row |= {"name": way, "x": float(x)}
    made = section(
        f"Each point against the start of its way. {'NLL: nats a token of' if read else ''} "
        f"{'answers that experts gave and that were right; smaller is likelier.' if read else ''}",
        "Barrier: the largest fall below the straight line between the ends; its interval is "
        "widened for the number of points looked at, so above 0 means that it is there.",
        blind(rows, a.margin),
    )
    made["tables"] = [
        grid(columns("name:way, x:at:number, n::count*, score::points*, nll:NLL:number, "
                     "difference:Δ:signed, ci95:95 % paired:between, won:won/lost:won*, p::p*, "
                     "p_holm:p Holm:p, mde:sees:points*, verdict"), rows),
        grid(columns("name:way, at::number, barrier::signed, ci95:interval:between, "
                     "nll:in NLL:number, nll_low:from:number, nll_high:to:number"),
             [_barrier(w, marks[w], read.get(w), a) for w in marks], "Barriers"),
    ]  # fmt: skip
    made["points"] = [
        {"name": n, "value": value(m, a.objective), "ci95": interval(m, a.objective, a.seed)}
        for n, m in points.items()
    ]
    made["figures"] = [curves(name, "Score along the way", "position", a, marks)]
    if read:
        made["figures"].append(curves(f"{name}_nll", "NLL (nats a token)", "position", a, read, -1))
    return made


def _barrier(
    way: str,
    marks: list[tuple[float, Scores]],
    read: list[tuple[float, Scores]] | None,
    a: Ablation,
) -> dict[str, Any]:
    at, fall, ends = barrier(marks, a)
    row: dict[str, Any] = {"name": way, "at": at, "barrier": fall, "ci95": ends}
    if read:
        _, nats, (low, high) = barrier(read, a)
        row |= {"nll": nats, "nll_low": low, "nll_high": high}
    return row


def barrier(
    points: Sequence[tuple[float, Scores]], a: Ablation
) -> tuple[float, float, list[float]]:
    """Return where a path falls most below the chord of its ends (0 and 1), by how much, and ends.

    The interval is Bonferroni's over the points between, so picking the largest does not favour it.
    """
    table = {x: bootstrapped(m, a.objective, a.seed) for x, m in points if x <= 1}
    worth = {x: value(m, a.objective) for x, m in points if x <= 1}
    inner = [x for x in table if 0 < x < 1]
    if not inner:
        return 0.0, 0.0, [0.0, 0.0]
    falls = {x: (1 - x) * worth[0.0] + x * worth[1.0] - worth[x] for x in inner}
    x = max(inner, key=lambda p: falls[p])
    draws = (1 - x) * table[0.0] + x * table[1.0] - table[x]
    return x, falls[x], spread(draws, 1 - 0.05 / len(inner))


def curves(
    name: str, title: str, x: str, a: Ablation, series: Mapping[str, Any], sign: int = 1
) -> Section:
    """Return a figure of scores over a knob, each point with its interval over items."""
    lines = []
    for label, points in series.items():
        drawn = [(at, sign * bootstrapped(m, a.objective, a.seed)) for at, m in points]
        middles = [sign * value(m, a.objective) for _, m in points]
        lines.append(
            {
                "label": label,
                "points": [
                    {"x": at, "y": y, "ci95": spread(d)}
                    for (at, d), y in zip(drawn, middles, strict=True)
                ],
            }
        )
    unit = "points" if sign > 0 else "number"
    return {"kind": "curves", "name": name, "title": title, "x": x, "unit": unit, "lines": lines}


def _parts(a: Ablation) -> dict[str, Merge]:
    """Return the winner with each band of layers, and each kind of module, put back to the base."""
    if not a.facts.tensors:
        raise Absent("The names of the model's tensors are not known.")
    layers = sorted({found.number for n in a.facts.tensors if (found := layer_of(n))})
    cuts = np.array_split(np.array(layers), min(BANDS, len(layers)) or 1)
    bands = [f"layers {c[0]}-{c[-1]}" for c in cuts if len(c)]
    modules = sorted({module_of(n) for n in a.facts.tensors})
    whole = variant(a.winner)
    return {f"− {p}": replace(whole, label=f"− {p}", reset=p) for p in [*bands, *modules]}


@part(
    "Resets: parts of the winner put back to the base",
    lambda a: {"winner": Need(a.winner)} | {n: Need(m) for n, m in _parts(a).items()},
)
def resets(a: Ablation, found: Found) -> Section:
    """Say where in the network the gain lies: what is lost when a part is the base's again."""
    marks = {name: scores(rows) for name, rows in found.items()}
    whole = marks.pop("winner")
    title = "What the winner loses without a part's change"
    note = "Δ below 0: the gain needs this part's change."
    return a.compared("resets", title, against(marks, whole), note)
