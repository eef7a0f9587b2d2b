"""What two sides of a comparison said: models of a ledger, winners of runs, lm-eval sample files.

Rows are paired under one *key* (task, version, prompt contract, generation settings), so that a
greedy answer never meets a sampled one. Where the two have a task but no key in common, all their
rows of it are paired and that is said.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from evals.ledger import Cell, Ledger, Row
from evals.own import FILES
from evals.samples import read_samples
from merger.errors import EvalError
from merger.registry import unknown

Key = tuple[str, ...]
Asked = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Side:
    """Rows by key, and what is kept of a key's items (prompt, answer) by item."""

    name: str
    rows: Mapping[Key, list[Row]]
    asked: Callable[[Key], Asked]

    def of(self, task: str) -> list[Row]:
        """Return all rows of a task."""
        return [row for key, rows in self.rows.items() if key[0] == task for row in rows]


class Match(NamedTuple):
    """Rows of both sides on the items that both have, with what was asked."""

    task: str
    a: list[Row]
    b: list[Row]
    asked: Callable[[], Asked]


def read_side(name: str, store: str) -> Side:
    """Read a sample file, a run folder (its winner on confirm items) or a model of a ledger."""
    path = Path(name)
    if path.suffix in FILES:
        task, rows, asked = read_samples(path)
        return Side(name, {(task,): rows}, lambda key: asked)
    if (path / "ledger.sqlite").is_file():
        return _winner(path)
    if "://" not in store and not Path(store).is_file():
        raise EvalError(f"there is no ledger at {store}", f"Run `merger eval {name} …` first.")
    return _of_ledger(name, store)


def _winner(run: Path) -> Side:
    """Return a run's winner: search and select items chose it, so they would flatter it."""
    confirm = run / "confirm.json"
    if not confirm.is_file():
        raise EvalError(f"{run} has no winner yet: no confirm.json", "Finish it: --resume.")
    try:
        winner = json.loads(confirm.read_text())["winner"]
    except (ValueError, KeyError, TypeError) as error:
        raise EvalError(f"{confirm} names no winner: {error!r}", "Restore it.") from error
    fingerprint = winner["fingerprint"] if isinstance(winner, dict) else winner
    side = _of_ledger(fingerprint, str(run / "ledger.sqlite"))
    held: dict[Key, list[Row]] = {}
    for key, rows in side.rows.items():
        asked = side.asked(key)
        kept = [r for r in rows if asked.get(r.item, {}).get("split") == "confirm"]
        held |= {key: kept} if kept else {}
    return Side(str(run), held, side.asked)


def _of_ledger(name: str, store: str) -> Side:
    """Return the model of this name or fingerprint (or a beginning of it)."""
    ledger = Ledger(store)
    names, cells = ledger.names(), ledger.cells()
    chosen = {
        c.fingerprint
        for c in cells
        if name in names.get(c.fingerprint, ())
        or (len(name) >= 6 and c.fingerprint.startswith(name))
    }
    if len(chosen) > 1:
        law = f"{name!r} names {len(chosen)} different models in {store}"
        raise EvalError(law, f"Name a fingerprint: {', '.join(sorted(f[:12] for f in chosen))}.")
    if not chosen:
        known = {n for c in cells for n in names.get(c.fingerprint, [c.fingerprint[:12]])}
        raise unknown(f"model in {store}", name, known)
    own = [cell for cell in cells if cell.fingerprint in chosen]
    rows = {_key(cell): list(ledger.rows(cell).values()) for cell in own}
    return Side(name, rows, lambda key: ledger.items(key[0], key[1]))


def _key(cell: Cell) -> Key:
    return astuple(cell)[1:]


def match(a: Side, b: Side) -> tuple[list[Match], list[str]]:
    """Pair two sides, task by task, with notes on what could not be paired as it should."""
    found: list[Match] = []
    notes = ["both are the same weights: each answer meets itself"] if a.rows == b.rows else []
    tasks = [t for t in dict.fromkeys(key[0] for key in a.rows) if t in {key[0] for key in b.rows}]
    if not tasks:
        there = [", ".join(sorted({key[0] for key in side.rows})) or "nothing" for side in (a, b)]
        law = f"{a.name} was scored on {there[0]}, {b.name} on {there[1]}: no task in common"
        raise EvalError(law, "Evaluate both on the same tasks with `merger eval`.")
    for task in tasks:
        keys = [key for key in a.rows if key[0] == task]
        pairs = [(key, a.rows[key], b.rows[key]) for key in keys if key in b.rows]
        if not pairs:
            pairs = [(keys[0], a.of(task), b.of(task))]
            notes.append(f"{task}: the two were asked with other prompts, budgets or settings")
        if len(pairs) > 1:
            notes.append(f"{task}: {len(pairs)} prompts, budgets or settings, each named by a hash")
        for key, *sides in pairs:
            label = task if len(pairs) == 1 else f"{task} {key[-1][:6]}"
            common = set.intersection(*({row.item for row in rows} for rows in sides))
            if common:
                ours, theirs = ([row for row in rows if row.item in common] for rows in sides)
                found.append(Match(label, ours, theirs, partial(a.asked, key)))
            else:
                notes.append(f"{label}: left out, the two share no items")
    if not found:
        law = f"{a.name} and {b.name} share no items of {', '.join(tasks)}"
        raise EvalError(law, "Evaluate both with the same split, levels and seed.")
    return found, notes
