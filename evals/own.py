r"""Your own items: a JSONL file with a check, as a task like any other.

One object a line: `prompt` and `answer`, and where wanted `id`, `level`, `system` and whatever
your check reads. The answer is read from the last answer tags, else from the last `\boxed{}`,
else from the last line that is not blank. Checks: `exact` (same text, case and spaces aside),
`number`, `math` (mathematical equality by math-verify, an extra), or `package:function`, called
with the whole completion and the line's object and returning whether it is right.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from evals.answers import Verdict, read_answer, read_number
from evals.task import Draft, Item, Score, Task
from merger.errors import EvalError
from merger.registry import unknown

_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_CHECKS = ("exact", "number", "math", "package:function")


@dataclass(frozen=True)
class FileTask(Task):
    """A task whose items stand in a file: the prompt is sent as it is, tags are not asked for."""

    whole: bool = False  # the check reads the whole completion

    @property
    def system(self) -> str:
        """No system prompt but the one a line may hold."""
        return ""

    def messages(self, item: Item) -> list[dict[str, str]]:
        """Return the line's system prompt, if any, and its prompt."""
        system = item.data.get("system")
        first = [{"role": "system", "content": str(system)}] if system else []
        return [*first, {"role": "user", "content": item.prompt}]

    def check(self, text: str, item: Item) -> Score:
        """Score a completion by the check that was asked for."""
        answer = text if self.whole else find_answer(text)
        if answer is None:
            return Score(format=False, parsed=False, correct=False)
        verdict = self.grade(answer, item)
        return Score(True, verdict.parsed, verdict.correct)


def find_answer(text: str) -> str | None:
    """Return what stands in the last answer tags, else box, else line; None in an empty text."""
    tagged = read_answer(text).text
    if tagged is not None:
        return tagged.strip()
    if boxed := _BOXED.findall(text[-20_000:]):
        return str(boxed[-1]).strip()
    lines = [line.strip() for line in text[-20_000:].splitlines() if line.strip()]
    return lines[-1] if lines else None


def read_items(path: Path, check: str) -> tuple[FileTask, list[Item]]:
    """Read a JSONL file as a task and its items; `EvalError` names the line that is wrong."""
    task = _task(path, check)
    found: dict[str, Item] = {}
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            item = _item(task, f"{path}:{number}", line)
            if item.id in found:
                raise EvalError(f"{path}:{number}: this item is there already", "Remove one.")
            found[item.id] = item
    if not found:
        raise EvalError(f"{path} holds no items", "Write one JSON object a line.")
    return task, list(found.values())


def _task(path: Path, check: str) -> FileTask:
    return FileTask(
        name=path.stem,
        alias=path.stem,
        version="file",  # the check is no part of it: another one scores the same answers
        levels=(0,),
        instructions="",
        draw=_no_draw,
        grade=_grader(check),
        certify=lambda item: True,
        baselines={},
        prefill="",
        whole=":" in check,
    )


def _no_draw(rng: Random, level: int) -> Draft:
    raise EvalError("a file of items draws no new ones", "Use the items it holds.")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvalError(f"{path} cannot be read: {error}", "Name a JSONL file in UTF-8.") from error


def _item(task: FileTask, where: str, line: str) -> Item:
    try:
        facts = json.loads(line)
    except ValueError as error:
        raise EvalError(f"{where}: not JSON ({error})", "Write one JSON object a line.") from error
    if not isinstance(facts, dict) or not {"prompt", "answer"} <= set(facts):
        raise EvalError(
            f"{where}: no object with `prompt` and `answer`",
            'Write {"prompt": "…", "answer": "…"} on one line.',
        )
    prompt, answer = str(facts["prompt"]), str(facts["answer"])
    # The texts are part of the address: an item whose wording changed is another item.
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return Item(
        id=f"{facts.get('id', 'item')}#{digest}",
        task=task.name,
        version=task.version,
        level=int(facts.get("level") or 0),
        split="file",
        prompt=prompt,
        answer=answer,
        canonical=prompt,
        data=facts,
        certificate={},
    )


def _grader(check: str) -> Callable[[str, Item], Verdict]:
    table = {"exact": _exact, "number": _number, "math": _math}
    if check in table:
        return table[check]
    if ":" not in check:
        raise unknown("check", check, _CHECKS)
    return _imported(check)


def _exact(answer: str, item: Item) -> Verdict:
    same = " ".join(answer.split()).casefold() == " ".join(item.answer.split()).casefold()
    return Verdict(parsed=bool(answer.strip()), correct=same)


def _number(answer: str, item: Item) -> Verdict:
    value = read_number(answer)
    return Verdict(parsed=value is not None, correct=value is not None and value == _gold(item))


def _gold(item: Item) -> Any:
    gold = read_number(item.answer)
    if gold is None:
        raise EvalError(
            f"item {item.id}: the answer {item.answer!r} is no number", "Use --check exact."
        )
    return gold


def _math(answer: str, item: Item) -> Verdict:
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise EvalError("--check math needs math-verify", "pip install 'merger[math]'") from error
    found = parse(f"${answer}$", parsing_timeout=None)
    right = verify(parse(f"${item.answer}$", parsing_timeout=None), found, timeout_seconds=None)
    return Verdict(parsed=bool(found), correct=bool(right))


def _imported(check: str) -> Callable[[str, Item], Verdict]:
    """Return a grader that calls a function of an installed module."""
    module, _, name = check.partition(":")
    try:
        function: Callable[[str, Mapping[str, Any]], Any] = getattr(
            importlib.import_module(module), name
        )
    except (ImportError, AttributeError) as error:
        raise EvalError(
            f"the check {check!r} cannot be imported: {error}",
            "Name an importable module and a function in it, as package.module:function.",
        ) from error

    def grade(text: str, item: Item) -> Verdict:
        return Verdict(parsed=True, correct=bool(function(text, item.data)))

    grade.__module__, grade.__qualname__ = module, name  # the scorer's digest is of that file
    return grade
