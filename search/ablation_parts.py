"""Sections that need no answers: geometry of the weights; and from the trials, the map and knobs.

Through the trials a Gaussian process is laid (posterior.py). The map shows its mean over shares at
the winner's other knobs; importance is Jansen's total-effect index of the process over the whole
space, with intervals from trials drawn anew.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.ablation import Ablation, Absent, Steps, part
from search.candidate import OWN, Candidate
from search.posterior import FEWEST, Posterior, fit
from search.space import Space
from search.starts import average, fill, references
from search.tables import Section, figure, grid, section
from search.trial import Trial

STEPS = 12  # of the map along one side
DRAWS, POINTS = 12, 256  # of trials drawn anew; of points of the space
FIGURES = {
    "relative": "Relative length",
    "changed": "Changed entries",
    "bf16_survive": "Changes that bfloat16 keeps",
    "bf16_error": "Share of length lost to bfloat16",
}
_SHADES = " ░▒▓█"
Array = NDArray[np.float64]


@part("Geometry of the experts, and what a cast to bfloat16 keeps")
def geometry(a: Ablation) -> Steps:
    """Return norms, overlap and cast loss per expert, per pair and per layer; exact, no sample."""
    yield {}
    if a.facts.geometry is None:
        raise Absent("There are no checkpoints to measure.")
    measured = a.facts.geometry()
    places = {"": measured.total().figures()}
    places |= {f"{name}: ": sums.figures() for name, sums in measured.by_layer().items()}
    alone, pairs = list[dict[str, Any]](), list[dict[str, Any]]()
    for place, figures in places.items():
        alone += [
            {"name": f"{place}{e}", "row": e} | {k: figures[k][i] for k in ("norm", *FIGURES)}
            for i, e in enumerate(a.experts)
        ]
        for key, pair in figures["pairs"].items():
            name = " · ".join(a.experts[int(i)] for i in key.split(","))
            pairs.append({"name": f"{place}{name}", "row": name} | pair)
    shown = "name:expert, norm::number, relative::number, changed::share, "
    shown += "bf16_survive:bf16 kept:share, bf16_error:bf16 error:share"
    meet = "name:pair, cosine::number, conflict:opposed signs:share, overlap::share"
    k, m = len(a.experts), len(pairs) // len(places)
    layers = [name.removesuffix(": ") for name in places if name]
    drawn = [_heat(key, title, layers, alone[k:]) for key, title in FIGURES.items()]
    yield section(
        "Read from the weights, so without error. Relative: length of the change over that of the "
        "base. bf16 kept: changed entries that still differ after base and expert are cast; error: "
        "what the cast takes of the change's length.",
        tables=[
            grid(shown, alone[:k]),
            grid(meet, pairs[:m], "Pairs of task vectors"),
            grid(shown, alone[k:], "By layer") | {"wide": True},
            grid(meet, pairs[m:], "Pairs by layer") | {"wide": True},
        ],
        figures=[*drawn, _heat("cosine", "Cosine of task vectors", layers, pairs[m:])],
    )


def _heat(key: str, title: str, layers: list[str], table: Sequence[Mapping[str, Any]]) -> Section:
    """Return a figure of shaded cells, with a sketch of it in characters."""
    names = list(dict.fromkeys(r["row"] for r in table))
    rows = {n: [r[key] for r in table if r["row"] == n] for n in names}
    known = [0.0, *(r[key] for r in table if r[key] is not None)]
    low, step = min(known), (max(known) - min(known) or 1.0) / (len(_SHADES) - 1)
    ends = f"{layers[0]} to {layers[-1]}, blank {low:.2g} to full {max(known):.2g}" if rows else ""
    sketch = [f"{title}, {ends}:"] if rows else []
    for name, values in rows.items():
        cells = ("·" if v is None else _SHADES[round((v - low) / step)] for v in values)
        sketch.append(f"{name:<{max(map(len, names))}} |{''.join(cells)}|")
    shown = [{"label": name, "values": values} for name, values in rows.items()]
    data = {"sketch": sketch, "columns": layers, "rows": shown}
    return figure("heat", f"geometry_{key}", title, **data)


def _known(a: Ablation) -> tuple[Space, list[Trial]]:
    """Return the space and the trials that lie in it."""
    space = Space(a.experts)
    full = [t for t in a.facts.trials if t.state == "COMPLETE" and space.holds(t.candidate)]
    return space, full


def _surface(a: Ablation, space: Space, trials: Sequence[Trial]) -> Posterior:
    """Return the process through trials; Absent for too few."""
    if surface := fit(space, trials, a.goal):
        return surface
    raise Absent(f"{len(trials)} trials say too little of the space; {FEWEST} are needed.")


@part("Map of the shares")
def simplex(a: Ablation) -> Steps:
    """Return the process over the shares, and where it cannot tell them from the best."""
    yield {}
    if len(a.experts) != 3:
        raise Absent("A map is drawn for three experts.")
    space, trials = _known(a)
    w, rest = a.winner, (1.0, 1.0, "mean")
    if isinstance(w, Candidate) and w.method == OWN and w.experts:
        rest = (w.scale, w.density, w.consensus)
    cells = [(i, j, STEPS - i - j) for i in range(STEPS + 1) for j in range(STEPS + 1 - i)]
    shares = [dict(zip(a.experts, np.array(c) / STEPS, strict=True)) for c in cells]
    points = [space.params(Candidate.of(s, *rest)) for s in shares]
    mean, sd = _surface(a, space, trials)(points)
    top = int(mean.argmax())
    near = mean + 2 * np.hypot(sd, sd[top]) >= mean[top]
    rows = [
        {"shares": list(s.values()), "mean": float(m), "sd": float(d), "near": bool(n)}
        for s, m, d, n in zip(shares, mean, sd, near, strict=True)
    ]
    best = ", ".join(f"{e} {share:.2f}" for e, share in shares[top].items())
    places, ends = _places(a), [float(mean.min()), float(mean.max())]
    levels = 1 + np.round(8 * (mean - ends[0]) / ((ends[1] - ends[0]) or 1)).astype(int)
    sketch = _sketch(a.experts, dict(zip(cells, map(str, levels), strict=True)), places)
    sketch.append(
        f"1 is {100 * ends[0]:.1f}, 9 is {100 * ends[1]:.1f}; W winner, P paper, U uniform."
    )
    data = {"corners": [*a.experts], "cells": rows, "marks": places, "range": ends, "steps": STEPS}
    title = "Expected score over the shares"
    yield section(
        f"Mean of a Gaussian process through {len(trials)} trials on search items, at scale "
        f"{rest[0]:g}, density {rest[1]:g}, {rest[2]}. Highest: {best} with "
        f"{100 * mean[top]:.1f} ± {100 * sd[top]:.1f}. {int(near.sum())} of {len(rows)} places of "
        "the map are not distinguishable from it (within 2 standard deviations): drawn with a dot.",
        "The map shows what the search believed; it confirms nothing.",
        figures=[figure("ternary", "simplex", title, **data, sketch=sketch)],
    )


def _places(a: Ablation) -> dict[str, list[float]]:
    """Return where winner, paper and uniform lie on the map; letters that share a place are one."""
    named = {"W": a.winner, "P": references(a.experts)["paper"], "U": average(a.experts)}
    letters: dict[tuple[float, ...], str] = {}
    for letter, merge in named.items():
        if isinstance(merge, Candidate) and merge.experts:
            at = tuple(round(merge.shares.get(e, 0.0), 9) for e in a.experts)
            letters[at] = letters.get(at, "") + letter
    return {letter: list(at) for at, letter in letters.items()}


def _sketch(
    corners: Sequence[str],
    cells: Mapping[tuple[int, ...], str],
    places: Mapping[str, Sequence[float]],
) -> list[str]:
    """Draw the map in characters: 1 is lowest, 9 highest, letters are the marks."""
    shown = dict(cells) | {tuple(round(STEPS * p) for p in at): k[0] for k, at in places.items()}
    lines = [f"{corners[0]:^{4 * STEPS + 2}}".rstrip()]
    for i in range(STEPS, -1, -1):
        row = [shown[i, STEPS - i - j, j] for j in range(STEPS - i + 1)]
        lines.append(" " * (2 * i) + "   ".join(row))
    return [*lines, f"{corners[1]:<{2 * STEPS}}{corners[2]:>{2 * STEPS}}"]


@part("Which knobs mattered")
def importance(a: Ablation) -> Steps:
    """Return how much of the score's variation over the space each knob has a part in."""
    yield {}
    space, trials = _known(a)
    whole = _indices(_surface(a, space, trials), space, a.wanted.seed)
    rng, drawn = np.random.default_rng(a.wanted.seed), []
    for _ in range(DRAWS):
        chosen = [trials[i] for i in rng.integers(0, len(trials), len(trials))]
        drawn.append(_indices(_surface(a, space, chosen), space, a.wanted.seed))
    ends = np.quantile(np.stack(drawn), (0.025, 0.975), axis=0).T.tolist()
    rows = [
        {"name": n, "label": n, "value": float(v), "ci95": e, "n": len(trials)}
        for n, v, e in zip(space.knobs(), whole, ends, strict=True)
    ]
    yield section(
        f"Total-effect index: the share of the variation over the whole space that is gone when a "
        f"knob is known, from a Gaussian process through n={len(trials)} trials on search items; "
        "intervals from trials drawn anew. With few trials they are wide, and that is the finding.",
        tables=[grid("name:knob, value:index:share, ci95:95 %:shares, n::count", rows)],
        figures=[figure("forest", "importance", "Total-effect index", unit="number", rows=rows)],
    )


def _indices(surface: Posterior, space: Space, seed: int) -> Array:
    """Return each knob's total effect: what drawing it anew changes, in shares of variance."""
    one, drawn = fill(space, POINTS, seed), fill(space, POINTS, seed + 1)
    other = [drawn[i] for i in np.random.default_rng(seed).permutation(POINTS)]
    base, again = surface(one)[0], surface(other)[0]
    effects = []
    for name in space.knobs():
        mixed = [p | {name: q[name]} for p, q in zip(one, other, strict=True)]
        effects.append(float(((base - surface(mixed)[0]) ** 2).mean()) / 2)
    return np.minimum(np.array(effects) / max(float(np.r_[base, again].var()), 1e-12), 1.0)
