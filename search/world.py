"""Where merges meet items: the live merge, the pools of items, the ledger between them.

A world answers one question, "what did this merge answer on the first n items of that pool?",
and pays only for what the ledger does not hold: weights are merged when an answer is missing, and
not before. The confirm pool is sealed: opening it before a winner is frozen is an error, so that
the order of the protocol is kept by construction and not by care.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import numpy as np
from torch import Tensor

from evals.drafts import Drafts
from evals.generate import Answerer, Settings
from evals.ledger import Cell, Ledger, Row
from evals.runner import Progress, cell_of, evaluate_all
from evals.summary import summarize
from evals.task import Item, Task, items
from merger.errors import SearchError
from search.objective import Scores
from search.racing import Order
from search.scorers import Scorer
from search.variant import Merge

Answers = dict[str, list[Row]]


class Merged(Protocol):
    """A live model that can take on the weights of any merge."""

    def apply(self, merge: Merge) -> str:
        """Put the merge's weights into the model and return their fingerprint."""

    def change(self, expert: str, name: str) -> Tensor:
        """Return what an expert changed in a tensor, float32."""


@dataclass
class Pools:
    """Items by pool and task; each pool is a split of its own, so no item is in two.

    `dealt` holds the items of tasks that are files, by task and pool.
    """

    sizes: Mapping[str, int]
    seeds: Mapping[str, int]
    levels: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dealt: Mapping[str, Mapping[str, Sequence[Item]]] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=lambda: {"confirm"})
    _drawn: dict[tuple[str, str], list[Item]] = field(default_factory=dict, repr=False)

    def items(self, pool: str, task: Task | Scorer) -> list[Item]:
        """Return the items of a task in a pool, levels taken in turn; SearchError if sealed."""
        if pool in self.sealed:
            raise SearchError(f"the {pool} items are sealed until a winner is frozen", "")
        if isinstance(task, Scorer) or task.name in self.dealt:
            return list(self.dealt[task.name][pool])
        key = (pool, task.name)
        if key not in self._drawn:
            n, seed = self.sizes[pool], self.seeds[pool]
            levels = self.levels.get(task.name) or None
            self._drawn[key] = items(task, n=n, split=pool, seed=seed, levels=levels)
        return self._drawn[key]


class Holder:
    """Knows which merge the live model holds, and the fingerprints met so far, by key."""

    def __init__(self, merged: Merged, known: MutableMapping[str, str] | None = None) -> None:
        self.merged = merged
        self.known = {} if known is None else known
        self._held = ""

    def fingerprint(self, merge: Merge) -> str:
        """Return the fingerprint of a merge's weights; they are merged if it is not known."""
        if merge.key not in self.known:
            self.hold(merge)
        return self.known[merge.key]

    def hold(self, merge: Merge) -> None:
        """Put the merge's weights into the model, unless they are there.

        Raises a SearchError for weights that are not what the same merge gave before.
        """
        if self._held == merge.key:
            return
        self._held = ""  # a merge that fails half-way leaves none behind
        mark = self.merged.apply(merge)
        if (before := self.known.setdefault(merge.key, mark)) != mark:
            law = f"{merge.describe()} has the weights {mark[:12]}, and had {before[:12]} before"
            remedy = "Remove fingerprints.json from the run: what has changed is then scored anew."
            raise SearchError(law, remedy)
        self._held = merge.key


