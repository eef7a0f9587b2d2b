"""Deduction: find truth values that make all nested formulas true, or say UNSAT.

Levels (variables, formulas, depth) follow the paper's table (arXiv 2505.10554, section 3.1). Unlike
the authors' data, one item in five is unsatisfiable and minimally so (every proper subset of its
formulas has a model), a satisfiable item has exactly one model, no formula is a tautology or idle,
and *any* assignment that satisfies the formulas is accepted. Formulas are chosen so that the number
of remaining models shrinks geometrically to one. Certified by a SAT solver (CaDiCaL through
python-sat).
"""

import re
from functools import partial, reduce
from operator import and_
from random import Random
from typing import NamedTuple

from evals.answers import Verdict, read_truth
from evals.task import Draft, Item, Task, register
from evals.tasks.formulas import Drawn, Formula, as_tuples, cnf, draw, full, holds, negate, show


class Level(NamedTuple):
    """How many variables, how many formulas (from, to), how deep."""

    names: int
    formulas: tuple[int, int]
    depth: int


LEVELS = {
    1: Level(4, (3, 4), 1),
    2: Level(6, (3, 5), 2),
    3: Level(8, (4, 5), 3),
    4: Level(10, (4, 6), 4),
    5: Level(12, (4, 6), 5),
}
UNSAT_SHARE = 0.2
_NAME = re.compile("[A-Z]")


def _unique(rng: Random, names: tuple[str, ...], level: Level) -> list[Drawn]:
    """Draw formulas with exactly one common model, each removing some of the remaining ones."""
    while True:
        n = rng.randint(*level.formulas)
        model = rng.randrange(1 << len(names))
        left, chosen = full(names), []
        for k in range(n):
            target = max(1, round(left.bit_count() ** ((n - k - 1) / (n - k))))
            found = _closest(rng, names, level.depth, model, left, target, last=k == n - 1)
            if found is None:
                break
            chosen.append(found)
            left &= found.table
        if len(chosen) == n and left.bit_count() == 1:
            return chosen


def _closest(
    rng: Random,
    names: tuple[str, ...],
    depth: int,
    model: int,
    left: int,
    target: int,
    *,
    last: bool,
) -> Drawn | None:
    """Draw formulas true in the model and keep the one that leaves nearest to `target` models."""
    best, nearest = None, 1 << len(names)
    every, before = full(names), left.bit_count()
    for _ in range(160 if last else 24):
        drawn = draw(rng, names, depth)
        if drawn.table in (0, every):
            continue
        if not drawn.table >> model & 1:
            drawn = _negated(drawn, every)
        count = (left & drawn.table).bit_count()
        if count < before and abs(count - target) < nearest:  # else idle, or no better
            best, nearest = drawn, abs(count - target)
        if nearest == 0:
            break
    return best


def _negated(drawn: Drawn, every: int) -> Drawn:
    return Drawn(negate(drawn.formula), every ^ drawn.table, drawn.first)


def _minimally_unsat(
    rng: Random, names: tuple[str, ...], level: Level, chosen: list[Drawn]
) -> list[Drawn] | None:
    """Replace one formula so that no model is left, yet every proper subset has one."""
    every = full(names)
    for _ in range(400):
        drop = rng.randrange(len(chosen))
        rest = chosen[:drop] + chosen[drop + 1 :]
        left = _models(rest, every)
        new = draw(rng, names, level.depth)
        if left & new.table:
            new = _negated(new, every)
        if new.table in (0, every) or left & new.table:
            continue
        if all(_models([*rest[:i], *rest[i + 1 :], new], every) for i in range(len(rest))):
            return [*rest, new]
    return None


def _models(chosen: list[Drawn], every: int) -> int:
    """Return the table of the conjunction; its bits are the models."""
    return reduce(and_, (drawn.table for drawn in chosen), every)


def canonical(lines: list[str]) -> str:
    """Return the formulas with variables renamed in first-seen order after sorting by shape."""
    shapes = sorted(lines, key=lambda line: (_NAME.sub("x", line), line))
    order = dict.fromkeys(_NAME.findall("".join(shapes)))
    names = {old: f"x{i}" for i, old in enumerate(order)}
    return ";".join(sorted(_NAME.sub(lambda m: names[m[0]], line) for line in shapes))


