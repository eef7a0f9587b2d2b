"""Abduction with the paper authors' shortcut: what is asked for is printed among what is given.

In their files (arXiv 2505.10554) a goal is reachable exactly when it is listed among the known
atoms, so that no rule need be read. Here an item of abduction v1 gets its goal added to its
candidates: the smallest set that gives the goal is then the goal itself. The labels are sound, as
theirs are, and the rules are those of v1. For experiments with that shortcut
(recipes/shortcut.yaml), not for training: it stands in no list of tasks.
"""

from dataclasses import replace
from random import Random

from evals.task import TASKS, Draft, Item, register
from evals.tasks import abduction


def draft(rng: Random, level: int) -> Draft:
    """Draw an item of v1 that needs two candidates or more, and list its goal as one."""
    v1 = abduction.draft(rng, level)
    while " " not in v1.answer:
        v1 = abduction.draft(rng, level)
    goals = list(v1.data["goals"])
    data = {**v1.data, "candidates": sorted([*v1.data["candidates"], *goals])}
    return abduction.pose(data, " ".join(goals), {"minimal": [goals]})


def listed(item: Item) -> str:
    """Name the goals that are candidates, and read no rule."""
    return " ".join(goal for goal in item.data["goals"] if goal in item.data["candidates"])


_V1 = TASKS["abduction"]
register(
    replace(
        _V1,
        name="abduction-v0",
        version="v0",
        levels=(1,),
        draw=draft,
        baselines={**_V1.baselines, "a goal that is a candidate": listed},
    ),
    listed=False,
)
