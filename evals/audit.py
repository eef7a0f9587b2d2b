"""What is wrong with a data set: ambiguity, wrong labels, duplicates, leakage, shortcuts.

Reads data in the shape of the paper authors' published files (arXiv 2505.10554; parquet, or JSONL
with the same fields; nothing of them is shipped) and items that `merger tasks export` wrote. Each
finding is a count over the items of one file. Deduction is judged by truth tables, induction by
enumerating the class of rules (cycles of at most six steps +1..4, -1..4, x2..4), abduction by the
shortcut "a goal is reachable when it is listed among the known atoms", which needs no rule.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from evals.itemfile import item_at
from evals.jsonl import read_objects
from evals.task import get_task
from evals.tasks.formulas import Formula, holds, truth, variables
from evals.tasks.induction import answers
from evals.v0 import gold_of
from merger.errors import EvalError

_LONGEST = 6
_TOKEN = re.compile(r"[A-Z]+|[¬∧∨→↔⊕()]")
_LABEL = re.compile(r"([A-Z]+) is (reachable|unreachable)")


@dataclass(frozen=True)
class Report:
    """The findings about one file: check -> number of items it concerns.

    `characters` are the median and the largest length of a question.
    """

    file: str
    kind: str
    n: int
    characters: tuple[int, int]
    found: dict[str, int]


def audit(path: Path) -> list[Report]:
    """Audit a file, or every .parquet and .jsonl under a folder; `EvalError` if there is none."""
    files = sorted([*path.rglob("*.parquet"), *path.rglob("*.jsonl")]) if path.is_dir() else [path]
    if not files:
        raise EvalError(f"{path} holds no .parquet or .jsonl file", "Name the folder of the data.")
    loaded = {file: _read(file) for file in files}
    questions = {file: [_question(r) for r in rows] for file, rows in loaded.items()}
    reports = []
    for file, rows in loaded.items():
        kind = _kind(file, rows[0])
        others = {q for f, texts in questions.items() if f != file for q in texts}
        found = _common(rows, questions[file], others) | _count(_CHECKS[kind], rows)
        lengths = sorted(map(len, questions[file]))
        spread = (lengths[len(lengths) // 2], lengths[-1])
        reports.append(Report(str(file), kind, len(rows), spread, found))
    return reports


def _read(file: Path) -> list[dict[str, Any]]:
    rows = [row for _, row in read_objects(file, "items")]
    if not rows:
        raise EvalError(f"{file} holds no rows", "Name parquet or JSONL data.")
    return rows


def _kind(file: Path, row: dict[str, Any]) -> str:
    """Tell the task of a file by the fields of its first row."""
    if {"id", "certificate"} <= set(row):
        return "exported"
    text = str(row.get("puzzle_text", ""))
    for kind, mark in (
        ("deduction", "formulas:"),
        ("induction", "sequence"),
        ("abduction", "goals:"),
    ):
        if mark in text:
            return kind
    raise EvalError(
        f"{file} is data of no kind that is known",
        "Its rows need `puzzle_text` and `solution_text`, or come from `merger tasks export`.",
    )


def _question(row: dict[str, Any]) -> str:
    return str(row.get("puzzle_text") or row.get("prompt"))


def _common(
    rows: Sequence[dict[str, Any]], questions: Sequence[str], others: set[str]
) -> dict[str, int]:
    """Count what any data set may suffer from."""
    ids = [str(row.get("id", row.get("problem_id", n))) for n, row in enumerate(rows)]
    ordered = {"\n".join(sorted(q.splitlines())) for q in questions}
    return {
        "question occurs more than once": len(questions) - len(set(questions)),
        "question occurs more than once but for the order of its lines": len(rows) - len(ordered),
        "question is in another file": sum(q in others for q in questions),
        "id occurs more than once": len(ids) - len(set(ids)),
        "right by the commonest answer": Counter(map(gold_of, rows)).most_common(1)[0][1],
    }


def _count(
    check: Callable[[dict[str, Any]], Iterable[str]], rows: Sequence[dict[str, Any]]
) -> dict[str, int]:
    """Count the findings that a check yields for each row."""
    counts = Counter(finding for row in rows for finding in check(row))
    return {name: counts[name] for name in sorted(counts)}


def _deduction(row: dict[str, Any]) -> Iterable[str]:
    formulas = [parse_formula(text) for text in row["puzzle_spec"]["formulas"]]
    names = tuple(sorted({v for f in formulas for v in variables(f)}))
    full = left = (1 << (1 << len(names))) - 1
    for formula in formulas:
        table = truth(formula, names)
        left &= table
        if table == full:
            yield "a formula is always true"
    if not left:
        yield "no assignment satisfies"
    elif left.bit_count() > 1:
        yield "more than one assignment satisfies"
    stored = {
        n for n, value in re.findall(r"([A-Z]) is (True|False)", gold_of(row)) if value == "True"
    }
    if not left >> sum(1 << i for i, n in enumerate(names) if n in stored) & 1:
        yield "stored answer does not satisfy"


def parse_formula(text: str) -> Formula:
    """Read an infix formula of one-letter variables, fully parenthesised, as nested tuples."""
    tokens = _TOKEN.findall(text)
    formula, end = _binary(tokens, 0)
    if end != len(tokens):
        raise EvalError(f"{text!r} is no formula", "Write it with parentheses around pairs.")
    return formula


def _binary(tokens: list[str], i: int) -> tuple[Formula, int]:
    left, i = _unary(tokens, i)
    if i < len(tokens) and tokens[i] in "∧∨→↔⊕":
        right, j = _unary(tokens, i + 1)
        return (tokens[i], left, right), j
    return left, i


def _unary(tokens: list[str], i: int) -> tuple[Formula, int]:
    if i >= len(tokens) or tokens[i] in ")∧∨→↔⊕":
        raise EvalError(f"{' '.join(tokens)!r} is no formula", "A part is missing.")
    if tokens[i] == "¬":
        inner, i = _unary(tokens, i + 1)
        return ("¬", inner), i
    if tokens[i] == "(":
        inner, i = _binary(tokens, i + 1)
        return inner, i + 1
    return tokens[i], i + 1


def _induction(row: dict[str, Any]) -> Iterable[str]:
    listed = ast.literal_eval(re.findall(r"\[.*\]", row["puzzle_text"])[0])
    shown: list[int | None] = [None if str(v) == "?" else int(v) for v in listed]
    gold = int(gold_of(row))
    if _simple(shown) == gold:
        yield "right by one difference or ratio, or the middle of neighbours"
    for longest in range(1, _LONGEST + 1):
        if fitting := answers(shown, longest):
            if len(fitting) > 1:
                yield "ambiguous under the shortest cycle that fits"
            elif gold not in fitting:
                yield "shortest cycle that fits says another answer"
            return
    yield "no rule of the class fits"


def _simple(shown: list[int | None]) -> int | None:
    """Guess the gap: one difference, one ratio, or the difference seen two steps away."""
    gap = shown.index(None)
    left, right = shown[gap - 1], shown[gap + 1] if gap + 1 < len(shown) else None
    pairs = [(i, a, b) for i, (a, b) in enumerate(pairwise(shown)) if None not in (a, b)]
    if left is None:
        return None
    for apart in (1, 2):
        near = [(a, b) for i, a, b in pairs if (i - gap + 1) % apart == 0]
        steps = {b - a for a, b in near}  # type: ignore[operator]
        ratios = {Fraction(b, a) for a, b in near if a}  # type: ignore[arg-type]
        if len(steps) == 1:
            return left + steps.pop()
        if len(ratios) == 1:
            return int(left * ratios.pop())
    return None if right is None else (left + right) // 2


def _abduction(row: dict[str, Any]) -> Iterable[str]:
    text = row["puzzle_text"]
    premises, known, goals = (
        ast.literal_eval(re.findall(rf"{name}: (\[.*\])", text)[0])
        for name in ("premises", "known_atoms", "goals")
    )
    rules = [[parse_formula(_words(part)) for part in p.split("=>")] for p in premises]
    labels = [(goal, label == "reachable") for goal, label in _LABEL.findall(gold_of(row))]
    reached = _reached(rules, known)
    if any((goal in reached) != label for goal, label in labels):
        yield "stored answer is not what follows"
    if all((goal in known) == label for goal, label in labels):
        yield "right by: a goal is reachable when it is a known atom"
    heads = {head for _, head in rules}
    if all((goal in heads) == label for goal, label in labels):
        yield "right by: a goal is reachable when it is the head of a rule"
    if len(set(goals)) < len(goals):
        yield "a goal occurs more than once"


def _words(text: str) -> str:
    """Write a condition of the authors' with signs."""
    return text.replace("NOT ", "¬").replace(" AND ", "∧").replace(" OR ", "∨")


def _reached(rules: Sequence[Sequence[Formula]], known: Iterable[str]) -> set[str]:
    """Return what follows, an atom being false until it is derived."""
    true, grew = set(known), True
    while grew:
        found = {
            str(head)
            for body, head in rules
            if head not in true and holds(body, {v: v in true for v in variables(body)})
        }
        true, grew = true | found, bool(found)
    return true


def _exported(row: dict[str, Any]) -> Iterable[str]:
    item = item_at(str(row["id"]))
    task = get_task(item.task)
    if not task.certify(item):
        yield "not certified"
    for name, guess in task.baselines.items():
        if task.grade(guess(item), item).correct:
            yield f"right by: {name}"


_CHECKS: dict[str, Callable[[dict[str, Any]], Iterable[str]]] = {
    "deduction": _deduction,
    "induction": _induction,
    "abduction": _abduction,
    "exported": _exported,
}
