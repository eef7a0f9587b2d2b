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
from search.effects import EFFECT, Rows, blind, by_sample, value
from search.objective import Scores
from search.report import score_table
from search.scorers import Scorer
from search.tables import Section, box, columns, grid, section
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
    board = score_table(found, about, a.objective, a.world.tasks, a.wanted.seed)
    return made | {"tables": [board, made["tables"][0] | {"title": title}]}


def _plan_items(a: Ablation) -> Needs:
    alone = a.alone("search ", pool="search") | a.alone("expert ")
    return alone | {"winner": Need(a.winner)}


@part("Items won and lost against the best single expert", _plan_items)
def items(a: Ablation, found: Found) -> Section:
    """Return how many items the merge wins and loses, and some of them with all texts."""
    best, sides, rows = f"expert {a.best}", dict[tuple[str, str], list[dict[str, Any]]](), []
    for task in a.world.tasks:
        facts = {} if isinstance(task, Scorer) else a.world.ledger.items(task.name, task.version)
        pairs = list(zip(found["winner"][task.name], found[best][task.name], strict=True))
        for side, sign in (("won", 1), ("lost", -1)):
            sides[side, task.name] = [
                {"task": task.name, "side": side, "item": ours.item}
                | {key: facts.get(ours.item, {}).get(key, "") for key in ("prompt", "answer")}
                | {"texts": {"winner": ours.text, best: theirs.text}}
                for ours, theirs in pairs
                if sign * ours.correct > sign * theirs.correct
            ]
        counts = {side: len(sides[side, task.name]) for side in ("won", "lost")}
        rows.append({"name": task.name, "n": len(pairs), **counts})
    shown = []
    for side in ("won", "lost"):
        turns = zip_longest(*(sides[side, task.name] for task in a.world.tasks))
        shown += [item for turn in turns for item in turn if item][:SHOWN]
    made = section(
        f"Against {a.best}, the best expert on search items. The texts of up to {SHOWN} items won "
        f"and {SHOWN} lost, tasks in turn, are in report.html and .json.",
        items=shown,
    )
    made["tables"] = [grid(columns("name:task, n::count, won::count, lost::count"), rows)]
    return made


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
    blank = [words for world, words in settings.items() if not worth[world].any()]
    rows = a.effects(pairs)
    made = section(
        "Δ: the winner minus each, asked again. Kendall's τ of the ranking with that on confirm "
        "items, and signs of the winner's Δ that are the same. Another template: the system prompt "
        "stands in the question, and there is one turn.",
        f"No merge solves an item with {', '.join(blank)}: nothing is compared." if blank else "",
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
            rows.append(
                {
                    "name": f"{first} − {name}",
                    "step": end,
                    "ours": one,
                    "theirs": other,
                    "difference": one - other,
                    "ci95": _clusters(ours, theirs),
                    "seeds": f"{len(ours)}/{len(theirs)}",
                }
            )
    single = any(len(runs) == 1 for runs in logs.values())
    made = section(
        f"Share of right answers in training, means of a tenth of the {steps} steps before the "
        "step named; intervals over seeds (Welch).",
        "One seed: no claim about the variance of training is made." if single else "",
    )
    shown = "name:starts, step::count, ours:first:points, theirs:other:points, difference:Δ:signed"
    made["tables"] = [grid(columns(f"{shown}, ci95:95 %:between, seeds"), rows)]
    lines = [
        {
            "label": f"{name} {i + 1}" if len(runs) > 1 else name,
            "points": [
                {"x": j + 1, "y": float(np.mean(run[max(0, j - steps // 20) : j + 1]))}
                for j in range(len(run))
            ],
        }
        for name, runs in logs.items()
        for i, run in enumerate(runs)
    ]
    made["figures"] = [
        {
            "kind": "curves",
            "name": "domain",
            "title": "Right answers in training",
            "x": "step",
            "unit": "points",
            "lines": lines,
        }
    ]
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


@part("Method", lambda a: {"winner": Need(a.winner)})
def method(a: Ablation, found: Found) -> Section:
    """Return what another person needs to judge the rest, and every look at confirm items."""
    tasks, w = a.world.tasks, a.wanted
    seen = _looks(a, {t.name: [i.id for i in a.world.pools.items("confirm", t)] for t in tasks})
    tokens = health(found["winner"])["tokens"]
    facts = dict(a.facts.run) | {
        "ablation": f"margin ±{w.margin:g} points, seed {w.seed}, up to {a.effort.items or 'all'} "
        f"items a task, temperature {w.temperature:g} where sampled",
        "tokens": "not told" if tokens is None else f"{tokens:.0f} an answer of the winner",
    }
    made = section(
        f"Confirm items have been answered {sum(r['answers'] for r in seen)} times by {len(seen)} "
        "models in all, in this and every other run on this ledger. The more looks, the more of "
        "what is best on them is luck.",
    )
    looks = "Every evaluation ever made on confirm items"
    shown = columns("name:weights, about:merge, answers::count")
    made["tables"] = [box(facts), grid(shown, seen, looks) | {"wide": True}]
    return made


def _looks(a: Ablation, ids: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Return for each model how many answers to confirm items the ledger holds."""
    ledger, counts = a.world.ledger, dict[str, int]()
    names = ledger.names()
    for task, wanted in ids.items():
        for cell in ledger.cells(task=task):
            if held := len(wanted) - len(ledger.missing(cell, wanted)):
                counts[cell.fingerprint] = counts.get(cell.fingerprint, 0) + held
    return [
        {"name": mark[:12], "about": "; ".join(names.get(mark, ["–"])), "answers": n}
        for mark, n in sorted(counts.items(), key=lambda pair: -pair[1])
    ]
