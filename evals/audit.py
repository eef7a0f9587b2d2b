"""What is wrong with a data set: ambiguity, wrong labels, duplicates, leakage, shortcuts.

Reads data in the shape of the paper authors' published files (arXiv 2505.10554; parquet, or JSONL
with the same fields; nothing of them is shipped) and items that `merger tasks export` wrote. Each
finding is a count over the items of one file. Deduction is judged by truth tables, induction by
enumerating the class of rules (cycles of at most six steps +1..4, -1..4, x2..4), abduction by the
shortcut "a goal is reachable when it is listed among the known atoms", which needs no rule.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from operator import and_
from pathlib import Path
from typing import Any, NamedTuple

from evals.itemfile import item_at
from evals.jsonl import read_objects
from evals.task import get_task
from evals.tasks.deduction import canonical
from evals.tasks.formulas import Formula, full, holds, parse, tables, truth, variables
from evals.tasks.induction import answers
from evals.v0 import gold_of
from merger.errors import EvalError

_LONGEST = 6
_LABEL = re.compile(r"([A-Z]+) is (reachable|unreachable)")
Row = Mapping[str, Any]
Rows = Sequence[Row]
Findings = dict[str, bool]  # of one row; what is not the case is told too
_Kind = tuple[str, Callable[[Any], Findings], Callable[[Any], str]]  # name, check, form


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
    loaded = {file: _load(file) for file in files}
    reports = []
    for file, data in loaded.items():
        lengths = sorted(map(len, data.asked[0]))
        spread = (lengths[len(lengths) // 2], lengths[-1])
        found = _common(data, [other for f, other in loaded.items() if f != file]) | data.found
        reports.append(Report(str(file), data.kind, len(lengths), spread, found))
    return reports


class _Data(NamedTuple):
    """A file: findings of its rows, its questions as asked and in the form that tells likes."""

    rows: Rows
    kind: str
    found: Counter[str]
    asked: tuple[list[str], list[str]]


def _load(file: Path) -> _Data:
    """Read a file, tell its task by the fields of its first row, and check each row by itself."""
    placed = list(read_objects(file, "items"))
    rows = [row for _, row in placed]
    first = rows[0] if rows else {}
    name = f"{first.get('task')}, exported"
    exported: _Kind = (name, _exported, lambda row: str(row.get("canonical")))
    known: dict[str, _Kind] = {
        "formulas:": ("deduction", _deduction, lambda row: canonical(_formulas(row))),
        "sequence": ("induction", _induction, lambda row: _listed(row).replace("?", gold_of(row))),
        "goals:": ("abduction", _abduction, lambda row: repr(list(map(sorted, _lists(row))))),
    }
    marks = (kind for mark, kind in known.items() if mark in str(first.get("puzzle_text", "")))
    kind = exported if {"id", "certificate"} <= set(first) else next(marks, None)
    remedy = "Its rows need `puzzle_text` and `solution_text`, or come from `merger tasks export`."
    if kind is None:
        raise EvalError(f"{file} is data of no kind that is known", remedy)
    name, check, form = kind
    forms, found = [], Counter[str]()
    for where, row in placed:
        try:
            found.update({finding: int(so) for finding, so in check(row).items()})
            forms.append(form(row))
        except (LookupError, ValueError, TypeError, SyntaxError) as error:
            raise EvalError(f"{where}: no row of {name}: {error!r}", remedy) from error
    return _Data(rows, name, found, (list(map(_question, rows)), forms))


def _question(row: Row) -> str:
    return str(row.get("puzzle_text") or row.get("prompt"))


def _formulas(row: Row) -> list[str]:
    return list(row["puzzle_spec"]["formulas"])


def _listed(row: Row) -> str:
    return str(re.findall(r"\[.*\]", row["puzzle_text"])[0]).replace("'", "")


def _lists(row: Row) -> Iterator[list[str]]:
    for name in ("premises", "known_atoms", "goals"):
        yield ast.literal_eval(re.findall(rf"{name}: (\[.*\])", row["puzzle_text"])[0])


def _common(data: _Data, others: Sequence[_Data]) -> dict[str, int]:
    """Count what any data set may suffer from."""
    found = {}
    for way, but in enumerate(("", ", but for order, names or gap")):
        asked, there = data.asked[way], {text for other in others for text in other.asked[way]}
        found[f"question occurs more than once{but}"] = _repeats(asked)
        found[f"question is in another file{but}"] = sum(text in there for text in asked)
    ids = [row.get("id", row.get("problem_id", n)) for n, row in enumerate(data.rows)]
    found["id occurs more than once"] = _repeats(map(str, ids))
    commonest = Counter(map(gold_of, data.rows)).most_common(1)[0][1]
    return found | {"right by the commonest answer": commonest}


def _repeats(texts: Iterable[str]) -> int:
    return sum(times - 1 for times in Counter(texts).values())


def _deduction(row: Row) -> Findings:
    formulas = [parse(text) for text in _formulas(row)]
    names = tuple(sorted({v for f in formulas for v in variables(f)}))
    every = full(names)
    found = [truth(formula, tables(names), every) for formula in formulas]
    left = reduce(and_, found, every)
    stored = set(re.findall(r"([A-Z]) is True", gold_of(row)))
    place = sum(1 << i for i, name in enumerate(names) if name in stored)
    return {
        "a formula is always true": every in found,
        "no assignment satisfies": not left,
        "more than one assignment satisfies": left.bit_count() > 1,
        "stored answer does not satisfy": not left >> place & 1,
    }


def _induction(row: Row) -> Findings:
    listed = _listed(row).strip("[]").split(",")
    shown = [None if v.strip() == "?" else int(v) for v in listed]
    gold = int(gold_of(row))
    fitting = next(filter(None, (answers(shown, k) for k in range(1, _LONGEST + 1))), set())
    return {
        "no rule of the class fits": not fitting,
        "ambiguous under the shortest cycle that fits": len(fitting) > 1,
        "shortest cycle that fits says another answer": len(fitting) == 1 and gold not in fitting,
        "right by one difference or ratio, or the middle of neighbours": _simple(shown) == gold,
    }


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


def _abduction(row: Row) -> Findings:
    premises, known, goals = _lists(row)
    rules = [tuple(parse(_signs(part)) for part in premise.split("=>")) for premise in premises]
    labels = {(goal, label == "reachable") for goal, label in _LABEL.findall(gold_of(row))}
    heads, bodies = {head for _, head in rules}, {v for body, _ in rules for v in variables(body)}
    said = {"a known atom": known, "the head of a rule": heads, "in a rule": heads | bodies}
    return {
        "stored answer is not what follows": not _labels(labels, _reached(rules, known)),
        "a goal occurs more than once": len(set(goals)) < len(goals),
        "every atom of a condition is a known atom": bodies <= set(known),
        "reachable goals follow without being known atoms": all(
            goal in _reached(rules, {*known} - {goal}) for goal, label in labels if label
        ),
    } | {
        f"right by: a goal is reachable when it is {guess}": _labels(labels, atoms)
        for guess, atoms in said.items()
    }


def _labels(labels: set[tuple[str, bool]], reachable: Iterable[Formula]) -> bool:
    return all((goal in reachable) == label for goal, label in labels)


def _signs(text: str) -> str:
    """Write a condition of the authors' with signs."""
    return text.replace("NOT ", "¬").replace(" AND ", "∧").replace(" OR ", "∨")


def _reached(rules: Sequence[tuple[Formula, ...]], known: Iterable[str]) -> set[Formula]:
    """Return what follows, an atom being false until it is derived."""
    true: set[Formula] = set(known)
    while True:
        found = {
            head
            for body, head in rules
            if head not in true and holds(body, {v: v in true for v in variables(body)})
        }
        if not found:
            return true
        true |= found


def _exported(row: Row) -> Findings:
    """Draw the item anew from its address and prove it; the file's own texts must be its."""
    item = item_at(str(row["id"]))
    task = get_task(item.task)
    return {
        "not certified": not task.certify(item),
        "question is not that of its id": row.get("prompt") != item.prompt,
        "stored answer is wrong": not task.grade(gold_of(row), item).correct,
    } | {
        f"right by: {name}": task.grade(guess(item), item).correct
        for name, guess in task.baselines.items()
    }
