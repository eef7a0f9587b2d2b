"""Sections that follow a knob: operators, density, scale, paths between models, parts reset.

A scale chosen on the items it is scored on would flatter every operator, so it is chosen on the
other folds. A path's barrier is how far it falls below the chord of its ends, as in linear mode
connectivity (Frankle et al., arXiv 1912.05671), here in accuracy and, where it can be read, in
likelihood; how sure the fall is comes from drawing items anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from merger.names import layer_of, module_of
from search.ablation import Ablation, Absent, Need, Steps, part
from search.candidate import OWN, Candidate
from search.effects import against, blind, bootstrapped, spread
from search.objective import Scores
from search.starts import average
from search.tables import Section, figure, grid, section
from search.variant import Merge, by_operator, scaled, variant
from search.world import scores

BANDS, FOLDS = 4, 5
REFERENCE = "linear"
RULES = ("mean", "sign")
Curve = Mapping[float, Scores]


@part("Operators at equal shares, and at their own tuned scale")
def operators(a: Ablation) -> Steps:
    """Compare operators with the plain average, each at scale 1 and at the scale that suits it."""
    table, scales = by_operator(a.experts, a.effort.operators), a.effort.scales
    found = yield {(n, s): Need(scaled(m, s)) for n, m in table.items() for s in scales}
    marks = {n: {s: scores(found[n, s]) for s in scales} for n in table}
    best = {n: max(c, key=lambda s: (a.objective.of(c[s]), -s)) for n, c in marks.items()}
    reference = marks[REFERENCE][1.0]
    pairs = {f"{n} ×1": marks[n][1.0] for n in table if n != REFERENCE}
    pairs |= {f"{n} tuned ×{best[n]:g}": tune(curve, a) for n, curve in marks.items()}
    made = a.compared(
        "operators",
        "Operators against the plain average",
        against(pairs, reference),
        f"Δ against the plain average ({100 * a.objective.of(reference):.1f}), equal shares, "
        "half the density where there is one. Scale multiplies the whole change. Tuned: the scale "
        f"is chosen among {', '.join(f'{s:g}' for s in scales)} on {FOLDS - 1} of {FOLDS} folds "
        "of the items and scored on the other, so its luck is not in Δ; × names the choice on all "
        "items.",
    )
    made["figures"].append(_curves("operator_scales", "Score over scale", "scale", a, marks))
    if a.facts.change:
        made["notes"].append(
            "Cost: seconds to merge in the live model, surveys kept; memory that a merge from "
            "files takes beyond its process. Kept: changed entries that a cast to bfloat16 leaves "
            "changed; lost: what it takes of the change's length."
        )
        shown = "name:operator, seconds::number, megabytes:MB:number, relative:length:number, "
        shown += "bf16_survive:bf16 kept:share, bf16_error:lost:share"
        costs = [{"name": n} | dict(a.facts.change(merge)) for n, merge in table.items()]
        made["tables"].append(grid(shown, costs, "What each costs, and what a cast leaves of it"))
    yield made


def tune(curve: Curve, a: Ablation) -> Scores:
    """Return each item's mark at the scale chosen on the other folds: no item chooses its own."""
    out = {t: np.zeros_like(m) for t, m in next(iter(curve.values())).items()}
    for fold in range(FOLDS):
        inside = {t: np.arange(len(m)) % FOLDS == fold for t, m in out.items()}
        worth = {
            s: a.objective.of({t: m[~inside[t]] for t, m in marks.items()})
            for s, marks in curve.items()
        }
        chosen = curve[max(worth, key=lambda s: (worth[s], -s))]
        for t, held in inside.items():
            out[t][held] = chosen[t][held]
    return out


@part("Density: the share of each expert's changes that is kept")
def density(a: Ablation) -> Steps:
    """Follow the density, relative to each task vector's own changed entries."""
    w, kept = a.winner, a.effort.density
    whole = w if isinstance(w, Candidate) and w.method == OWN else average(a.experts)
    cut = {(r, d): replace(whole, consensus=r, density=d) for r in RULES for d in kept}
    found = yield {at: Need(merge) for at, merge in cut.items()}
    marks = {(rule, d): scores(rows) for (rule, d), rows in found.items()}
    (rule, d), first = next(iter(marks.items()))
    made = a.compared(
        "density_effects",
        "Densities against all changes kept",
        against({f"{r} {x:g}": m for (r, x), m in marks.items() if (r, x) != (rule, d)}, first),
        f"Winner's shares; Δ against {rule} {d:g} ({100 * a.objective.of(first):.1f}). Density "
        "counts each expert's changed entries, largest first (sign: of those, the experts that "
        "agree with the elected sign).",
    )
    series = {r: {x: marks[r, x] for x in sorted(kept)} for r in RULES}
    made["figures"].append(_curves("density", "Score over relative density", "density", a, series))
    yield made


Ways = dict[str, dict[float, Merge]]


@part("Scale: base → winner → beyond")
def scale(a: Ablation) -> Steps:
    """Follow the winner's whole change from nothing to more than it is."""
    points = sorted({0.0, 1.0, *a.effort.curve})
    return _along(a, {"base→winner": {x: scaled(a.winner, x) for x in points}}, "scale")


@part("Paths between models, and their barriers")
def paths(a: Ablation) -> Steps:
    """Follow the straight lines base → expert, and expert ↔ expert: is there a barrier?

    Above four experts, those from the first to each other alone.
    """
    along = (0.0, *a.effort.between, 1.0)
    ways: Ways = {f"base→{e}": {x: scaled(average([e]), x) for x in along} for e in a.experts}
    first, *others = a.experts
    few = len(a.experts) <= 4
    for one, other in combinations(a.experts, 2) if few else ((first, n) for n in others):
        ways[f"{one}↔{other}"] = {x: Candidate.of({one: 1 - x, other: x}) for x in along}
    return _along(a, ways, "paths")


