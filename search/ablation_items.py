"""Sections on who stands where: scoreboard, items won and lost, method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from search.ablation import Ablation, Found, Need, Needs, part
from search.report import score_table
from search.scorers import Scorer
from search.tables import Section, box, columns, grid, section
from search.world import health, scores

SHOWN = 10  # items won, and as many lost, with their texts


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


@part("Method", lambda a: {"winner": Need(a.winner)})
def method(a: Ablation, found: Found) -> Section:
    """Return what another person needs to judge the rest, and every look at confirm items."""
    tasks, w = a.world.tasks, a.wanted
    seen = _looks(a, {t.name: [i.id for i in a.world.pools.items("confirm", t)] for t in tasks})
    facts = dict(a.facts.run) | {
        "ablation": f"margin ±{w.margin:g} points, seed {w.seed}, up to {a.effort.items or 'all'} "
        f"items a task, temperature {w.temperature:g} where sampled",
        "tokens": f"{health(found['winner'])['tokens']:.0f} an answer of the winner",
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
