"""What a search scores on: tasks of ours by name, or a user's own files of questions.

A task of ours draws as many items of a pool as are asked for; a file holds what it holds, so its
items are dealt out to the pools: ordered by a hash of the question (not by the file, whose order
may mean something), the first to `search`, the next to `select`, the next to `confirm`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from evals.harness import documents, own_task
from evals.own import read_items
from evals.task import Item, Task, get_task
from merger.errors import UsageError
from search.scorers import Scorer

LM_EVAL = "lm_eval:"
# Names by which files of well-known benchmarks go.
BENCHMARKS = (
    "gsm8k", "math500", "aime", "amc23", "mmlu", "humaneval", "mbpp", "livecodebench", "gpqa",
    "arcchallenge", "hellaswag", "ifeval", "olympiad", "minerva", "truthfulqa", "winogrande", "bbh",
)  # fmt: skip


class Opened(NamedTuple):
    """What is scored on, and its items where they are given and not drawn."""

    task: Task | Scorer
    items: tuple[Item, ...] = ()


def open_task(name: str, check: str = "exact", include_path: str | None = None) -> Opened:
    """Return a task by name or alias, a .jsonl file graded by `check`, or lm_eval:NAME."""
    if name.startswith(LM_EVAL):
        scorer = Scorer(name, include_path)
        return Opened(scorer, scorer.items(documents(name.removeprefix(LM_EVAL), include_path)))
    if not name.endswith(".jsonl"):
        return Opened(get_task(name))
    task, items = read_items(Path(name), check)
    return Opened(task, tuple(items))


def refuse_benchmark(name: str, include_path: str | None) -> None:
    """Refuse a public benchmark as an objective: what is searched on can measure nothing after."""
    inside = name.removeprefix(LM_EVAL)
    public = name.startswith(LM_EVAL) and not own_task(inside, include_path)
    stem = re.sub(r"[^a-z0-9]", "", Path(name).stem.lower()) if name.endswith(".jsonl") else ""
    if public or any(word in stem for word in BENCHMARKS):
        raise UsageError(
            f"{inside} is a public benchmark, and a search would fit the merge to it",
            "Keep it for --guard or merger eval, or search on it with --allow-benchmark.",
        )


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
