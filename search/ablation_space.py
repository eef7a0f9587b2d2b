"""Sections on the search space, from the trials alone: a map of shares, and which knobs mattered.

A Gaussian process is laid through the trials (posterior.py). The map shows its mean over shares at
the winner's other knobs; importance is Jansen's total-effect index of the process over the whole
space, with intervals from trials drawn anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.ablation import Ablation, Absent, Found, part
from search.candidate import OWN, Candidate
from search.format import Section, columns, grid, section
from search.posterior import FEWEST, Posterior
from search.space import Choice, Params, Space
from search.starts import average, references
from search.trial import Trial

STEPS = 12  # of the map along one side
DRAWS, POINTS = 12, 200  # of trials drawn anew; of points of the space
Array = NDArray[np.float64]


def _known(a: Ablation) -> tuple[Space, list[Trial], list[float]]:
    """Return the space, the trials that lie in it, and their values; Absent for too few."""
    space = Space(a.experts)
    found = [t for t in a.facts.trials if t.state == "COMPLETE" and space.holds(t.candidate)]
    if len(found) < FEWEST:
        raise Absent(f"{len(found)} trials say too little of the space; {FEWEST} are needed.")
    return space, found, [a.goal.value(t.facts["means"]) for t in found]


def _surface(space: Space, trials: Sequence[Trial], values: Sequence[float]) -> Posterior:
    errors = [float(t.facts.get("error_of_mean", 0.0)) for t in trials]
    return Posterior(space, [space.params(t.candidate) for t in trials], values, errors)


@part("Map of the shares")
def simplex(a: Ablation, found: Found) -> Section:
    """Return the process over the shares, and where it cannot tell them from the best."""
    if len(a.experts) != 3:
        raise Absent("A map is drawn for three experts.")
    space, trials, values = _known(a)
    surface, w = _surface(space, trials, values), a.winner
    own = isinstance(w, Candidate) and w.method == OWN
    rest = (w.scale, w.density, w.consensus) if own and w.experts else (1.0, 1.0, "mean")  # type: ignore[union-attr]
    cells = [(i, j, STEPS - i - j) for i in range(STEPS + 1) for j in range(STEPS + 1 - i)]
    shares = [dict(zip(a.experts, np.array(c) / STEPS, strict=True)) for c in cells]
    mean, sd = surface([space.params(Candidate.of(s, *rest)) for s in shares])
    top = int(mean.argmax())
    near = mean + 2 * np.hypot(sd, sd[top]) >= mean[top]
    named = {"W": a.winner, "P": references(a.experts)["paper"], "U": average(a.experts)}
    inside = {k: m for k, m in named.items() if isinstance(m, Candidate) and m.experts}
    places: dict[str, list[float]] = {}
    for letter, merge in inside.items():
        at = [merge.shares.get(e, 0.0) for e in a.experts]
        there = next((k for k, v in places.items() if np.allclose(v, at)), "")
        places[there + letter] = places.pop(there, at)
    rows = [
        {"shares": [s[e] for e in a.experts], "mean": float(m), "sd": float(d), "near": bool(n)}
        for s, m, d, n in zip(shares, mean, sd, near, strict=True)
    ]
    best = ", ".join(f"{e} {shares[top][e]:.2f}" for e in a.experts)
    made = section(
        f"Mean of a Gaussian process through {len(trials)} trials on search items, at scale "
        f"{rest[0]:g}, density {rest[1]:g}, {rest[2]}. Highest: {best} with "
        f"{100 * mean[top]:.1f} ± {100 * sd[top]:.1f}. {int(near.sum())} of {len(rows)} places of "
        "the map are not distinguishable from it (within 2 standard deviations): drawn with a dot.",
        "The map shows what the search believed; it confirms nothing.",
    )
    ends = [float(mean.min()), float(mean.max())]
    made["figures"] = [
        {"kind": "ternary", "name": "simplex", "title": "Expected score over the shares",
         "corners": list(a.experts), "cells": rows, "marks": places, "range": ends,
         "steps": STEPS, "sketch": _sketch(a.experts, rows, places, ends)}
    ]  # fmt: skip
    return made


def _sketch(
    corners: tuple[str, ...], rows: Sequence[Any], marks: dict[str, list[float]], ends: list[float]
) -> list[str]:
    """Draw the map in characters: 1 is lowest, 9 highest, letters are the marks."""
    table = {tuple(round(STEPS * p) for p in r["shares"]): r["mean"] for r in rows}
    named = {tuple(round(STEPS * p) for p in place): k[0] for k, place in marks.items()}
    lines = [f"{corners[0]:^{4 * STEPS + 2}}".rstrip()]
    for i in range(STEPS, -1, -1):
        cells = []
        for j in range(STEPS - i + 1):
            at = (i, STEPS - i - j, j)
            level = 1 + round(8 * (table[at] - ends[0]) / ((ends[1] - ends[0]) or 1))
            cells.append(named.get(at, str(level)))
        lines.append(" " * (2 * i) + "   ".join(cells))
    lines.append(f"{corners[1]:<{2 * STEPS}}{corners[2]:>{2 * STEPS}}")
    low, high = (f"{100 * e:.1f}" for e in ends)
    return [*lines, f"1 is {low}, 9 is {high}; W winner, P paper, U uniform."]


@part("Which knobs mattered")
def importance(a: Ablation, found: Found) -> Section:
    """Return how much of the score's variation over the space each knob has a part in."""
    space, trials, values = _known(a)
    names = list(space.knobs())
    groups = {"shares": [n for n in names if n.startswith("u")]}
    groups |= {n: [n] for n in names if not n.startswith("u")}
    whole = _indices(_surface(space, trials, values), space, groups, a.seed)
    rng, drawn = np.random.default_rng(a.seed), []
    for _ in range(DRAWS):
        chosen = [int(i) for i in rng.integers(0, len(trials), len(trials))]
        again = _surface(space, [trials[i] for i in chosen], [values[i] for i in chosen])
        drawn.append(_indices(again, space, groups, a.seed))
    low, high = np.quantile(np.stack(drawn), (0.025, 0.975), axis=0)
    rows = [
        {"name": n, "value": float(whole[i]), "ci95": [float(low[i]), float(high[i])],
         "n": len(trials)} for i, n in enumerate(groups)
    ]  # fmt: skip
    made = section(
        f"Total-effect index: the share of the variation over the whole space that is gone when a "
        f"knob is known, from a Gaussian process through n={len(trials)} trials on search items; "
        "intervals from trials drawn anew. With few trials they are wide, and that is the finding.",
    )
    shown = columns("name:knob, value:index:share, ci95:95 %:shares, n::count")
    made["tables"] = [grid(shown, rows)]
    made["figures"] = [{"kind": "forest", "name": "importance", "title": "Total-effect index",
                        "rows": [r | {"label": r["name"]} for r in rows]}]  # fmt: skip
    return made


def _indices(
    surface: Posterior, space: Space, groups: Mapping[str, Sequence[str]], seed: int
) -> Array:
    """Return each group's total effect: what drawing it anew changes, in shares of variance."""
    rng = np.random.default_rng(seed)
    one, other = ([_drawn(space, rng) for _ in range(POINTS)] for _ in range(2))
    base, again = surface(one)[0], surface(other)[0]
    effects = []
    for names in groups.values():
        mixed = [p | {n: q[n] for n in names} for p, q in zip(one, other, strict=True)]
        effects.append(float(((base - surface(mixed)[0]) ** 2).mean()) / 2)
    return np.array(effects) / max(float(np.r_[base, again].var()), 1e-12)


def _drawn(space: Space, rng: np.random.Generator) -> Params:
    """Draw a point of the space, evenly on each knob's axis."""
    point: Params = {}
    for name, knob in space.knobs().items():
        if isinstance(knob, Choice):
            point[name] = knob.words[int(rng.integers(len(knob.words)))]
        elif knob.log:
            point[name] = float(np.exp(rng.uniform(np.log(knob.low), np.log(knob.high))))
        else:
            point[name] = float(rng.uniform(knob.low, knob.high))
    return point
