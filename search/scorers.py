"""What a search scores on: our tasks, files of questions, tasks of lm-eval, a user's command.

A task of ours draws as many items of a pool as are asked for. What holds what it holds is dealt out
to the pools: ordered by a hash of the question (not by the file, whose order may mean something),
the first to `search`, the next to `select`, the next to `confirm`. Tasks of lm-eval and commands
know their items by id alone and keep their rows in the same ledger, so racing, sealed confirm items
and resuming work as for our own tasks. A command gets a folder with the merged model, made for it
and removed after; that is the only case in which a trial writes a model to the disk. Where the
command has `{items}`, it is asked for the items of one look at a time; else for all at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from evals.command import command_cell, score_by_command
from evals.generate import Answerer
from evals.harness import cells_of, documents, evaluate_lm_eval, own_task
from evals.ledger import Cell, Ledger, Row
from evals.own import read_items
from evals.runner import Progress
from evals.task import Item, Task, get_task
from merger.errors import UsageError

if TYPE_CHECKING:
    from search.variant import Merge
    from search.world import World

LM_EVAL = "lm_eval:"
# Names by which files of well-known benchmarks go.
BENCHMARKS = re.compile(
    "gsm8k|math500|aime|amc23|mmlu|humaneval|mbpp|livecodebench|gpqa|arcchallenge|hellaswag|ifeval|"
    "olympiad|minerva|truthfulqa|winogrande|bbh"
)


@dataclass(frozen=True)
class Scorer:
    """A scorer that is no task of ours: a user's `command`, or else an lm-eval task by its name."""

    name: str
    include_path: str | None = None
    command: str = ""

    @property
    def alias(self) -> str:
        """A short name for tables."""
        return self.name.removeprefix(LM_EVAL)

    def items(self, ids: Sequence[str]) -> tuple[Item, ...]:
        """Return items that are addresses alone."""
        place: dict[str, Any] = {"task": self.name, "version": "", "level": 0, "split": ""}
        return tuple(Item("", "", i, {}, id=i, **place) for i in ids)

    def cells(
        self, answerer: Answerer, mark: str, ids: Sequence[str]
    ) -> list[tuple[Cell, Sequence[str]]]:
        """Return where the ledger keeps a model's rows of these items, and their ids there."""
        if self.command:
            return [(command_cell(self.command, mark, self.name), ids)]
        found = cells_of(answerer, mark, self.alias, self.include_path)
        return [
            (cell, [i.removeprefix(head) for i in ids if i.startswith(head)])
            for head, cell in found.items()
        ]

    def rows(
        self,
        world: World,
        merge: Merge,
        ids: Sequence[str],
        ledger: Ledger,
        progress: Progress | None = None,
    ) -> list[Row]:
        """Return the rows of these items; what the ledger lacks is scored."""
        mark, pools = world.fingerprint(merge), world.pools.dealt[self.name]
        splits = {item.id: pool for pool, dealt in pools.items() for item in dealt}

        def pay(n: int) -> None:
            world.holder.hold(merge)
            world.paid += n

        if not self.command:
            rows = evaluate_lm_eval(
                world.answerer,
                mark,
                self.alias,
                ledger=ledger,
                only={i: splits[i] for i in ids},
                include_path=self.include_path,
                progress=progress,
                pay=pay,
            )
            by_item = {row.item: row for row in rows}
            return [by_item[i] for i in ids]
        cell = command_cell(self.command, mark, self.name)
        if missing := [item for item, _ in ledger.missing(cell, ids)]:
            world.paid += len(missing)
            ledger.put_items(cell.task, cell.version, {i: {"split": splits[i]} for i in missing})
            with world.folder(merge) as path:
                ledger.put(cell, score_by_command(self.command, path, items=missing))
        if progress:
            progress(len(ids), self.name)
        kept = ledger.rows(cell, ids)
        return [kept[i, 0] for i in ids]


class Opened(NamedTuple):
    """What is scored on, and its items where they are given and not drawn."""

    task: Task | Scorer
    items: tuple[Item, ...] = ()


def open_task(name: str, check: str = "exact", include_path: str | None = None) -> Opened:
    """Return a task by name or alias, a .jsonl file graded by `check`, or lm_eval:NAME."""
    if name.startswith(LM_EVAL):
        scorer = Scorer(name, include_path)
        return Opened(scorer, scorer.items(documents(scorer.alias, include_path)))
    if not name.endswith(".jsonl"):
        return Opened(get_task(name))
    task, items = read_items(Path(name), check)
    return Opened(task, tuple(items))


def refuse_benchmark(name: str, include_path: str | None) -> None:
    """Refuse a public benchmark as an objective: what is searched on can measure nothing after."""
    inside = name.removeprefix(LM_EVAL)
    public = name.startswith(LM_EVAL) and not own_task(inside, include_path)
    stem = re.sub(r"[^a-z0-9]", "", Path(name).stem.lower()) if name.endswith(".jsonl") else ""
    if public or BENCHMARKS.search(stem):
        law = f"{inside} is a public benchmark, and a search would fit the merge to it"
        remedy = "Keep it for --guard or merger eval, or search on it with --allow-benchmark."
        raise UsageError(law, remedy)


def deal(items: Sequence[Item], sizes: Mapping[str, int], name: str) -> dict[str, list[Item]]:
    """Deal the items of a file out to pools of these sizes; UsageError if there are too few."""
    wanted = sum(sizes.values())
    if len(items) < wanted:
        told = " + ".join(str(n) for n in sizes.values())
        law = f"{name} holds {len(items)} items, and {told} = {wanted} are asked for"
        raise UsageError(law, "Ask for fewer: --items search+select+confirm.")
    order = iter(sorted(items, key=lambda item: sha256(item.canonical.encode()).digest()))
    return {pool: [replace(i, split=pool) for i in islice(order, n)] for pool, n in sizes.items()}