def draft(rng: Random, level: int) -> Draft:
    """Draw one instance: with a unique model, or (one in five) minimally unsatisfiable."""
    shape = LEVELS[level]
    names = tuple("ABCDEFGHIJKL"[: shape.names])
    unsat = rng.random() < UNSAT_SHARE
    found = None
    while found is None:
        found = _unique(rng, names, shape)
        if unsat:
            found = _minimally_unsat(rng, names, shape, found)
    rng.shuffle(found)
    left = _models(found, full(names))
    model = left.bit_length() - 1
    values = (f"{n}={'true' if model >> i & 1 else 'false'}" for i, n in enumerate(names))
    formulas = [drawn.formula for drawn in found]
    lines = [show(formula) for formula in formulas]
    listed = [f"{i}. {line}" for i, line in enumerate(lines, 1)]
    return Draft(
        prompt="\n".join(["Formulas:", *listed, "Variables: " + " ".join(names)]),
        answer=" ".join(values) if left else "UNSAT",
        canonical=canonical(lines),
        data={"names": list(names), "formulas": formulas},
        certificate={"models": left.bit_count(), "minimal": unsat},
    )


_PAIR = re.compile(r"\b([A-Z])\s*(?:=|:|\bis\b)\s*([A-Za-z0-9]+)")


def grade(answer: str, item: Item) -> Verdict:
    """Accept UNSAT where it is so, else any full assignment that satisfies all formulas."""
    names: list[str] = list(item.data["names"])
    if answer.strip().strip(".").lower() in {"unsat", "unsatisfiable"}:
        return Verdict(parsed=True, correct=item.answer == "UNSAT")
    values: dict[str, bool] = {}
    for name, word in _PAIR.findall(answer):
        value = read_truth(word)
        if value is None or values.get(name, value) != value:
            return Verdict(parsed=False, correct=False)
        values[name] = value
    if sorted(values) != sorted(names):
        return Verdict(parsed=False, correct=False)
    right = all(holds(as_tuples(f), values) for f in item.data["formulas"])
    return Verdict(parsed=True, correct=right)


def certify(item: Item) -> bool:
    """Prove by SAT that the item has exactly one model, or none and every proper subset one."""
    formulas = [as_tuples(f) for f in item.data["formulas"]]
    names: list[str] = list(item.data["names"])
    found = _count(formulas, names, limit=2)
    if item.answer != "UNSAT":
        return found == 1 and grade(item.answer, item).correct
    rest = [formulas[:i] + formulas[i + 1 :] for i in range(len(formulas))]
    return found == 0 and all(_count(part, names, limit=1) == 1 for part in rest)


def _count(formulas: list[Formula], names: list[str], limit: int) -> int:
    """Count models up to a limit with a SAT solver, each one blocked once seen."""
    from pysat.solvers import Cadical153

    with Cadical153(bootstrap_with=cnf(formulas, names)) as solver:
        n = 0
        while n < limit and solver.solve():
            n += 1
            solver.add_clause([-x for x in solver.get_model()[: len(names)]])
        return n


def _constant(value: str, item: Item) -> str:
    return " ".join(f"{name}={value}" for name in item.data["names"])


def _by_polarity(item: Item) -> str:
    """Guess true for a variable that stands bare more often than negated."""
    text = item.prompt
    return " ".join(
        f"{v}={'true' if text.count(v) > 2 * text.count('¬' + v) + 1 else 'false'}"
        for v in item.data["names"]
    )


register(
    Task(
        name="deduction",
        alias="ded",
        version="v1",
        levels=tuple(LEVELS),
        instructions=(
            "Find truth values for all variables that make every formula true (¬ not, ∧ and, ∨ or, "
            "→ implies, ↔ if and only if, ⊕ exclusive or). Answer like "
            "<answer>A=true B=false</answer>, or <answer>UNSAT</answer> if there are none."
        ),
        draw=draft,
        grade=grade,
        certify=certify,
        chance=dict.fromkeys(LEVELS, UNSAT_SHARE),
        baselines={
            "always UNSAT": lambda item: "UNSAT",
            "all true": partial(_constant, "true"),
            "all false": partial(_constant, "false"),
            "by polarity": _by_polarity,
        },
    )
)
