"""Letters and interleaved: induction on a ring of letters, and on two cycles that take turns.

The paper promises symbolic patterns as well as numeric ones (arXiv 2505.10554). Both are
induction's enumerator on other walks: 26 letters round which each step moves 1 to 9 places either
way, and two strands of numbers, of which the one with the gap alone tells the gap.
The class is stated in the prompt as there, every rule of it agrees, two full cycles are shown.
Unlike there no cycle is a constant step, so that chance stays low from level 1 on.
"""

import re

from evals.answers import Verdict
from evals.task import Item, Task, register
from evals.tasks.induction import Level, Walk, blind, certify, grade, pose

RING = Walk(tuple((sign, v) for sign in "+-" for v in range(1, 10)), ring=26)
_PERIODS = {1: (2, 2), 2: (2, 3), 3: (3, 4), 4: (4, 5), 5: (5, 6)}
LETTERS = {level: Level(period, 25, (0, 25)) for level, period in _PERIODS.items()}
STRANDS = {
    1: Level((2, 2), 99, (1, 60)),
    2: Level((2, 3), 199, (1, 60)),
    3: Level((3, 3), 999),
    4: Level((3, 4), 9_999),
    5: Level((4, 5), 9_999),
}
_LETTER = re.compile(r"(?:.*=)?[\s$'\"`.]*(?:\\boxed\{)?([A-Za-z])[\s$'\"`.}]*", re.DOTALL)


def spell(place: int) -> str:
    """Return the letter at a place of the ring; A is 0."""
    return chr(ord("A") + place % 26)


def grade_letter(answer: str, item: Item) -> Verdict:
    """Accept the one letter the class allows, large or small, in a box or after an equals sign."""
    found = _LETTER.fullmatch(answer)
    return Verdict(bool(found), bool(found and found[1].upper() == item.answer))


register(
    Task(
        name="letters",
        alias="let",
        version="v1",
        levels=tuple(LETTERS),
        instructions=(
            "The sequence is made by a cycle of shifts, repeated: each shift moves 1 to 9 places "
            "forwards or backwards in the alphabet, in which A follows Z, and the cycle is no "
            "longer than stated. Find the letter at the question mark. Answer like "
            "<answer>K</answer>."
        ),
        draw=lambda rng, level: pose(rng, LETTERS[level], RING, spell=spell),
        grade=grade_letter,
        certify=lambda item: certify(item, RING, spell=spell),
        chance=dict.fromkeys(LETTERS, 1 / len(RING.steps)),
        baselines=blind(spell=spell),
    )
)
register(
    Task(
        name="interleaved",
        alias="inter",
        version="v1",
        levels=tuple(STRANDS),
        instructions=(
            "Two sequences take turns: the 1st, 3rd, 5th … number belong to one, the 2nd, 4th, "
            "6th … to the other. Each is made by its own cycle of steps, repeated: each step adds "
            "1 to 4, subtracts 1 to 4 or multiplies by 2 to 4, and each cycle is no longer than "
            "stated. Find the number at the question mark. Answer like <answer>10</answer>."
        ),
        draw=lambda rng, level: pose(rng, STRANDS[level], turns=2),
        grade=grade,
        certify=lambda item: certify(item, turns=2),
        chance=dict.fromkeys(STRANDS, 0.10),  # one of the eleven steps
        baselines=blind() | {f"{name}, every other": say for name, say in blind(2).items()},
    )
)
