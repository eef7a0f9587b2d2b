"""Tasks of reasoning-gym behind a fence (extra `gym`), as `gym:NAME`, wherever a task is named.

Departures from the library, whose data and scorers have holes: only tasks of a list that was
checked (scorers that execute no model text and give no point for junk); an item is drawn from the
hash of its address, where the library's item i of seed s is item i + 1 of seed s - 1; splits by the
hash of the question; right or wrong, no credit for likeness; scorers run under limits. Levels 1 to
3 are those of its curricula; a task without one has level 1, its default.
"""

import json
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from random import Random
from typing import Any

from evals.answers import Verdict
from evals.limited import limited
from evals.task import Draft, Item, Task
from merger.errors import EvalError
from merger.registry import unknown

PREFIX = "gym:"
MATH = (
    *("chain_sum", "products", "gcd", "lcm", "fraction_simplification", "basic_arithmetic"),
    *("decimal_chain_sum", "simple_equations", "polynomial_equations", "simple_geometry"),
    *("count_primes", "base_conversion", "time_intervals", "dice", "gsm_symbolic"),
)
LOGIC = (
    *("knights_knaves", "syllogism", "zebra_puzzles", "circuit_logic", "self_reference"),
    *("family_relationships", "aiw", "mini_sudoku", "acre"),
)
_LONGEST = 400  # characters of an answer; the longest right one has some 60
_RIGHT = 0.999


@cache
def gym_task(name: str) -> Task:
    """Return a task by its name after `gym:`; raises where it is not on the list."""
    if name not in MATH + LOGIC:
        raise unknown("task of the checked list of reasoning-gym", name, MATH + LOGIC)
    try:
        release = version("reasoning-gym")
    except PackageNotFoundError as missing:
        remedy = "Install it: pip install 'merger[gym]'"
        raise EvalError(f"{PREFIX}{name} needs the package reasoning-gym", remedy) from missing
    from reasoning_gym.factory import has_curriculum

    return Task(
        name=PREFIX + name,
        alias=PREFIX + name,
        version=release,
        levels=(1, 2, 3) if has_curriculum(name) else (1,),
        instructions="",
        draw=partial(_draw, name),
        grade=grade,
        certify=lambda item: right(name, item.answer, item.data["entry"]),
        baselines={},
    )


def _draw(name: str, rng: Random, level: int) -> Draft:
    entry = _dataset(name, level, rng.getrandbits(32))[0]
    text = json.dumps(entry, sort_keys=True, default=str)
    return Draft(entry["question"], str(entry["answer"]), entry["question"], {"entry": text})


def _dataset(name: str, level: int, seed: int) -> Any:
    from reasoning_gym.factory import create_curriculum, create_dataset, has_curriculum

    if not has_curriculum(name):
        return create_dataset(name, seed=seed, size=1)
    curriculum = create_curriculum(name)
    curriculum.set_global_level(level - 1)
    config = curriculum.generate_configuration({"seed": seed, "size": 1})
    return create_dataset(name, **vars(config))


def grade(answer: str, item: Item) -> Verdict:
    """Judge an answer by the task's own scorer, all or nothing, under limits."""
    if len(answer) > _LONGEST:
        return Verdict(parsed=False, correct=False)
    name = item.task.removeprefix(PREFIX)
    said = limited("reasoning_gym", right, name, answer.strip(), item.data["entry"])
    return Verdict(parsed=said is not None, correct=bool(said))


def right(name: str, answer: str, entry: str) -> bool:
    """Ask the library's scorer about an answer to an entry (as JSON)."""
    return float(_dataset(name, 1, 0).score_answer(answer, json.loads(entry))) >= _RIGHT
