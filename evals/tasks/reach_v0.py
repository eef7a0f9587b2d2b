"""Reach with the paper authors' shortcut: a goal is reachable exactly when it is listed as a fact.

For experiments with that shortcut (recipes/shortcut.yaml), not for training: it stands in no list
of tasks. Drawn in our own notation as the audit found their abduction files to be (arXiv
2505.10554, level 1): three goals, one of them a fact, the others in no rule; five or six rules,
nearly all atoms of their bodies facts. The labels are what follows, as theirs are, but no rule is
needed to find them. Departure: their conditions may hold OR and NOT.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from evals.task import Draft, register
from evals.tasks.abduction import NAMES
from evals.tasks.horn import Rule
from evals.tasks.reach import REACH, pose, proved

# Rules and known atoms, from and to.
_RULES, _KNOWN = (5, 6), (4, 6)


def draft(rng: Random, level: int) -> Draft:
    """Draw rules over known atoms, one of which is a goal, and two goals that no rule names."""
    atoms = rng.sample(NAMES[level], _KNOWN[1] + 4)
    far, extra, known = atoms[:2], atoms[2:4], atoms[4 : 4 + rng.randint(*_KNOWN)]
    rules: list[Rule] = []
    size = rng.randint(*_RULES)
    while len(rules) < size:
        body = rng.sample(known, rng.choice((1, 2, 2, 3)))
        if rng.random() < 0.03:
            body[0] = extra[1]
        head = rng.choice([*known, extra[0]])
        if head not in body and (tuple(body), head) not in rules:
            rules.append((tuple(body), head))
    heads = [head for _, head in rules if head in known]
    goals = [*far, rng.choice(heads or known)]
    rng.shuffle(goals)
    return pose(rules, sorted(known), goals, [goal in known for goal in goals])


register(
    replace(
        REACH,
        name="reach-v0",
        alias="reach-v0",
        version="v0",
        levels=(1,),
        draw=draft,
        certify=proved,
        chance={1: 1 / 3},
    ),
    listed=False,
)
