"""The paper authors' data and their scores, kept as they are: for comparison, not for training.

`--tasks v0:FILE` reads a file published with arXiv 2505.10554 and scores answers as its reward code
does, oddities included: the answer is equality with the one stored, a format failure is never read
further, the word `Assistant:` cuts a completion, and a repeated goal makes the right answer
unreadable. Nothing of the authors' code or data is shipped. For well-posed items use the tasks v1.
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.answers import Verdict
from evals.jsonl import read_objects
from evals.own import FileTask, file_item
from evals.task import Item, Score
from merger.errors import EvalError

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_PAIR = re.compile(r"\b([a-z]+)\s+is\s+(true|false|reachable|unreachable)\b")
_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class V0Task(FileTask):
    """A file of the authors': their two messages, the reasoning opened, their score."""

    def check(self, text: str, item: Item) -> Score:
        """Score a completion (the text after the pre-fill)."""
        return score_v0(self.prefill + text, item.answer)


def score_v0(text: str, gold: str) -> Score:
    """Score a completion, or a whole chat, that holds the opening tag of the reasoning.

    `rewards.upstream` of it is the number that the authors' code returns.
    """
    for mark in ("Assistant:", "<|im_start|>assistant"):
        if mark in text:
            text = text.split(mark, 1)[1]
            break
    places = [text.find(tag) for tag in _TAGS]
    once = all(text.count(tag) == 1 for tag in _TAGS)
    if not once or places != sorted(places):
        return Score(format=False, parsed=False, correct=False)
    said = _read(text[places[2] + len("<answer>") : places[3]].strip(), gold)
    right = said is not None and said == _read(gold.strip(), gold)
    return Score(format=True, parsed=said is not None, correct=right)


def _grade(answer: str, item: Item) -> Verdict:
    """Judge the text inside the tags alone."""
    score = score_v0(f"<think></think><answer>{answer}</answer>", item.answer)
    return Verdict(score.parsed, score.correct)


def _read(text: str, gold: str) -> Mapping[str, str] | int | None:
    """Read an answer of the kind that the gold is; None where it cannot be read."""
    if " is " not in gold:
        try:
            return int(text) if len(text) <= 1000 else None
        except ValueError:
            return None
    said = dict(_PAIR.findall(text.lower()))
    return said if len(said) == len(gold.strip().splitlines()) else None


def read_v0(path: Path) -> tuple[FileTask, list[Item]]:
    """Read one of the authors' files as a task and its items."""
    name = f"v0:{'/'.join(path.parts[-3:-1])}/{path.stem}"
    task = V0Task(name=name, grade=_grade, version="v0", prefill="<think>")
    found = []
    for number, (where, row) in enumerate(read_objects(path, "the authors' rows")):
        turns = {role: said.strip() for role, said in _TURN.findall(_content(row, where))}
        facts = {"id": str(number), "prompt": turns.get("user", ""), "answer": gold_of(row)}
        found.append(file_item(task, facts | {"system": turns.get("system", "")}))
    return task, found


def gold_of(row: Mapping[str, Any]) -> str:
    """Return the stored answer of a row."""
    return str(row.get("solution_text", row.get("answer"))).strip()


def _content(row: Mapping[str, Any], where: str) -> str:
    """Return the rendered chat; one of the three tasks stores its messages as text."""
    try:
        chat = row["prompt"]
        return str((ast.literal_eval(chat) if isinstance(chat, str) else chat)[0]["content"])
    except (KeyError, IndexError, TypeError, ValueError, SyntaxError) as error:
        law = f"{where}: no prompt of the authors'"
        raise EvalError(law, "Name one of their files.") from error
