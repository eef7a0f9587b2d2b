"""What a search scores on: tasks of ours by name, or a user's own files of questions.

A task of ours draws as many items of a pool as are asked for; a file holds what it holds, so its
items are dealt out to the pools: ordered by a hash of the question (not by the file, whose order
may mean something), the first to `search`, the next to `select`, the next to `confirm`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from evals.own import read_items
from evals.task import Item, Task, get_task
from merger.errors import UsageError


class Opened(NamedTuple):
    """A task, and the items of its file if it is one."""

    task: Task
    items: tuple[Item, ...] = ()


def open_task(name: str, check: str) -> Opened:
    """Return a task by name or alias, or read a .jsonl file; `check` says how files are graded."""
    if not name.endswith(".jsonl"):
        return Opened(get_task(name))
    task, items = read_items(Path(name), check)
    return Opened(task, tuple(items))


def deal(items: Sequence[Item], sizes: Mapping[str, int], name: str) -> dict[str, list[Item]]:
    """Deal the items of a file out to pools of these sizes; UsageError if there are too few."""
    wanted = sum(sizes.values())
    if len(items) < wanted:
        told = " + ".join(str(n) for n in sizes.values())
        raise UsageError(
            f"{name} holds {len(items)} items, and {told} = {wanted} are asked for",
            "Ask for fewer: --items search+select+confirm.",
        )
    order = sorted(items, key=lambda item: sha256(item.canonical.encode()).digest())
    pools, start = {}, 0
    for pool, n in sizes.items():
        pools[pool] = [replace(item, split=pool) for item in order[start : start + n]]
        start += n
    return pools