@dataclass
class World:
    """Candidates scored on pools of items, through the ledger; `paid` counts answers generated."""

    holder: Holder
    answerer: Answerer
    tasks: Sequence[Task | Scorer]
    pools: Pools
    ledger: Ledger
    settings: Settings = field(default_factory=Settings)
    paid: int = field(default=0, init=False)

    def fingerprint(self, merge: Merge) -> str:
        """Return the fingerprint of a merge's weights."""
        return self.holder.fingerprint(merge)

    def answers(
        self,
        merge: Merge,
        pool: str,
        n: int | None = None,
        progress: Progress | None = None,
        orders: Mapping[str, Order] | None = None,
    ) -> Answers:
        """Return the merge's rows by task on the first n items of each task, in their order.

        `orders` asks for the items of a task in another order than they were drawn.
        """
        asked = []
        for task in self.tasks:
            drawn = self.pools.items(pool, task)
            wanted = [drawn[i] for i in orders[task.name].places] if orders else drawn
            asked.append((task, wanted[:n]))
        return self._rows(merge, asked, self.ledger, progress)

    def _rows(
        self,
        merge: Merge,
        asked: Sequence[tuple[Task | Scorer, Sequence[Item]]],
        ledger: Ledger,
        progress: Progress | None = None,
    ) -> Answers:
        """Return the rows of the items of each task; those of our own tasks are one batch."""
        table: Answers = {task.name: [] for task, _ in asked}
        own = [(task, wanted) for task, wanted in asked if not isinstance(task, Scorer)]
        if own:
            mark, how = self.fingerprint(merge), self.settings
            if missing := self._missing(mark, own, ledger):
                self.holder.hold(merge)
                self.paid += missing
            rows = evaluate_all(
                self.answerer, mark, own, ledger=ledger, settings=how, progress=progress
            )
            table |= {task.name: found for (task, _), found in zip(own, rows, strict=True)}
        for scorer, wanted in asked:
            if isinstance(scorer, Scorer):
                ids = [item.id for item in wanted]
                table[scorer.name] = scorer.rows(self, merge, ids, ledger, progress)
        return table

    @contextmanager
    def folder(self, merge: Merge) -> Iterator[Path]:
        """Put the merge's model into a folder of its own while the block lasts."""
        self.holder.hold(merge)
        with TemporaryDirectory(prefix="merger-") as place:
            self.answerer.model.save_pretrained(place)
            self.answerer.tokenizer.save_pretrained(place)
            yield Path(place)

    def missing(self, merge: Merge, pool: str, n: int | None = None) -> int:
        """Return how many answers to a pool's first n items nobody has paid for yet.

        Nothing is merged to find out: for a merge that was never made it is all of them.
        """
        asked = [(task, self.pools.items(pool, task)[:n]) for task in self.tasks]
        return self._missing(self.holder.known.get(merge.key, ""), asked, self.ledger)

    def _missing(
        self, mark: str, asked: Iterable[tuple[Task | Scorer, Sequence[Item]]], ledger: Ledger
    ) -> int:
        return sum(
            len(ledger.missing(cell, ids, self.settings.samples))
            for task, wanted in asked
            for cell, ids in self.cells(mark, task, [item.id for item in wanted])
        )

    def cells(
        self, mark: str, task: Task | Scorer, ids: Sequence[str]
    ) -> list[tuple[Cell, Sequence[str]]]:
        """Return where the ledger keeps a model's rows of these items, and their ids there."""
        if isinstance(task, Scorer):
            return task.cells(self.answerer, mark, ids)
        return [(cell_of(self.answerer, mark, task, self.settings), ids)]

    def again(self, merge: Merge, pool: str, n: int) -> tuple[int, int]:
        """Answer n items a task anew, in reverse order, and return (items, marks that differ).

        The A/A test: two evaluations of one model should agree; what differs is noise of the batch.
        The run's ledger and its first answers, as drafts, have no part in it.
        """
        first = scores(self.answers(merge, pool, n))
        asked = [(task, self.pools.items(pool, task)[:n][::-1]) for task in self.tasks]
        known = self.answerer
        self.answerer = copy(known)
        self.answerer.drafts = Drafts()
        try:
            second = scores(self._rows(merge, asked, Ledger(":memory:")))
        finally:
            self.answerer = known
        differ = sum(int((first[name] != marks[::-1]).sum()) for name, marks in second.items())
        return sum(map(len, second.values())), differ


def scores(answers: Answers) -> Scores:
    """Return the marks of each task in item order."""
    return {task: np.array([float(r.correct) for r in rows]) for task, rows in answers.items()}


def health(answers: Answers) -> dict[str, float | None]:
    """Return mean tokens, and the shares of answers cut off and of those without an answer."""
    told = summarize([row for of_task in answers.values() for row in of_task])
    return {"tokens": told.tokens, "truncated": told.truncated, "no_answer": told.no_answer}
