"""Induction: the missing number of a sequence made by a cycle of steps.

The class of rules is stated in the prompt (a cycle of at most K steps, each +1..4, -1..4 or x2..4),
at least two full cycles are shown, and an instance is accepted only if *every* rule of the class
that fits the visible numbers puts the same number into the gap: well posed without an appeal to
simplicity. The authors' data shows a step that is never seen in 20 to 100 % of the items of its
released generator. The gap may be the last number or an inner one. Certified by enumerating the
whole class. A `Walk` is an alphabet of steps; `sequences` poses other walks and strands of them.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain, pairwise, zip_longest
from random import Random
from typing import NamedTuple

from evals.answers import Verdict, grade_number
from evals.task import Draft, Item, Task, register

Step = tuple[str, int]
Terms = list[int | None]
Baseline = Callable[[Item], str]


class Walk(NamedTuple):
    """The steps a cycle may have, and the size of the ring they go round (0: they go straight)."""

    steps: tuple[Step, ...]
    ring: int = 0

    def apply(self, step: Step, x: int) -> int:
        """Apply one step to a number."""
        sign, v = step
        y = x + v if sign == "+" else x - v if sign == "-" else x * v
        return y % self.ring if self.ring else y

    def fitting(self, a: int, b: int) -> list[Step]:
        """Return the steps that lead from a to b."""
        return [s for s in self.steps if self.apply(s, a) == b]


NUMBERS = Walk(tuple((s, v) for s, low in (("+", 1), ("-", 1), ("×", 2)) for v in range(low, 5)))


class Level(NamedTuple):
    """Length of the cycle (from, to), the largest absolute value, the first number (from, to)."""

    period: tuple[int, int]
    limit: int
    start: tuple[int, int] = (1, 9)


LEVELS = {
    1: Level((1, 2), 99, (1, 60)),
    2: Level((2, 3), 199, (1, 60)),
    3: Level((3, 4), 999),
    4: Level((4, 5), 9_999),
    5: Level((5, 6), 9_999),
}


def answers(visible: Terms, longest: int, walk: Walk = NUMBERS) -> set[int]:
    """Return every number that some rule with a cycle of at most `longest` steps allows."""
    hole, every = visible.index(None), set(walk.steps)
    left, right = visible[hole - 1], (visible[hole + 1 :] or [None])[0]
    fits = [
        every if a is None or b is None else set(walk.fitting(a, b)) for a, b in pairwise(visible)
    ]
    found: set[int] = set()
    for k in range(1, longest + 1):
        slots = [every.intersection(*fits[i::k]) for i in range(k)]  # the steps for each place
        if left is None or not all(slots):
            continue
        for step in slots[(hole - 1) % k]:
            value = walk.apply(step, left)
            follow = {step} if k == 1 else slots[hole % k]
            if right is None or any(walk.apply(s, value) == right for s in follow):
                found.add(value)
    return found


def _strand(rng: Random, shape: Level, walk: Walk) -> tuple[list[Step], list[int]]:
    """Draw a cycle and the terms it makes: two full cycles and some more."""
    while True:
        # The longer cycle three times out of four: a constant step is no induction.
        k = shape.period[0] if rng.random() < 0.25 else shape.period[1]
        cycle = [rng.choice(walk.steps) for _ in range(k)]
        if any(cycle[i:] + cycle[:i] == cycle for i in range(1, k)):
            continue  # its true period is shorter
        full = [rng.randint(*shape.start)]
        for i in range(2 * k + rng.randint(2, k + 2)):
            full.append(walk.apply(cycle[i % k], full[-1]))
        if max(map(abs, full)) <= shape.limit and len(set(full)) >= len(full) // 2:
            return cycle, full


def pose(
    rng: Random,
    shape: Level,
    walk: Walk = NUMBERS,
    turns: int = 1,
    spell: Callable[[int], str] = str,
) -> Draft:
    """Draw `turns` strands that take turns, with a gap that the stated class determines."""
    longest = shape.period[1] + 1
    while True:
        strands = [_strand(rng, shape, walk) for _ in range(turns)]
        lengths = [len(terms) for _, terms in strands]
        if lengths != sorted(lengths, reverse=True) or lengths[0] > lengths[-1] + 1:
            continue  # the first strand may have one more: it begins
        mixed = chain.from_iterable(zip_longest(*(terms for _, terms in strands)))
        full = [v for v in mixed if v is not None]
        hole = len(full) - 1 if rng.random() < 0.5 else rng.randint(2 * turns, len(full) - 2)
        visible: Terms = list(full)
        visible[hole] = None
        if answers(visible[hole % turns :: turns], longest, walk) == {full[hole]}:
            break
    cycle, _ = strands[hole % turns]
    terms = " ".join("?" if v is None else spell(v) for v in visible)
    return Draft(
        prompt=f"Sequence: {terms}\nLongest cycle: {longest}",
        answer=spell(full[hole]),
        canonical=terms,
        data={"visible": visible, "longest": longest, "cycle": cycle},
        certificate={"answers": 1, "period": len(cycle)},
    )


def grade(answer: str, item: Item) -> Verdict:
    """Accept the one number the class allows."""
    return grade_number(answer, int(item.answer))


def certify(
    item: Item, walk: Walk = NUMBERS, turns: int = 1, spell: Callable[[int], str] = str
) -> bool:
    """Enumerate every cycle of the class along each strand; they put one term into the gap."""
    longest, hole = int(item.data["longest"]), list(item.data["visible"]).index(None)
    strands = [list(item.data["visible"])[i::turns] for i in range(turns)]
    made = [_enumerate(strand, longest, walk) for strand in strands]
    found = {values[hole // turns] for values in made[hole % turns]}
    return all(made) and {spell(v) for v in found} == {item.answer}


def _enumerate(visible: Terms, longest: int, walk: Walk) -> list[list[int]]:
    """Return what every cycle of the class makes, forwards from the first term, never the gap."""
    made: list[list[int]] = []
    for k in range(1, longest + 1):
        frontier: list[tuple[tuple[Step, ...], list[int]]] = [((), [visible[0] or 0])]
        for i in range(len(visible) - 1):
            grown = []
            for cycle, values in frontier:
                options = walk.steps if i < k else (cycle[i % k],)
                for step in options:
                    value = walk.apply(step, values[-1])
                    if visible[i + 1] in (None, value):
                        grown.append(((*cycle, step) if i < k else cycle, [*values, value]))
            frontier = grown
        made += [values for _, values in frontier]
    return made


def blind(turns: int = 1, spell: Callable[[int], str] = str) -> dict[str, Baseline]:
    """Return strategies that look at the gap's neighbours in its strand and at nothing else."""

    def guess(rule: Callable[[int, int, int | None], int], item: Item) -> str:
        hole = list(item.data["visible"]).index(None)
        strand, at = list(item.data["visible"])[hole % turns :: turns], hole // turns
        return spell(rule(strand[at - 2], strand[at - 1], (strand[at + 1 :] or [None])[0]))

    return {
        "repeat the last": partial(guess, lambda _, b, __: b),
        "last difference": partial(guess, lambda a, b, _: 2 * b - a),
        # At the end, where there is no middle, the last difference once more.
        "middle of neighbours": partial(
            guess, lambda a, b, c: 2 * b - a if c is None else (b + c) // 2
        ),
    }


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
        draw=lambda rng, level: pose(rng, LEVELS[level]),
        grade=grade,
        certify=certify,
        # One of the eleven steps; at level 1 most cycles are one step, which two numbers show.
        chance=dict.fromkeys(LEVELS, 0.10) | {1: 0.35},
        baselines=blind(),
    )
)
