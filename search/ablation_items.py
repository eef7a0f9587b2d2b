"""Sections on who stands where: scoreboard, items, robustness, later training, method.

The scoreboard holds the simple recipes beside the winner, for a search owes its gain over these.
Robustness asks the same question with other items, template, temperature and seed. In later
training the seeds of one start are its clusters, and Welch's interval is over them.
"""

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from evals.stats import mcnemar_exact
from merger.errors import SearchError
from search.ablation import Ablation, Absent, Need, Steps, part
from search.effects import EFFECT, Rows, blind, by_sample, holmed, interval
from search.objective import Scores
from search.report import score_table
from search.scorers import Scorer
from search.tables import box, figure, grid, section
from search.world import Answers, health, scores

SHOWN = 10  # items won, and as many lost, with their texts
SHARES = (0.25, 0.5, 0.75, 1.0)  # of a training's length at which curves are compared


@part("Scores on confirm items")
def scoreboard(a: Ablation) -> Steps:
    """Return the winner beside the base, every expert and the simple recipes, and Δ to each."""
    found = yield {name: Need(merge) for name, merge in a.contenders().items()}
    about = {name: merge.describe() for name, merge in a.contenders().items()}
    marks = {name: scores(rows) for name, rows in found.items()}
    whole = marks.pop("winner")
    pairs = {name: (whole, theirs) for name, theirs in marks.items()}
    note = f"Winner: {about['winner']}. cut: answers that ran out of tokens. A/A: "
    note += f"{a.facts.run.get('A/A', 'not measured')}."
    made = a.compared("scoreboard", title := "The winner minus each", pairs, note)
    board = score_table(found, about, a.objective, a.world.tasks, a.wanted.seed)
    made["tables"] = [board, *(table | {"title": title} for table in made["tables"])]
    yield made


@part("Items won and lost against the best single expert")
def items(a: Ablation) -> Steps:
    """Return how many items the merge wins and loses, and some of them with all texts."""
    alone = a.alone("search ", pool="search") | a.alone("expert ")
    found = yield alone | {"winner": Need(a.winner)}
    best, rows, shown = f"expert {a.best}", list[dict[str, Any]](), list[dict[str, Any]]()
    flips: dict[str, list[list[dict[str, Any]]]] = {"won": [], "lost": []}  # by task
    for task in a.world.tasks:
        facts = {} if isinstance(task, Scorer) else a.world.ledger.items(task.name, task.version)
        pairs = list(zip(found["winner"][task.name], found[best][task.name], strict=True))
        for side, sign in (("won", 1), ("lost", -1)):
            of_task = [
                {"task": task.name, "side": side, "item": ours.item}
                | {key: facts.get(ours.item, {}).get(key, "") for key in ("prompt", "answer")}
                | {"texts": {"winner": ours.text, best: theirs.text}}
                for ours, theirs in pairs
                if sign * ours.correct > sign * theirs.correct
            ]
            flips[side].append(of_task)
        counts = {side: len(of_task[-1]) for side, of_task in flips.items()}
        p = mcnemar_exact(*counts.values())
        rows.append({"name": task.name, "n": len(pairs), "p": p, **counts})
    for by_task in flips.values():
        shown += [item for turn in zip_longest(*by_task) for item in turn if item][:SHOWN]
    told = "name:task, n::count, won::count, lost::count, p::p, p_holm:p Holm:p"
    yield section(
        f"Against {a.best}, the best expert on search items. The texts of up to {SHOWN} items won "
        f"and {SHOWN} lost, tasks in turn, are in report.html and .json.",
        tables=[grid(told, holmed(rows))],
        items=shown,
    )


@part("Robustness: other items, another template, sampling, another seed")
def robustness(a: Ablation) -> Steps:
    """Ask whether ranking and signs hold when items, template, temperature or seed are others."""
    from scipy.stats import kendalltau

    a.ask_drawn()
    settings = {} if a.world.pools.dealt else {"fresh": "new items"}  # by world: what is varied
    settings["template"] = "another template"
    for seed in range(a.effort.seeds):
        settings[f"warm-{seed}"] = f"temperature {a.wanted.temperature:g}, seed {seed}"
    first, *others = contenders = a.contenders()
    worlds = ("greedy", *settings)
    found = yield {(w, n): Need(m, world=w) for w in worlds for n, m in contenders.items()}
    marks = {at: _means(answers) for at, answers in found.items()}
    worth = {w: np.array([a.objective.of(marks[w, n]) for n in contenders]) for w in worlds}
    ranks: Rows = []
    for world, words in settings.items():
        row = {"name": words, "score": float(worth[world][0]), "held": "–"}
        row["ci95"] = interval(marks[world, first], a.objective, a.wanted.seed)
        if worth[world].any():
            row["tau"], row["p"] = map(float, kendalltau(worth["greedy"], worth[world]))
            signs, again = (np.sign(worth[w][0] - worth[w][1:]) for w in ("greedy", world))
            row["held"] = f"{int((signs == again).sum())} of {len(others)}"
        ranks.append(row)
    told = [world for world in settings if worth[world].any()]
    rows = a.effects({f"{w} {n}": (marks[w, first], marks[w, n]) for w in told for n in others})
    ranking = "name:asked with, score:winner:points, ci95:95 %:interval, tau:Kendall τ:number, "
    tables = [grid(f"{ranking}p::p, held:signs hold", ranks)]
    for i, world in enumerate(told):
        own = [r | {"name": n} for r, n in zip(rows[i * len(others) :], others, strict=False)]
        tables.append(grid(EFFECT, own, f"The winner minus each: {settings[world]}"))
    blank = [words for world, words in settings.items() if world not in told]
    yield section(
        "Δ: the winner minus each, asked again. Kendall's τ of the ranking with that on confirm "
        "items, and signs of the winner's Δ that are the same. Another template: the system prompt "
        "stands in the question, and there is one turn.",
        f"No merge solves an item with {', '.join(blank)}: nothing is compared." if blank else "",
        blind(rows, a.margin),
        tables=tables,
    )


