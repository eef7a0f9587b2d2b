"""Evaluate a model on items, paying only for what the ledger does not hold.

Every group of answers is scored and committed as it is done, so a killed evaluation continues where
it stopped and a finished one is never paid twice. An answer whose score was made by other scoring
code (the digest of the task's verifier changed) is scored again from its text, without the model.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache

import evals.answers
from evals.generate import Answerer, Completion, Settings
from evals.ledger import Cell, Ledger, Row
from evals.task import Item, Task

Progress = Callable[[int, str], None]


def cell_of(
    answerer: Answerer, fingerprint: str, task: Task, settings: Settings | None = None
) -> Cell:
    """Return the ledger cell of a model under a task and settings."""
    key = answerer.key(settings or Settings(), task.max_new_tokens)
    return Cell(fingerprint, task.name, task.version, task.contract, key)


def evaluate(
    answerer: Answerer,
    fingerprint: str,
    task: Task,
    items: Sequence[Item],
    *,
    ledger: Ledger,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """Return the rows of these items, all samples of the first, then of the second, and so on.

    `fingerprint` names the weights that the answerer's model holds now; `progress` is called with
    the number of rows that became available and a short note. Raises `EvalError` where a prompt
    does not fit the model's context.
    """
    settings = settings or Settings()
    cell = cell_of(answerer, fingerprint, task, settings)
    by_id = {item.id: item for item in items}
    wanted = [(i.id, s) for i in items for s in range(settings.samples)]
    missing = ledger.missing(cell, list(by_id), settings.samples)
    if progress and len(wanted) > len(missing):
        progress(len(wanted) - len(missing), f"{task.name}: from the ledger")
    if missing:
        ledger.put_items(task.name, task.version, {i.id: _facts(i) for i in items})
        budget = answerer.budget(settings, task.max_new_tokens)
        prompts = {i: answerer.prompt(task, by_id[i]) for i in dict.fromkeys(i for i, _ in missing)}
        requests = [answerer.request(i, s, prompts[i], budget) for i, s in missing]
        for group in answerer.run(requests, settings):
            made = [_row(task, by_id[r.name], r.sample, said) for r, said in group]
            ledger.put(cell, made)
            if progress and made:
                progress(len(made), task.name)
    rows = rescore(task, items, cell, ledger)
    return [rows[key] for key in wanted]


def rescore(
    task: Task, items: Sequence[Item], cell: Cell, ledger: Ledger
) -> dict[tuple[str, int], Row]:
    """Return the rows of items by (item, sample), scored anew where the scoring code changed."""
    by_id, scorer = {item.id: item for item in items}, scorer_of(task)
    rows = ledger.rows(cell, by_id)
    stale = {
        key: scored(task, by_id[row.item], row) for key, row in rows.items() if row.scorer != scorer
    }
    ledger.rescore(cell, list(stale.values()))
    return rows | stale


def scored(task: Task, item: Item, row: Row) -> Row:
    """Return a row with the score that its text deserves."""
    score = task.check(row.text, item)
    return replace(row, scorer=scorer_of(task), **asdict(score))


def scorer_of(task: Task) -> str:
    """Return a digest of the scoring code: the verifier's file and the answer reader."""
    return _digest(task.grade)


@cache
def _digest(grade: Callable[..., object]) -> str:
    try:
        own = inspect.getsource(inspect.getmodule(grade) or grade)
    except (OSError, TypeError):  # made in a console: only its name can tell it from others
        own = f"{grade.__module__}.{grade.__qualname__}"
    text = f"{grade.__qualname__}\n{own}\n{inspect.getsource(evals.answers)}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _row(task: Task, item: Item, sample: int, said: Completion) -> Row:
    row = Row(item.id, sample, said.text, said.finish, said.n_tokens, False, False, 0.0)
    return scored(task, item, row)


def _facts(item: Item) -> dict[str, object]:
    return {"level": item.level, "split": item.split, "prompt": item.prompt, "answer": item.answer}
