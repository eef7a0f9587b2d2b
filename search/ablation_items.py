"""Sections on who stands where: scoreboard, items, robustness, later training, method."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from merger.errors import SearchError
from search.ablation import Ablation, Absent, Found, Need, Needs, part
from search.effects import EFFECT, Rows, blind, value
from search.format import Section, box, columns, grid, section
from search.objective import Scores
from search.report import score_table
from search.scorers import Scorer
from search.starts import average
from search.world import Answers, health, scores

SHOWN = 10  # items won, and as many lost, with their texts
SHARES = (0.25, 0.5, 0.75, 1.0)  # of a training's length at which curves are compared


def _plan_board(a: Ablation) -> Needs:
    return {name: Need(merge) for name, merge in a.contenders().items()}


@part("Scores on confirm items", _plan_board)
def scoreboard(a: Ablation, found: Found) -> Section:
    """Return the winner beside the base, every expert and the simple recipes, and Δ to each."""
    about = {name: merge.describe() for name, merge in a.contenders().items()}
    marks = {name: scores(rows) for name, rows in found.items()}
    whole = marks.pop("winner")
    pairs = {name: (whole, theirs) for name, theirs in marks.items()}
    title, note = "The winner minus each", "cut: answers that ran out of tokens."
    made = a.compared("scoreboard", title, pairs, f"Winner: {about['winner']}. {note}")
    (family,) = made["tables"]
    board = score_table(found, about, a.objective, a.world.tasks, a.seed)
    return made | {"tables": [board, family | {"title": title}]}


def _plan_items(a: Ablation) -> Needs:
    chosen = {f"search {n}": Need(average([n]), "search") for n in a.experts}
    alone = {f"expert {n}": Need(average([n])) for n in a.experts}
    return chosen | alone | {"winner": Need(a.winner)}


@part("Items won and lost against the best single expert", _plan_items)
def items(a: Ablation, found: Found) -> Section:
    """Return how many items the merge wins and loses, and some of them with all texts."""
    best, flips, rows = f"expert {a.best}", list[dict[str, Any]](), []
    for task in a.world.tasks:
        facts = {} if isinstance(task, Scorer) else a.world.ledger.items(task.name, task.version)
        pairs = list(zip(found["winner"][task.name], found[best][task.name], strict=True))
        flips += [
            {
                "task": task.name,
                "side": "won" if ours.correct > theirs.correct else "lost",
                "item": ours.item,
                "prompt": facts.get(ours.item, {}).get("prompt", ""),
                "answer": facts.get(ours.item, {}).get("answer", ""),
                "texts": {"winner": ours.text, best: theirs.text},
            }
            for ours, theirs in pairs
            if ours.correct != theirs.correct
        ]
        counts = {side: len(_side(flips, side, task.name)) for side in ("won", "lost")}
        rows.append({"name": task.name, "n": len(pairs), **counts})
    shown = []
    for side in ("won", "lost"):
        turns = zip_longest(*(_side(flips, side, task.name) for task in a.world.tasks))
        shown += [item for turn in turns for item in turn if item][:SHOWN]
    made = section(
        f"Against {best.removeprefix('expert ')}, the best expert on search items. The texts of up "
        f"to {SHOWN} items won and {SHOWN} lost, tasks in turn, are in report.html and .json.",
        items=shown,
    )
    made["tables"] = [grid(columns("name:task, n::count, won::count, lost::count"), rows)]
    return made


def _side(flips: list[dict[str, Any]], side: str, task: str) -> list[dict[str, Any]]:
    return [f for f in flips if (f["side"], f["task"]) == (side, task)]


def _settings(a: Ablation) -> dict[str, str]:
    """Return what is varied, by the world it happens in: other items, sampling, other seeds."""
    if any(isinstance(task, Scorer) for task in a.world.tasks):
        raise Absent("Tasks of others are neither redrawn nor sampled.")
    drawn = {} if a.world.pools.dealt else {"fresh": "new items"}
    warm = {f"warm-{s}": f"temperature {a.temperature:g}, seed {s}" for s in range(a.effort.seeds)}
    return drawn | warm


@part(
    "Robustness: other items, sampling, another seed",
    lambda a: {
        f"{world} {name}": Need(merge, world=world)
        for world in ("greedy", *_settings(a))
        for name, merge in a.contenders().items()
    },
)
def robustness(a: Ablation, found: Found) -> Section:
    """Ask whether ranking and signs hold when items, temperature or seed are others."""
    from scipy.stats import kendalltau

    names, settings = list(a.contenders()), _settings(a)
    marks = {
        world: {n: _means(found[f"{world} {n}"]) for n in names} for world in ("greedy", *settings)
    }
    worth = {w: [value(m[n], a.objective) for n in names] for w, m in marks.items()}
    ranks: Rows = []
    rows: dict[tuple[str, str], tuple[Scores, Scores]] = {}
    for world, words in settings.items():
        rows |= {(world, n): (marks[world]["winner"], marks[world][n]) for n in names[1:]}
        tau = kendalltau(worth["greedy"], worth[world])
        signs = [np.sign(worth[w][0] - np.array(worth[w][1:])) for w in ("greedy", world)]
        held = f"{int((signs[0] == signs[1]).sum())} of {len(signs[0])}"
        ranks.append(
            {"name": words, "tau": float(tau.statistic), "p": float(tau.pvalue), "held": held}
        )
    told = {" ".join(key): pair for key, pair in rows.items()}
    found_ = [r | {"name": n} for r, (_, n) in zip(a.effects(told), rows, strict=True)]
    made = section(
        "Δ: the winner minus each, asked again. Kendall's τ of the ranking with that on confirm "
        "items, and signs of the winner's Δ that are the same.",
        blind(found_, a.margin),
    )
    ranking = "name:asked with, tau:Kendall τ:number, p::p, held:signs that hold"
    made["tables"] = [grid(columns(ranking), ranks)]
    for i, words in enumerate(settings.values()):
        own = found_[i * len(names[1:]) : (i + 1) * len(names[1:])]
        made["tables"].append(grid(EFFECT, own, f"The winner minus each: {words}"))
    return made


def _means(answers: Answers) -> dict[str, Any]:
    """Return the mean over samples of each item."""
    return {
        task: np.array([float(r.correct) for r in rows])
        .reshape(len({r.item for r in rows}), -1)
        .mean(axis=1)
        for task, rows in answers.items()
    }


@part("Training that starts from the merge")
def domain(a: Ablation, found: Found) -> Section:
    """Compare learning curves at equal steps; the seeds of one start are its clusters."""
    if len(a.facts.logs) < 2:
        raise Absent("No learning curves: --log NAME=curve.jsonl for two starts or more.")
    curves = {name: [read_curve(Path(p)) for p in paths] for name, paths in a.facts.logs.items()}
    steps = min(len(run) for runs in curves.values() for run in runs)
    (first, one), *others = curves.items()
    rows: Rows = []
    for name, other in others:
        for share in SHARES:
            end = max(1, round(share * steps))
            width = max(1, steps // 10)
            ours, theirs = (
                [float(np.mean(run[max(0, end - width) : end])) for run in runs]
                for runs in (one, other)
            )
            rows.append({"name": f"{first} − {name}", "step": end, "ours": float(np.mean(ours)),
                         "theirs": float(np.mean(theirs)),
                         "difference": float(np.mean(ours) - np.mean(theirs)),
                         "ci95": _clusters(ours, theirs),
                         "seeds": f"{len(ours)}/{len(theirs)}"})  # fmt: skip
    single = any(len(runs) == 1 for runs in curves.values())
    warning = "One seed: no claim about the variance of training is made." if single else ""
    made = section(
        f"Share of right answers in training, means of a tenth of the {steps} steps before the "
        "step named; intervals over seeds (Welch).", warning,
    )  # fmt: skip
    shown = "name:starts, step::count, ours:first:points, theirs:other:points, difference:Δ:signed"
    made["tables"] = [grid(columns(f"{shown}, ci95:95 %:between, seeds"), rows)]
    lines = [
        {"label": f"{name} {i + 1}" if len(runs) > 1 else name,
         "points": [{"x": j + 1, "y": y} for j, y in enumerate(_smooth(run))]}
        for name, runs in curves.items() for i, run in enumerate(runs)
    ]  # fmt: skip
    made["figures"] = [{"kind": "curves", "name": "domain", "title": "Right answers in training",
                        "x": "step", "unit": "points", "lines": lines}]  # fmt: skip
    return made


def read_curve(path: Path) -> list[float]:
    """Return the column `correct` of a learning curve; SearchError names the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SearchError(
            f"{path} cannot be read: {error.strerror}", "Name a curve.jsonl."
        ) from error
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(float(json.loads(line)["correct"]))
        except (ValueError, KeyError, TypeError) as error:
            raise SearchError(
                f"{path}:{number} is no step of a curve", 'A line is {"step": …, "correct": …}.'
            ) from error
    if not values:
        raise SearchError(f"{path} is empty", "Name the curve.jsonl of a training.")
    return values


