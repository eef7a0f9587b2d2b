"""Sections on what else may have given the result: robustness, and training from the merge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from merger.errors import SearchError
from search.ablation import Ablation, Absent, Found, Need, Needs, part
from search.effects import EFFECT, Rows, blind, by_sample, value
from search.objective import Scores
from search.tables import Section, columns, grid, section
from search.world import Answers

SHARES = (0.25, 0.5, 0.75, 1.0)  # of a training's length at which curves are compared


def _settings(a: Ablation) -> dict[str, str]:
    """Return what is varied, by the world it happens in."""
    a.ask_drawn()
    drawn = {} if a.world.pools.dealt else {"fresh": "new items"}
    temperature = f"temperature {a.wanted.temperature:g}"
    warm = {f"warm-{s}": f"{temperature}, seed {s}" for s in range(a.effort.seeds)}
    return drawn | {"template": "another template"} | warm


def _plan_robustness(a: Ablation) -> Needs:
    worlds = ("greedy", *_settings(a))
    return {f"{w} {n}": Need(m, world=w) for w in worlds for n, m in a.contenders().items()}


@part("Robustness: other items, another template, sampling, another seed", _plan_robustness)
def robustness(a: Ablation, found: Found) -> Section:
    """Ask whether ranking and signs hold when items, template, temperature or seed are others."""
    from scipy.stats import kendalltau

    names, settings = list(a.contenders()), _settings(a)
    first, *others = names
    marks = {w: {n: _means(found[f"{w} {n}"]) for n in names} for w in ("greedy", *settings)}
    worth = {w: np.array([value(m[n], a.objective) for n in names]) for w, m in marks.items()}
    signs = {w: np.sign(v[0] - v[1:]) for w, v in worth.items()}
    ranks: Rows = []
    for world, words in settings.items():
        tau = kendalltau(worth["greedy"], worth[world])
        held = f"{int((signs['greedy'] == signs[world]).sum())} of {len(others)}"
        told = {
            "score": float(worth[world][0]),
            "tau": float(tau.statistic),
            "p": float(tau.pvalue),
        }
        ranks.append({"name": words, "held": held} | told)
    pairs = {f"{w} {n}": (marks[w][first], marks[w][n]) for w in settings for n in others}
    rows = a.effects(pairs)
    made = section(
        "Δ: the winner minus each, asked again. Kendall's τ of the ranking with that on confirm "
        "items, and signs of the winner's Δ that are the same. Another template: the system prompt "
        "stands in the question, and there is one turn.",
        blind(rows, a.margin),
    )
    ranking = "name:asked with, score:winner:points, tau:Kendall τ:number, p::p, held:signs hold"
    made["tables"] = [grid(columns(ranking), ranks)]
    for i, words in enumerate(settings.values()):
        own = [r | {"name": n} for r, n in zip(rows[i * len(others) :], others, strict=False)]
        made["tables"].append(grid(EFFECT, own, f"The winner minus each: {words}"))
    return made


def _means(answers: Answers) -> Scores:
    """Return the mean over samples of each item."""
    return {task: table.mean(axis=1) for task, table in by_sample(answers).items()}


@part("Training that starts from the merge")
def domain(a: Ablation, found: Found) -> Section:
    """Compare learning curves at equal steps; the seeds of one start are its clusters."""
    if len(a.facts.logs) < 2:
        raise Absent("No learning curves: --log NAME=curve.jsonl for two starts or more.")
    logs = {name: [read_curve(Path(p)) for p in paths] for name, paths in a.facts.logs.items()}
    steps = min(len(run) for runs in logs.values() for run in runs)
    width, (first, *others) = max(1, steps // 10), logs
    rows: Rows = []
    for name in others:
        for end in (max(1, round(share * steps)) for share in SHARES):
            ours, theirs = (
                [float(np.mean(run[max(0, end - width) : end])) for run in logs[start]]
                for start in (first, name)
            )
            one, other = float(np.mean(ours)), float(np.mean(theirs))
            rows.append({"name": f"{first} − {name}", "step": end, "ours": one, "theirs": other,
                         "difference": one - other, "ci95": _clusters(ours, theirs),
                         "seeds": f"{len(ours)}/{len(theirs)}"})  # fmt: skip
    single = any(len(runs) == 1 for runs in logs.values())
    made = section(
        f"Share of right answers in training, means of a tenth of the {steps} steps before the "
        "step named; intervals over seeds (Welch).",
        "One seed: no claim about the variance of training is made." if single else "",
    )
    shown = "name:starts, step::count, ours:first:points, theirs:other:points, difference:Δ:signed"
    made["tables"] = [grid(columns(f"{shown}, ci95:95 %:between, seeds"), rows)]
    lines = [
        {"label": f"{name} {i + 1}" if len(runs) > 1 else name,
         "points": [{"x": j + 1, "y": float(np.mean(run[max(0, j - steps // 20) : j + 1]))}
                    for j in range(len(run))]}
        for name, runs in logs.items() for i, run in enumerate(runs)
    ]  # fmt: skip
    made["figures"] = [{"kind": "curves", "name": "domain", "title": "Right answers in training",
                        "x": "step", "unit": "points", "lines": lines}]  # fmt: skip
    return made


def read_curve(path: Path) -> list[float]:
    """Return the column `correct` of a learning curve; SearchError names the line that is wrong."""
    values: list[float] = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            values.append(float(json.loads(line)["correct"]))
    except OSError as error:
        law = f"{path} cannot be read: {error.strerror}"
        raise SearchError(law, "Name a curve.jsonl.") from error
    except (ValueError, KeyError, TypeError) as error:
        law = f"{path}:{len(values) + 1} is no step of a curve"
        raise SearchError(law, 'A line is {"step": …, "correct": …}.') from error
    if not values:
        raise SearchError(f"{path} is empty", "Name the curve.jsonl of a training.")
    return values


def _clusters(ours: Sequence[float], theirs: Sequence[float]) -> list[float] | None:
    """Return Welch's interval of the difference of two means over seeds; None with one seed."""
    if len(ours) < 2 or len(theirs) < 2:
        return None
    from scipy.stats import ttest_ind

    ends = [float(end) for end in ttest_ind(ours, theirs, equal_var=False).confidence_interval()]
    alike = [float(np.mean(ours) - np.mean(theirs))] * 2  # all seeds give the same
    return ends if np.isfinite(ends).all() else alike