def _means(answers: Answers) -> Scores:
    """Return the mean over samples of each item."""
    return {task: table.mean(axis=1) for task, table in by_sample(answers).items()}


@part("Training that starts from the merge")
def domain(a: Ablation) -> Steps:
    """Compare learning curves at equal steps; the seeds of one start are its clusters."""
    yield {}
    if len(a.facts.logs) < 2:
        raise Absent("No learning curves: --log NAME=curve.jsonl for two starts or more.")
    logs = a.facts.logs
    steps = min(len(run) for runs in logs.values() for run in runs)
    first, *others = logs
    rows: Rows = []
    for name in others:
        for end in (max(1, round(share * steps)) for share in SHARES):
            ours, theirs = (
                [_mean(run, end, max(1, steps // 10)) for run in logs[start]]
                for start in (first, name)
            )
            row = {"name": f"{first} − {name}", "step": end, "seeds": f"{len(ours)}/{len(theirs)}"}
            one, other = float(np.mean(ours)), float(np.mean(theirs))
            row |= {"ours": one, "theirs": other, "difference": one - other}
            rows.append(row | {"ci95": _clusters(ours, theirs)})
    lines = []
    for name, runs in logs.items():
        for i, run in enumerate(runs):
            smooth = [_mean(run, j, steps // 20 + 1) for j in range(1, len(run) + 1)]
            points = [{"x": j, "y": y} for j, y in enumerate(smooth, 1)]
            lines.append({"label": f"{name} {i + 1}" if len(runs) > 1 else name, "points": points})
    single = any(len(runs) == 1 for runs in logs.values())
    shown = "name:starts, step::count, ours:first:points, theirs:other:points, difference:Δ:signed"
    title = "Right answers in training"
    yield section(
        f"Share of right answers in training, means of a tenth of the {steps} steps before the "
        "step named; intervals over seeds (Welch).",
        "One seed: no claim about the variance of training is made." if single else "",
        tables=[grid(f"{shown}, ci95:95 %:between, seeds", rows)],
        figures=[figure("curves", "domain", title, x="step", unit="points", lines=lines)],
    )


def _mean(run: Sequence[float], end: int, width: int) -> float:
    """Return the mean of so many steps before one."""
    return float(np.mean(run[max(0, end - width) : end]))


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


@part("Method")
def method(a: Ablation) -> Steps:
    """Return what another person needs to judge the rest, and every look at confirm items."""
    found = yield {"winner": Need(a.winner)}
    seen, w = _looks(a), a.wanted
    tokens = health(found["winner"])["tokens"]
    facts = dict(a.facts.run) | {
        "ablation": f"margin ±{w.margin:g} points, seed {w.seed}, up to {a.effort.items or 'all'} "
        f"items a task, temperature {w.temperature:g} where sampled",
        "tokens": "not told" if tokens is None else f"{tokens:.0f} an answer of the winner",
    }
    title = "Every evaluation ever made on confirm items"
    looks = grid("name:weights, about:merge, answers::count", seen, title) | {"wide": True}
    yield section(
        f"Confirm items have been answered {sum(r['answers'] for r in seen)} times by {len(seen)} "
        "models in all, in this and every other run on this ledger. The more looks, the more of "
        "what is best on them is luck.",
        tables=[box(facts), looks],
    )


def _looks(a: Ablation) -> list[dict[str, Any]]:
    """Return for each model how many answers to confirm items the ledger holds."""
    ledger, counts = a.world.ledger, dict[str, int]()
    names = ledger.names()
    for task in a.world.tasks:
        asked = [item.id for item in a.world.pools.items("confirm", task)]
        for place, ids in a.world.cells("", task, asked):
            for cell in ledger.cells(task=place.task):
                if held := len(ids) - len(ledger.missing(cell, ids)):
                    counts[cell.fingerprint] = counts.get(cell.fingerprint, 0) + held
    return [
        {"name": mark[:12], "about": "; ".join(names.get(mark, ["–"])), "answers": n}
        for mark, n in sorted(counts.items(), key=lambda pair: -pair[1])
    ]
