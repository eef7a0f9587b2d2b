"""Scorers that are no tasks of ours: tasks of lm-eval on the live model, or a command on a folder.

Both know their items by id alone and keep their rows in the same ledger, so racing, sealed confirm
items and resuming work as for our own tasks. A command gets a folder with the merged model, made
for it and removed after; that is the only case in which a trial writes a model to the disk. Where
the command has `{items}`, it is asked for the items of one look at a time; else for all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evals.command import command_cell, score_by_command
from evals.harness import evaluate_lm_eval
from evals.ledger import Cell, Ledger, Row
from evals.runner import Progress
from evals.task import Item

if TYPE_CHECKING:
    from search.variant import Merge
    from search.world import World


@dataclass(frozen=True)
class Scorer:
    """A scorer by name; `rows` scores the model that a world holds."""

    name: str
    include_path: str | None = None

    @property
    def alias(self) -> str:
        """A short name for tables."""
        return self.name.removeprefix("lm_eval:")

    def items(self, ids: Sequence[str]) -> tuple[Item, ...]:
        """Return items that are addresses alone."""
        return tuple(
            Item(
                i, self.name, "", 0, "", prompt="", answer="", canonical=i, data={}, certificate={}
            )
            for i in ids
        )

    def rows(
        self,
        world: World,
        merge: Merge,
        ids: Sequence[str],
        ledger: Ledger,
        progress: Progress | None = None,
    ) -> list[Row]:
        """Return the rows of these documents of an lm-eval task."""
        world.holder.hold(merge)
        mark, name = world.fingerprint(merge), self.name.removeprefix("lm_eval:")
        rows = evaluate_lm_eval(
            world.answerer, mark, name, ledger=ledger, only=set(ids),
            include_path=self.include_path, progress=progress,
        )  # fmt: skip
        by_item = {row.item: row for row in rows}
        return [by_item[i] for i in ids]

    def cell(self, mark: str) -> Cell:
        """Return a ledger cell for counting; what it holds of lm-eval is not known beforehand."""
        return Cell(mark, self.name, "", "", "")


@dataclass(frozen=True)
class Command(Scorer):
    """A command of the user's, called with the folder of a merged model."""

    command: str = ""

    def cell(self, mark: str) -> Cell:
        """Return the ledger cell of the command's rows."""
        return command_cell(self.command, mark, self.name)

    def rows(
        self,
        world: World,
        merge: Merge,
        ids: Sequence[str],
        ledger: Ledger,
        progress: Progress | None = None,
    ) -> list[Row]:
        """Return the rows of these items; the command runs for those the ledger lacks."""
        cell = self.cell(world.fingerprint(merge))
        missing = [item for item, _ in ledger.missing(cell, ids)]
        if missing:
            world.paid += len(missing)
            with world.folder(merge) as path:
                ledger.put(cell, score_by_command(self.command, path, items=missing))
        rows = ledger.rows(cell, ids)
        if progress:
            progress(len(ids), self.name)
        return [replace(rows[i, 0], item=i) for i in ids]
