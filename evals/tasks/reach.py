"""Reach: which goals follow from facts by Horn rules; the form of the authors' abduction, mended.

In their data a goal is reachable exactly when it is printed among the known atoms (arXiv
2505.10554). Here no goal is a fact, every goal is the head of a rule, and each is reachable or not
by the fall of a coin, drawn before the facts are. The graph is grown as for abduction; facts are
drawn among its leaves until what follows is what the coins said, and until the rules next to a goal
tell nothing: their atoms are facts or heads either way. Certified by SAT, goal by goal.
"""

import re
from collections.abc import Sequence
from random import Random

from evals.answers import Verdict
from evals.task import Draft, Item, Task, register
from evals.tasks import abduction
from evals.tasks.abduction import LEVELS, Graph, grow
from evals.tasks.horn import Rule, derive, follows_by_sat

GOALS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 4}
_WORDS = {True: "reachable", False: "unreachable"}
_PAIR = re.compile(r"\b([A-Za-z]{2})\s*(?:=|:|\bis\b)\s*(reachable|unreachable)\b", re.IGNORECASE)


def draft(rng: Random, level: int) -> Draft:
    """Draw one instance whose goals follow, or do not, as the coins fell."""
    coins = [rng.random() < 0.5 for _ in range(GOALS[level])]
    while True:
        graph = grow(rng, LEVELS[level]._replace(goals=len(coins)), level)
        facts = _facts(rng, graph, coins)
        if facts is None:
            continue
        # Goals with more rules follow more often; such items are thinned, not removed.
        often = _often(graph.rules)
        if [goal in often for goal in graph.goals] != coins or rng.random() < 0.6:
            break
    rng.shuffle(graph.rules)
    return pose(graph.rules, facts, graph.goals, coins)


def pose(rules: list[Rule], facts: list[str], goals: list[str], follows: list[bool]) -> Draft:
    """Return the question, its answer and its canonical form."""
    answer = " ".join(f"{g}={_WORDS[f]}" for g, f in zip(goals, follows, strict=True))
    data = {"rules": rules, "facts": facts, "goals": goals}
    return abduction.pose(data, answer, {"reachable": sum(follows)})


def _facts(rng: Random, graph: Graph, coins: list[bool]) -> list[str] | None:
    """Draw facts under which what follows is what the coins said; None when none is found soon."""
    leaves = [a for a in (*graph.facts, *graph.candidates) if a not in graph.goals]
    for _ in range(20):
        share = rng.uniform(0.4, 0.9)
        facts = sorted(atom for atom in leaves if rng.random() < share)
        reached = derive(graph.rules, facts)
        near = _supported(graph.rules, facts)
        if [goal in reached for goal in graph.goals] == coins and near.issuperset(graph.goals):
            return facts
    return None


def grade(answer: str, item: Item) -> Verdict:
    """Accept the right word for every goal, in any order, and nothing twice."""
    pairs = [(name.capitalize(), word.lower()) for name, word in _PAIR.findall(answer)]
    if sorted(name for name, _ in pairs) != sorted(item.data["goals"]):
        return Verdict(parsed=False, correct=False)
    right = dict(pair.split("=") for pair in item.answer.split())
    return Verdict(parsed=True, correct=dict(pairs) == right)


def certify(item: Item) -> bool:
    """Prove each label by SAT; no goal is a fact, each is a head."""
    facts, heads = item.data["facts"], {head for _, head in item.data["rules"]}
    return all(
        follows_by_sat(item.data, goal) == (word == _WORDS[True])
        and goal in heads
        and goal not in facts
        for goal, word in (pair.split("=") for pair in item.answer.split())
    )


def _say(item: Item, reachable: set[str]) -> str:
    return " ".join(f"{goal}={_WORDS[goal in reachable]}" for goal in item.data["goals"])


def _supported(rules: Sequence[Rule], facts: Sequence[str]) -> set[str]:
    """Return the heads of rules whose atoms are all facts or heads themselves."""
    known = {head for _, head in rules} | set(facts)
    return {head for body, head in rules if set(body) <= known}


def _often(rules: Sequence[Rule]) -> set[str]:
    """Return the heads of more than one rule."""
    heads = [head for _, head in rules]
    return {head for head in heads if heads.count(head) > 1}


register(
    Task(
        name="reach",
        alias="reach",
        version="v1",
        levels=tuple(LEVELS),
        instructions=(
            "A rule `X Y → Z` says that X and Y together give Z. Say for every goal whether the "
            "facts and the rules give it. Answer like <answer>Ba=reachable Ce=unreachable</answer>."
        ),
        draw=draft,
        grade=grade,
        certify=certify,
        chance={level: 0.5**goals for level, goals in GOALS.items()},
        baselines={
            "all reachable": lambda item: _say(item, set(item.data["goals"])),
            "all unreachable": lambda item: _say(item, set()),
            "a known atom": lambda item: _say(item, set(item.data["facts"])),
            "head of several rules": lambda item: _say(item, _often(item.data["rules"])),
            "all of a body known": lambda item: _say(
                item, _supported(item.data["rules"], item.data["facts"])
            ),
        },
    )
)
