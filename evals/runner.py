"""Evaluate a model on items, paying only for what the ledger does not hold.

Every group of answers is scored and committed as it is done, so a killed evaluation continues where
it stopped and a finished one is never paid twice. An answer whose score was made by other scoring
code (the digest of the task's verifier changed) is scored again from its text, without the model.
"""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import evals.answers
from evals.generate import Answerer, Completion, Request, Settings
from evals.ledger import Cell, Ledger, Row
from evals.task import Item, Task

Progress = Callable[[int, str], None]


def cell_of(
    answerer: Answerer, fingerprint: str, task: Task, settings: Settings | None = None
) -> Cell:
    """Return the ledger cell of a model under a task and settings."""
    key = answerer.voice.key(settings or Settings(), task.max_new_tokens)
    return Cell(fingerprint, task.name, task.version, task.contract, key)


def evaluate_all(
    answerer: Answerer,
    fingerprint: str,
    asked: Sequence[tuple[Task, Sequence[Item]]],
    *,
    ledger: Ledger,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> list[list[Row]]:
    """Return the rows of the items of each task: all samples of the first item, then of the second.

    All tasks are answered in one batch. `fingerprint` names the weights that the answerer's model
    holds now; `progress` is called with the number of rows that became available and a short note.
    Raises `EvalError` where a prompt does not fit the model's context.
    """
    how = settings or Settings()
    parts = [
        _Part(place, task, items, cell_of(answerer, fingerprint, task, how), ledger, progress)
        for place, (task, items) in enumerate(asked)
    ]
    requests = [request for part in parts for request in part.missing(answerer, how)]
    for group in answerer.run(requests, how) if requests else ():
        for part in parts:
            part.keep([(r, said) for r, said in group if r.asker == part.place])
    return [part.rows(how.samples) for part in parts]


@dataclass(frozen=True)
class _Part:
    """One task's items within an evaluation."""

    place: int
    task: Task
    items: Sequence[Item]
    cell: Cell
    ledger: Ledger
    progress: Progress | None

    def missing(self, answerer: Answerer, settings: Settings) -> list[Request]:
        """Return a request for each row that the ledger lacks; tell of those it has."""
        task, by_id = self.task, self._by_id
        missing = self.ledger.missing(self.cell, list(by_id), settings.samples)
        self._tell(len(self.items) * settings.samples - len(missing), ": from the ledger")
        if missing:
            shown = ("level", "split", "prompt", "answer")
            facts = {i.id: {name: getattr(i, name) for name in shown} for i in self.items}
            self.ledger.put_items(task.name, task.version, facts)
        budget = answerer.voice.budget(settings, task.max_new_tokens)
        asked = dict.fromkeys(item for item, _ in missing)
        tokens = {i: answerer.encode(answerer.prompt(task, by_id[i])) for i in asked}
        return [
            answerer.fit(Request(i, s, tokens[i], budget, asker=self.place)) for i, s in missing
        ]

    def keep(self, answers: Sequence[tuple[Request, Completion]]) -> None:
        """Score answers and commit them."""
        if answers:
            rows = (
                Row(r.name, r.sample, said.text, said.finish, said.n_tokens, False, False, 0.0)
                for r, said in answers
            )
            self.ledger.put(self.cell, list(map(self._scored, rows)))
            self._tell(len(answers))

    def rows(self, samples: int) -> list[Row]:
        """Return the rows of all items, in their order, scored anew where the code changed."""
        rows, scorer = self.ledger.rows(self.cell, self._by_id), scorer_of(self.task)
        stale = {key: self._scored(row) for key, row in rows.items() if row.scorer != scorer}
        self.ledger.rescore(self.cell, list(stale.values()))
        rows |= stale
        return [rows[item.id, sample] for item in self.items for sample in range(samples)]

    def _scored(self, row: Row) -> Row:
        """Return a row with the score that its text deserves."""
        score = vars(self.task.check(row.text, self._by_id[row.item]))
        return replace(
            row, scorer=scorer_of(self.task), **score | {"correct": float(score["correct"])}
        )

    def _tell(self, rows: int, note: str = "") -> None:
        if self.progress and rows:
            self.progress(rows, self.task.name + note)

    @cached_property
    def _by_id(self) -> dict[str, Item]:
        return {item.id: item for item in self.items}


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
