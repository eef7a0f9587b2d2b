"""Reach: which goals follow from facts by Horn rules; the form of the authors' abduction, mended.

In their data a goal is reachable exactly when it is printed among the known atoms (arXiv
2505.10554). Here no goal is a fact, every goal is the head of a rule, and each is reachable or not
by the fall of a coin, drawn before the facts are. The graph is grown as for abduction; facts are
drawn among its leaves until what follows is what the coins said, and until the rules next to a goal
tell nothing: their atoms are facts or heads either way. Certified by SAT, goal by goal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from evals.answers import Verdict
from evals.task import Draft, Item, Task, register
from evals.tasks.abduction import LEVELS, Graph, canonical_form, grow
from evals.tasks.horn import Rule, derive, follows_by_sat

GOALS = {1: 2, 2: 2, 3: 3, 4: 3, 5: 4}
_WORDS = {True: "reachable", False: "unreachable"}
_PAIR = re.compile(r"\b([A-Za-z]{2})\s*(?:=|:|\bis\b)\s*(reachable|unreachable)\b", re.IGNORECASE)


def draft(rng: Random, level: int) -> Draft:
    """Draw one instance whose goals follow, or do not, as the coins fell."""
    coins = [rng.random() < 0.5 for _ in range(GOALS[level])]
    while True:
        graph, goals = grow(rng, LEVELS[level]._replace(goals=len(coins)), level)
        leaves = [a for a in (*graph.facts, *graph.candidates) if a not in goals]
        facts = _facts(rng, graph, goals, leaves, coins)
        if facts is None:
            continue
        # Goals with more rules follow more often; such items are thinned, not removed.
        by_number = [goal in _often(graph.rules) for goal in goals] == coins
        if not by_number or rng.random() < 0.6:
            break
    rng.shuffle(graph.rules)
    rules: list[Rule] = [(tuple(body), head) for body, head in graph.rules]
    lines = [
        "Facts: " + (" ".join(facts) or "none"),
        "Rules:",
        *(f"{i}. {' '.join(body)} → {head}" for i, (body, head) in enumerate(rules, 1)),
        "Goals: " + " ".join(goals),
    ]
    answer = " ".join(f"{g}={_WORDS[c]}" for g, c in zip(goals, coins, strict=True))
    data = {"rules": rules, "facts": facts, "goals": goals}
    form = canonical_form(rules, facts, [], goals, None)
    return Draft("\n".join(lines), answer, form, data, {"reachable": sum(coins)})


def _facts(
    rng: Random, graph: Graph, goals: list[str], leaves: list[str], coins: list[bool]
) -> list[str] | None:
    """Draw facts under which what follows is what the coins said; None when none is found soon."""
    for _ in range(20):
        share = rng.uniform(0.4, 0.9)
        facts = sorted(atom for atom in leaves if rng.random() < share)
        reached = derive(graph.rules, facts)
        near = _supported(graph.rules, facts)
        if [goal in reached for goal in goals] == coins and near.issuperset(goals):
            return facts
    return None


def grade(answer: str, item: Item) -> Verdict:
    """Accept the right word for every goal, in any order, and nothing twice."""
    said = {name.capitalize(): word.lower() for name, word in _PAIR.findall(answer)}
    if sorted(said) != sorted(item.data["goals"]) or len(_PAIR.findall(answer)) != len(said):
        return Verdict(parsed=False, correct=False)
    right = dict(pair.split("=") for pair in item.answer.split())
    return Verdict(parsed=True, correct=said == right)


def certify(item: Item) -> bool:
    """Prove each label by SAT; no goal is a fact, each is a head."""
    rules = [(tuple(body), head) for body, head in item.data["rules"]]
    facts, heads = item.data["facts"], {head for _, head in rules}
    return all(
        follows_by_sat(rules, facts, goal) == (word == _WORDS[True])
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
