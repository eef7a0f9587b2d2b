"""Induction: the missing number of a sequence made by a cycle of steps.

The class of rules is stated in the prompt (a cycle of at most K steps, each +1..4, -1..4 or x2..4),
at least two full cycles are shown, and an instance is accepted only if *every* rule of the class
that fits the visible numbers puts the same number into the gap: well posed without an appeal to
simplicity. The authors' data shows a step that is never seen in 20 to 100 % of the items of its
released generator. The gap may be the last number or an inner one. Certified by enumerating the
whole class.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

from evals.answers import Verdict, grade_number
from evals.task import Draft, Item, Task, register

STEPS: tuple[tuple[str, int], ...] = (
    *(("+", v) for v in range(1, 5)),
    *(("-", v) for v in range(1, 5)),
    *(("×", v) for v in range(2, 5)),
)


class Level(NamedTuple):
    """Length of the cycle (from, to) and the largest absolute value."""

    period: tuple[int, int]
    limit: int


LEVELS = {
    1: Level((1, 2), 99),
    2: Level((2, 3), 199),
    3: Level((3, 4), 999),
    4: Level((4, 5), 9_999),
    5: Level((5, 6), 9_999),
}


def apply(step: tuple[str, int], x: int) -> int:
    """Apply one step to a number."""
    sign, v = step
    return x + v if sign == "+" else x - v if sign == "-" else x * v


def fitting(a: int, b: int) -> list[tuple[str, int]]:
    """Return the steps that lead from a to b."""
    return [s for s in STEPS if apply(s, a) == b]


def answers(visible: list[int | None], longest: int) -> set[int]:
    """Return every number that some rule with a cycle of at most `longest` steps allows."""
    hole = visible.index(None)
    found: set[int] = set()
    for k in range(1, longest + 1):
        slots = _slots(visible, k)
        if slots is None:
            continue
        before, after = slots[(hole - 1) % k], slots[hole % k]
        left = visible[hole - 1]
        for step in before if left is not None else ():
            value = apply(step, left)  # type: ignore[arg-type]
            if hole == len(visible) - 1:
                found.add(value)
                continue
            follow = [step] if (hole - 1) % k == hole % k else after
            if any(apply(s, value) == visible[hole + 1] for s in follow):
                found.add(value)
    return found


def _slots(visible: list[int | None], k: int) -> list[list[tuple[str, int]]] | None:
    """Return the steps allowed at each place of a k-cycle, or None if no k-cycle fits."""
    slots = [list(STEPS) for _ in range(k)]
    for i, (a, b) in enumerate(pairwise(visible)):
        if a is None or b is None:
            continue
        slots[i % k] = [s for s in slots[i % k] if apply(s, a) == b]
        if not slots[i % k]:
            return None
    return slots


def draft(rng: Random, level: int) -> Draft:
    """Draw one sequence with a gap that the stated class determines."""
    shape = LEVELS[level]
    longest = shape.period[1] + 1
    while True:
        # The longer cycle three times out of four: a constant step is no induction.
        k = shape.period[0] if rng.random() < 0.25 else shape.period[1]
        cycle = [rng.choice(STEPS) for _ in range(k)]
        if any(cycle[i:] + cycle[:i] == cycle for i in range(1, k)):
            continue  # its true period is shorter
        full = [rng.randint(1, 60) if level < 3 else rng.randint(1, 9)]
        for i in range(2 * k + rng.randint(2, k + 2)):
            full.append(apply(cycle[i % k], full[-1]))
        if max(map(abs, full)) > shape.limit or len(set(full)) < len(full) // 2:
            continue
        hole = len(full) - 1 if rng.random() < 0.5 else rng.randint(2, len(full) - 2)
        visible: list[int | None] = list(full)
        visible[hole] = None
        if answers(visible, longest) == {full[hole]}:
            break
    terms = " ".join("?" if v is None else str(v) for v in visible)
    return Draft(
        prompt=f"Sequence: {terms}\nLongest cycle: {longest}",
        answer=str(full[hole]),
        canonical=terms,
        data={"visible": visible, "longest": longest, "cycle": cycle},
        certificate={"answers": 1, "period": k},
    )


def grade(answer: str, item: Item) -> Verdict:
    """Accept the one number the class allows."""
    return grade_number(answer, int(item.answer))


def certify(item: Item) -> bool:
    """Enumerate every cycle of the class, forwards from the first number; compare the gap."""
    visible: list[Any] = item.data["visible"]  # the first is never the gap
    longest = int(item.data["longest"])
    hole = visible.index(None)
    found: set[int] = set()
    for k in range(1, longest + 1):
        frontier: list[tuple[tuple[tuple[str, int], ...], list[int]]] = [((), [visible[0]])]
        for i in range(len(visible) - 1):
            grown = []
            for cycle, values in frontier:
                options = STEPS if len(cycle) <= i % k and i < k else (cycle[i % k],)
                for step in options:
                    value = apply(step, values[-1])
                    if visible[i + 1] in (None, value):
                        grown.append(((*cycle, step) if i < k else cycle, [*values, value]))
            frontier = grown
        found |= {values[hole] for _, values in frontier}
    return found == {int(item.answer)}


def _neighbours(item: Item) -> tuple[int, int, int | None]:
    visible = list(item.data["visible"])
    hole = visible.index(None)
    return visible[hole - 2], visible[hole - 1], (visible[hole + 1 :] or [None])[0]


def _last_difference(item: Item) -> str:
    """Add the difference of the two numbers before the gap once more."""
    a, b, _ = _neighbours(item)
    return str(2 * b - a)


def _middle(item: Item) -> str:
    """Take the middle of the gap's neighbours, or repeat the last difference at the end."""
    _, b, c = _neighbours(item)
    return _last_difference(item) if c is None else str((b + c) // 2)


register(
    Task(
        name="induction",
        alias="ind",
        version="v1",
        levels=tuple(LEVELS),
        instructions=(
            "The sequence is made by a cycle of steps, repeated: each step adds 1 to 4, "
            "subtracts 1 to 4 or multiplies by 2 to 4, and the cycle is no longer than stated. "
            "Find the number at the question mark. Answer like <answer>10</answer>."
        ),
        draw=draft,
        grade=grade,
        certify=certify,
        # One of the eleven steps; at level 1 most cycles are one step, which two numbers show.
        chance=dict.fromkeys(LEVELS, 0.10) | {1: 0.35},
        baselines={
            "repeat the last": lambda item: str(_neighbours(item)[1]),
            "last difference": _last_difference,
            "middle of neighbours": _middle,
        },
    )
)
