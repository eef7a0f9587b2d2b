r"""Your own items: a JSONL or parquet file with a check, as a task like any other.

One object a line: `prompt` (or `question`, `problem`) and `answer`, and where wanted `id`, `level`,
`system` and whatever your check reads. The answer is read from the last answer tags, else from the
last `\boxed{}`, else from the last line that is not blank. Checks: `exact` (same text, case and
spaces aside), `number`, `math` (mathematical equality by math-verify, an extra), or
`package:function`, called with the whole completion and the line's object and returning whether it
is right.
"""

import hashlib
import importlib
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from evals.answers import Answer, Verdict, grade_number, read_answer, read_number
from evals.equality import grade_math
from evals.jsonl import read_objects
from evals.task import Draft, Item, Task
from merger.errors import EvalError
from merger.registry import unknown

FILES = (".jsonl", ".json", ".parquet")
_BOX, _TAIL = "\\boxed{", 20_000
SHAPE = '{"prompt": "…", "answer": "…"}'
_OTHER = {"question": "prompt", "problem": "prompt"}  # what published sets call it
_CHECKS = ("exact", "number", "math", "package:function")


def find_answer(text: str) -> str | None:
    """Return what stands in the last answer tags, else box, else line; None in an empty text."""
    explicit = find_marked(text)
    lines = [] if explicit is not None else [x for x in text[-_TAIL:].splitlines() if x.strip()]
    return lines[-1].strip() if lines else explicit


def find_marked(text: str) -> str | None:
    """Return what stands in the last answer tags, else in the last box if it is closed."""
    tagged = read_answer(text).text
    if tagged is not None:
        return tagged.strip()
    _, box, inside = text[-_TAIL:].rpartition(_BOX)
    depth = 0
    for place, sign in enumerate(inside if box else ""):
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return inside[:place].strip()
    return None


def _no_draw(rng: Random, level: int) -> Draft:
    raise EvalError("a file of items draws no new ones", "Use the items it holds.")


@dataclass(frozen=True, kw_only=True)
class FileTask(Task):
    """A task whose items stand in a file: the prompt is sent as it is, tags are not asked for."""

    alias: str = ""
    version: str = "file"
    levels: tuple[int, ...] = (0,)
    instructions: str = ""
    draw: Callable[[Random, int], Draft] = _no_draw
    certify: Callable[[Item], bool] = lambda item: True
    baselines: Mapping[str, Callable[[Item], str]] = field(default_factory=dict)
    prefill: str = ""
    find: Callable[[str], str | None] = find_answer  # the part of a completion that is judged

    @property
    def system(self) -> str:
        """No system prompt but the one a line may hold."""
        return ""

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return the line's system prompt, if any, and its prompt."""
        system = item.data.get("system")
        first = [{"role": "system", "content": str(system)}] if system else []
        return [*first, {"role": "user", "content": item.prompt}]

    def read(self, text: str) -> Answer:
        """Return what the check is asked about; the format is right where there is anything."""
        answer = self.find(text)
        return Answer(answer is not None, answer)


def read_items(path: Path, check: str) -> tuple[FileTask, list[Item]]:
    """Read a file as a task and its items; `EvalError` names the line that is wrong."""
    # The check is no part of the version: another one scores the same answers anew.
    find = str if ":" in check else find_answer
    task = FileTask(name=path.stem, alias=path.stem, grade=_grader(check), find=find)
    found: dict[str, Item] = {}
    for where, row in read_objects(path, SHAPE):
        facts = {new: row[old] for old, new in _OTHER.items() if old in row} | row
        if not {"prompt", "answer"} <= set(facts):
            raise EvalError(f"{where}: no `prompt` and `answer`", f"Write {SHAPE} on each line.")
        if not isinstance(facts["prompt"], str) or not facts["prompt"].strip():
            raise EvalError(f"{where}: the prompt is {facts['prompt']!r:.60}", "Give a text.")
        item = file_item(task, facts)
        if item.id in found:
            raise EvalError(f"{where}: this item is there already", "Remove one.")
        found[item.id] = item
    if not found:
        raise EvalError(f"{path} holds no items", f"Write {SHAPE} on each line.")
    return task, list(found.values())


def file_item(task: Task, facts: Mapping[str, Any]) -> Item:
    """Return a line's object as an item, its whole content being part of the address."""
    text = json.dumps(facts, sort_keys=True, default=str)
    prompt, level = str(facts["prompt"]), facts.get("level") or 0
    if not isinstance(level, int):
        law = f"item {prompt[:40]!r}: level is {level!r}"
        raise EvalError(law, "Give a whole number, or leave it out.")
    return Item(
        id=f"{facts.get('id', 'item')}#{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        task=task.name,
        version=task.version,
        level=level,
        split="file",
        prompt=prompt,
        answer=str(facts["answer"]),
        canonical=prompt,
        data=facts,
    )


def _grader(check: str) -> Callable[[str, Item], Verdict]:
    table = {"exact": _exact, "number": _number, "math": grade_math}
    if check in table:
        return table[check]
    if not all(check.partition(":")):
        raise unknown("check", check, _CHECKS)
    return _imported(check)


def _exact(answer: str, item: Item) -> Verdict:
    same = " ".join(answer.split()).casefold() == " ".join(item.answer.split()).casefold()
    return Verdict(parsed=bool(answer.strip()), correct=same)


def _number(answer: str, item: Item) -> Verdict:
    gold = read_number(item.answer)
    if gold is None:
        law = f"item {item.id}: the answer {item.answer!r} is no number"
        raise EvalError(law, "Use --check exact.")
    return grade_number(answer, gold)


def _imported(check: str) -> Callable[[str, Item], Verdict]:
    """Return a grader that calls a function of an installed module."""
    module, _, name = check.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # as `python -m` does, but behind what is installed
    try:
        function: Any = getattr(importlib.import_module(module), name)
        if not callable(function):
            raise ImportError(f"{name} is no function")  # noqa: TRY301, TRY004
    except (ImportError, AttributeError) as error:
        remedy = "Name an importable module and a function in it, as package.module:function."
        raise EvalError(f"the check {check!r} cannot be imported: {error}", remedy) from error

    def grade(text: str, item: Item) -> Verdict:
        try:
            return Verdict(parsed=True, correct=bool(function(text, item.data)))
        except Exception as error:
            law = f"the check {check} fails on {item.id}: {type(error).__name__}: {error}"
            remedy = "Mend it: it is called with the completion and the line."
            raise EvalError(law, remedy) from error

    grade.__module__, grade.__qualname__ = module, name  # the scorer's digest is of that file
    return grade
