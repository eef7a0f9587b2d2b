"""Items in files: written for other programs, and read back to check answers made elsewhere.

A line holds id, task, version, level, split, prompt, answer, canonical, certificate. The id is the
item's address, so checking draws the instance anew from it: nothing in the file but the id is
trusted, and a file whose texts were changed, or made by another version, is refused.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from evals.jsonl import read_objects
from evals.rewards import REWARDS
from evals.task import Item, draw_item, get_task
from merger.errors import EvalError

_FIELDS = ("id", "task", "version", "level", "split", "prompt", "answer", "canonical")


def item_document(item: Item) -> dict[str, Any]:
    """Return the JSON object of one item."""
    document = {name: getattr(item, name) for name in _FIELDS}
    return document | {"certificate": dict(item.certificate)}


@lru_cache(maxsize=100_000)  # a hard item takes half a second to draw
def item_at(address: str) -> Item:
    """Draw the item of an address task/version/split/seed/Llevel/index."""
    parts = address.split("/")
    try:
        name, version, split, seed, level, index = parts
        numbers = int(seed), int(level.removeprefix("L")), int(index)
    except ValueError as error:
        remedy = "Use ids as `merger tasks export` writes them."
        raise EvalError(f"{address!r} is no item id", remedy) from error
    task = get_task(name)
    if version != task.version:
        law = f"item {address} is of version {version}, the task here is {task.version}"
        raise EvalError(law, "Export the items again.")
    return draw_item(task, level=numbers[1], split=split, seed=numbers[0], index=numbers[2])


def check_answers(items: Path, answers: Path, *, reward: str = "paper") -> list[dict[str, Any]]:
    """Score answers {"id", "text"}: a list of {"id", "format", "parsed", "correct", "reward"}.

    The text is what follows the pre-filled `<think>`. Raises `EvalError` for an answer without an
    item, an id that occurs twice among the items, or a line that is no such object.
    """
    to_number, known = REWARDS[reward], _read_items(items)
    scored = []
    for where, facts in read_objects(answers, '{"id": …, "text": …}'):
        if not {"id", "text"} <= set(facts):
            raise EvalError(f"{where}: no id or no text", 'Write {"id": …, "text": …}.')
        item = known.get(str(facts["id"]))
        if item is None:
            raise EvalError(f"{where}: no item {facts['id']!r} in {items}", "Check the ids.")
        score = get_task(item.task).check(str(facts["text"]), item)
        row = {"id": item.id, "format": score.format, "parsed": score.parsed}
        scored.append(row | {"correct": score.correct, "reward": to_number(score)})
    return scored


def _read_items(path: Path) -> dict[str, Item]:
    found: dict[str, Item] = {}
    for where, facts in read_objects(path, "what `merger tasks export` writes"):
        item = item_at(str(facts.get("id")))
        if facts.get("prompt", item.prompt) != item.prompt:
            raise EvalError(f"{where}: the prompt is not that of {item.id}", "Export it again.")
        if item.id in found:
            raise EvalError(f"{where}: item {item.id} is there already", "Remove one.")
        found[item.id] = item
    return found
