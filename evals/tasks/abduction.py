"""Abduction: the smallest set of candidate hypotheses that explains the goals.

Horn rules, facts, goals, candidates and, from level 2, a forbidden atom that the explanation must
not entail. The rule graph is grown backwards from the goals; depth, goals, distractor rules and the
chance of cycles follow the paper's table (arXiv 2505.10554, section 3.1). All subset-minimal
explanations are enumerated; an item has exactly one of the smallest size, and from level 2 a second
derivation is grown on purpose so that "smallest" is really tested. No goal is a fact, a candidate
or free. In the authors' data a goal is reachable exactly when it is printed among the known atoms,
so nothing need be inferred. Certified by SAT over candidate sets of growing size.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from evals.answers import Verdict
from evals.task import Draft, Item, Task, register
from evals.tasks.horn import Rule, derive, explain, join, smallest_by_sat


class Level(NamedTuple):
    """Depth (from, to), goals, distractor rules (from, to), chance of a cycle at a node."""

    depth: tuple[int, int]
    goals: int
    distractors: tuple[int, int]
    cycle: float


LEVELS = {
    1: Level((2, 3), 1, (3, 5), 0.10),
    2: Level((3, 4), 2, (5, 7), 0.15),
    3: Level((4, 5), 2, (7, 9), 0.20),
    4: Level((5, 6), 3, (8, 10), 0.25),
    5: Level((6, 7), 3, (10, 12), 0.30),
}
# Pronounceable atoms without collisions; the first level needs few and keeps to two vowels.
NAMES = {
    level: tuple(c + v for c in "BCDFGHJKLMNPQRSTVWXZ" for v in ("ae" if level == 1 else "aeiou"))
    for level in LEVELS
}


@dataclass
class Graph:
    """A knowledge base while it is grown."""

    rng: Random
    cycle: float
    pool: list[str]
    rules: list[Rule] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    shared: list[str] = field(default_factory=list)

    def grow(self, head: str, depth: int, path: tuple[str, ...]) -> None:
        """Give an atom a derivation of this depth; leaves become candidates or facts."""
        rng = self.rng
        if depth == 0:
            (self.candidates if rng.random() < 0.6 else self.facts).append(head)
            return
        main = self.pool.pop()
        todo = [(main, depth - 1)]
        body = [main]
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            if self.shared and rng.random() < 0.35:
                body.append(rng.choice(self.shared))
                continue
            side = self.pool.pop()
            body.append(side)
            todo.append((side, 0))
        body = [b for b in dict.fromkeys(body) if b not in path]
        rng.shuffle(body)
        self.rules.append((tuple(body), head))
        for atom, rest in todo:
            if atom in body:
                self.grow(atom, rest, (*path, head))
        self.shared.append(main)
        if rng.random() < self.cycle and len(path) > 1:
            self.rules.append(
                ((rng.choice(path),), main)
            )  # an ancestor would derive its own support

    def distract(self, n: int) -> None:
        """Add rules that share symbols with the real ones, and candidates that explain nothing."""
        rng = self.rng
        atoms = list(dict.fromkeys(a for body, head in self.rules for a in (head, *body)))
        extra = [self.pool.pop() for _ in range(3)]
        self.candidates += extra[:2]
        for _ in range(n):
            body = tuple(rng.sample(atoms + extra, rng.choice((1, 2, 2, 3))))
            head = rng.choice([*atoms, *extra, self.pool.pop()])
            if head not in body and head not in self.facts:
                self.rules.append((body, head))


def grow(rng: Random, shape: Level, level: int) -> tuple[Graph, list[str]]:
    """Grow a graph for the goals, with a second derivation of one inner atom from level 2."""
    graph = Graph(rng, shape.cycle, rng.sample(NAMES[level], len(NAMES[level])))
    goals = [graph.pool.pop() for _ in range(shape.goals)]
    for goal in goals:
        graph.grow(goal, rng.randint(*shape.depth), (goal,))
    if level >= 2:
        inner = rng.choice([head for _, head in graph.rules])
        graph.grow(inner, rng.randint(1, 2), (inner,))
    graph.distract(rng.randint(*shape.distractors))
    graph.facts = list(dict.fromkeys(graph.facts))
    graph.candidates = [c for c in dict.fromkeys(graph.candidates) if c not in graph.facts]
    graph.rules = list(dict.fromkeys(graph.rules))
    return graph, goals


def _explanations(
    labels: dict[str, list[int]], goals: list[str], forbidden: str | None
) -> list[int] | None:
    """Return all minimal explanations, forbidden ones taken out; None when the labels explode."""
    found = join([labels[goal] for goal in goals])
    if found is None or forbidden is None:
        return found
    bad = labels.get(forbidden, [])
    return [mask for mask in found if not any(b & mask == b for b in bad)]


def _accept(rng: Random, level: int) -> tuple[Graph, list[str], str | None, list[int]] | None:
    """Draw once; return the instance when it is well posed, else None."""
    graph, goals = grow(rng, LEVELS[level], level)
    if not 2 <= len(graph.candidates) <= 14:
        return None
    free = derive(graph.rules, graph.facts)
    if any(goal in free or goal in graph.candidates for goal in goals):
        return None
    labels = explain(graph.rules, graph.facts, graph.candidates)
    if labels is None or any(goal not in labels for goal in goals):
        return None
    every = _explanations(labels, goals, None)
    if not every or len(every) > 6:
        return None
    forbidden = None
    if level >= 2:
        known = {*goals, *graph.facts, *graph.candidates}
        heads = dict.fromkeys(head for _, head in graph.rules if head not in known)
        options = [h for h in heads if h not in free]
        rng.shuffle(options)
        for option in options:  # one that rules something out is best, any other will do
            left = _explanations(labels, goals, option)
            if left and (len(left) < len(every) or len(every) == 1):
                forbidden, every = option, left
                break
    smallest = [m for m in every if m.bit_count() == every[0].bit_count()]
    if len(smallest) != 1 or every[0].bit_count() < min(level, 2):
        return None
    return graph, goals, forbidden, every


def _shortcut(graph: Graph, goals: list[str], mask: int) -> bool:
    """Say whether naming the candidates in goal rules, or in any rule, would be the answer."""
    answer = {c for i, c in enumerate(graph.candidates) if mask >> i & 1}
    near = {atom for body, head in graph.rules if head in goals for atom in body}
    used = {atom for body, _ in graph.rules for atom in body}
    names = set(graph.candidates)
    return answer in (near & names, used & names)


def draft(rng: Random, level: int) -> Draft:
    """Draw one instance with exactly one smallest explanation."""
    # From level 2 at least half of the items must have a rival: minimal, but larger.
    rivals = level >= 2 and rng.random() < 0.6
    while True:
        found = _accept(rng, level)
        if found is None or (rivals and len(found[3]) < 2):
            continue
        graph, goals, forbidden, masks = found
        if not _shortcut(graph, goals, masks[0]) or rng.random() < 0.2:
            break  # thinned, not removed: their absence would be a hint too
    rng.shuffle(graph.rules)
    facts, candidates = sorted(graph.facts), sorted(graph.candidates)
    sets = [sorted(c for i, c in enumerate(graph.candidates) if mask >> i & 1) for mask in masks]
    lines = [
        "Facts: " + (" ".join(facts) or "none"),
        "Rules:",
        *(f"{i}. {' '.join(body)} → {head}" for i, (body, head) in enumerate(graph.rules, 1)),
        "Candidates: " + " ".join(candidates),
        "Goals: " + " ".join(goals),
    ]
    if forbidden:
        lines.append(f"Forbidden: {forbidden}")
    rules: list[Rule] = [(tuple(body), head) for body, head in graph.rules]
    data = {
        "rules": rules,
        "facts": facts,
        "candidates": candidates,
        "goals": goals,
        "forbidden": forbidden,
    }
    canonical = canonical_form(rules, facts, candidates, goals, forbidden)
    return Draft("\n".join(lines), " ".join(sets[0]), canonical, data, {"minimal": sets})


def canonical_form(
    rules: list[Rule],
    facts: list[str],
    candidates: list[str],
    goals: list[str],
    forbidden: str | None,
) -> str:
    """Return the instance with atoms renamed in the order met when walking back from the goals."""
    order = dict.fromkeys(goals)
    for _ in range(len(rules) + 1):
        for atom in list(order):
            bodies = [body for body, head in rules if head == atom]
            for body in sorted(bodies, key=lambda b: (len(b), b)):
                order.update(dict.fromkeys(sorted(body)))
    order.update(dict.fromkeys(sorted(a for body, head in rules for a in (*body, head))))
    order.update(dict.fromkeys([*facts, *candidates, *([forbidden] if forbidden else [])]))
    name = {atom: f"a{i}" for i, atom in enumerate(order)}
    parts = [
        ";".join(
            sorted(f"{'+'.join(sorted(name[b] for b in body))}>{name[h]}" for body, h in rules)
        ),
        *(" ".join(sorted(name[a] for a in group)) for group in (facts, candidates, goals)),
        name[forbidden] if forbidden else "",
    ]
    return "|".join(parts)


def grade(answer: str, item: Item) -> Verdict:
    """Accept a smallest set of candidates that derives the goals and nothing forbidden."""
    candidates: list[str] = list(item.data["candidates"])
    words = [w for w in re.split(r"[\s,;{}()\[\]]+|\band\b", answer.strip().strip(".")) if w]
    chosen = list(dict.fromkeys(w.capitalize() for w in words[:200]))
    if not chosen or any(w not in candidates for w in chosen):
        return Verdict(parsed=False, correct=False)
    rules = [(tuple(body), head) for body, head in item.data["rules"]]
    derived = derive(rules, [*item.data["facts"], *chosen])
    valid = all(goal in derived for goal in item.data["goals"])
    allowed = item.data["forbidden"] is None or item.data["forbidden"] not in derived
    return Verdict(
        parsed=True, correct=valid and allowed and len(chosen) == len(item.answer.split())
    )


def certify(item: Item) -> bool:
    """Find the smallest explanations by SAT and compare with the one stored."""
    rules = [(tuple(body), head) for body, head in item.data["rules"]]
    d = item.data
    found = smallest_by_sat(rules, d["facts"], d["candidates"], d["goals"], d["forbidden"])
    return found == [tuple(item.answer.split())]


def _next_to_goal(item: Item) -> str:
    """Name the candidates in the body of a rule whose head is a goal."""
    heads = item.data["goals"]
    return _among(item, [body for body, head in item.data["rules"] if head in heads])


def _any_body(item: Item) -> str:
    """Name the candidates that occur in any body."""
    return _among(item, [body for body, _ in item.data["rules"]])


def _among(item: Item, bodies: list[tuple[str, ...]]) -> str:
    used = {atom for body in bodies for atom in body}
    return " ".join(c for c in item.data["candidates"] if c in used)


register(
    Task(
        name="abduction",
        alias="abd",
        version="v1",
        levels=tuple(LEVELS),
        instructions=(
            "A rule `X Y → Z` says that X and Y together give Z. Find the smallest set of "
            "candidates that, together with the facts, gives every goal, and does not give the "
            "forbidden atom if there is one. Answer like <answer>Ba Ce</answer>."
        ),
        draw=draft,
        grade=grade,
        certify=certify,
        chance={1: 0.10},
        baselines={
            "all candidates": lambda item: " ".join(item.data["candidates"]),
            "first candidate": lambda item: item.data["candidates"][0],
            "next to a goal": _next_to_goal,
            "in any body": _any_body,
        },
    )
)