def _smooth(run: Sequence[float]) -> list[float]:
    width = max(1, len(run) // 20)
    return [float(np.mean(run[max(0, i - width + 1) : i + 1])) for i in range(len(run))]


def _clusters(ours: list[float], theirs: list[float]) -> list[float] | None:
    """Return Welch's interval of the difference of two means over seeds; None with one seed."""
    if len(ours) < 2 or len(theirs) < 2:
        return None
    from scipy.stats import ttest_ind

    low, high = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    if not np.isfinite([low, high]).all():  # all seeds alike
        return [float(np.mean(ours) - np.mean(theirs))] * 2
    return [float(low), float(high)]


@part("Method", lambda a: {"winner": Need(a.winner)})
def method(a: Ablation, found: Found) -> Section:
    """Return what another person needs to judge the rest, and every look at confirm items."""
    facts, tasks = dict(a.facts.run), a.world.tasks
    ids = {t.name: [i.id for i in a.world.pools.items("confirm", t)] for t in tasks}
    seen = _looks(a, ids)
    total = sum(r["answers"] for r in seen)
    facts["ablation"] = (
        f"margin ±{100 * a.margin:g} points, seed {a.seed}, up to "
        f"{a.effort.items or 'all'} items a task, temperature {a.temperature:g} where sampled"
    )
    facts["tokens"] = f"{health(found['winner'])['tokens']:.0f} an answer of the winner"
    made = section(
        f"Confirm items have been answered {total} times by {len(seen)} models in all, in this and "
        "every other run on this ledger. The more looks, the more of what is best on them is luck.",
    )
    made["tables"] = [
        box(facts),
        grid(columns("name:weights, about:merge, answers::count"), seen,
             "Every evaluation ever made on confirm items") | {"wide": True},
    ]  # fmt: skip
    return made


def _looks(a: Ablation, ids: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return for each model how many answers to confirm items the ledger holds."""
    ledger, counts = a.world.ledger, dict[str, int]()
    names = ledger.names()
    for task, wanted in ids.items():
        for cell in ledger.cells(task=task):
            held = len(wanted) - len(ledger.missing(cell, wanted))
            if held:
                counts[cell.fingerprint] = counts.get(cell.fingerprint, 0) + held
    return [
        {"name": mark[:12], "about": "; ".join(names.get(mark, ["–"])), "answers": n}
        for mark, n in sorted(counts.items(), key=lambda pair: -pair[1])
    ]