def _along(a: Ablation, ways: Ways, name: str) -> Steps:
    """Return the section of merges along ways: accuracy and, where it can be read, likelihood."""
    worlds = ("greedy", "nll") if a.likelihoods else ("greedy",)
    texts = a.alone("text of ") if a.likelihoods else {}  # what is read are the experts' answers
    found = yield texts | {
        (world, way, x): Need(merge, world=world)
        for way, points in ways.items()
        for x, merge in points.items()
        for world in worlds
    }

    def curves_in(world: str) -> dict[str, Curve]:
        return {w: {x: scores(found[world, w, x]) for x in points} for w, points in ways.items()}

    marks, read = curves_in("greedy"), curves_in("nll") if a.likelihoods else {}
    if not all(len(m) for c in read.values() for by_task in c.values() for m in by_task.values()):
        read = {}  # no expert solved any item of a task, so there is nothing to read
    beyond = [(way, x) for way, points in ways.items() for x in points if x]
    rows = a.effects({f"{way} {x:g}": (marks[way][x], marks[way][0.0]) for way, x in beyond})
    for row, (way, x) in zip(rows, beyond, strict=True):
        row |= {"name": way, "x": x, "nll": -a.objective.of(read[way][x]) if read else None}
    told = (
        "NLL: nats a token of answers that experts gave and that were right; smaller is likelier."
    )
    effect = "name:way, x:at:number, n::count*, score::points*, nll:NLL:number, "
    effect += "difference:Δ:signed, ci95:95 % paired:between, won:won/lost:won*, p::p*, "
    effect += "p_holm:p Holm:p, mde:sees:points*, verdict"
    fallen = "name:way, at::number, barrier::signed, ci95:interval:between, "
    fallen += "nll:in NLL:number, nll_low:from:number, nll_high:to:number"
    barriers = [_barrier(way, marks[way], read.get(way), a) for way in ways]
    drawn = [_curves(name, "Score along the way", "position", a, marks)]
    drawn += [_curves(f"{name}_nll", "NLL (nats a token)", "position", a, read, -1)] if read else []
    yield section(
        f"Each point against the start of its way. {told if read else ''}",
        "Barrier: the largest fall below the straight line between the ends; its interval is "
        "widened for the number of points looked at, so above 0 means that it is there.",
        blind(rows, a.margin),
        tables=[grid(effect, rows), grid(fallen, barriers, "Barriers")],
        figures=drawn,
    )


def _barrier(way: str, marks: Curve, read: Curve | None, a: Ablation) -> dict[str, Any]:
    at, fall, ends = barrier(marks, a)
    row: dict[str, Any] = {"name": way, "at": at, "barrier": fall, "ci95": ends}
    if read:
        _, nats, (low, high) = barrier(read, a)
        row |= {"nll": nats, "nll_low": low, "nll_high": high}
    return row


def barrier(curve: Curve, a: Ablation) -> tuple[float, float, list[float]]:
    """Return where a path falls most below the chord of its ends (0 and 1), by how much, and ends.

    The interval is Bonferroni's over the points between, so picking the largest does not favour it.
    """
    worth = {x: a.objective.of(marks) for x, marks in curve.items()}
    inner = [x for x in curve if 0 < x < 1]
    falls = {x: (1 - x) * worth[0.0] + x * worth[1.0] - worth[x] for x in inner}
    at = max(inner, key=lambda x: falls[x])
    start, end, low = (
        bootstrapped(curve[x], a.objective, seed=a.wanted.seed) for x in (0.0, 1.0, at)
    )
    fallen = (1 - at) * start + at * end - low
    return at, falls[at], spread(fallen, 1 - 0.05 / len(inner))


def _curves(
    name: str, title: str, x: str, a: Ablation, series: Mapping[str, Curve], sign: int = 1
) -> Section:
    """Return a figure of scores over a knob, each point with its interval over items."""

    def point(at: float, marks: Scores) -> dict[str, Any]:
        ends = spread(sign * bootstrapped(marks, a.objective, seed=a.wanted.seed))
        return {"x": at, "y": sign * a.objective.of(marks), "ci95": ends}

    lines = [
        {"label": n, "points": [point(*p) for p in curve.items()]} for n, curve in series.items()
    ]
    return figure("curves", name, title, x=x, unit="points" if sign > 0 else "number", lines=lines)


@part("Resets: parts of the winner put back to the base")
def resets(a: Ablation) -> Steps:
    """Say where in the network the gain lies: what is lost when a part is the base's again.

    A part is a band of layers, or a kind of module.
    """
    if not a.facts.tensors:
        raise Absent("The names of the model's tensors are not known.")
    layers = sorted({layer.number for n in a.facts.tensors if (layer := layer_of(n))})
    cuts: Sequence[Any] = np.array_split(layers, min(BANDS, len(layers)) or 1)
    bands = [f"layers {'-'.join(map(str, sorted({c[0], c[-1]})))}" for c in cuts if len(c)]
    modules, whole = sorted({module_of(n) for n in a.facts.tensors}), variant(a.winner)
    undone = {f"− {p}": Need(replace(whole, label=f"− {p}", reset=p)) for p in [*bands, *modules]}
    found = yield {"winner": Need(a.winner)} | undone
    title = "What the winner loses without a part's change"
    yield a.from_winner("resets", title, found, "Δ below 0: the gain needs this part's change.")
