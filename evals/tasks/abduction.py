"""Abduction: the smallest set of candidate hypotheses that explains the goals.

Horn rules, facts, goals, candidates and, from level 2, a forbidden atom that the explanation must
not entail. The rule graph is grown backwards from the goals; depth, goals, distractor rules and the
chance of cycles follow the paper's table (arXiv 2505.10554, section 3.1). All subset-minimal
explanations are enumerated; an item has exactly one of the smallest size, and from level 2 a second
derivation is grown on purpose so that "smallest" is really tested. No goal is a fact, a candidate
or free. In the authors' data a goal is reachable exactly when it is printed among the known atoms,
so nothing need be inferred. Certified by SAT over candidate sets of growing size.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

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
    goals: list[str] = field(default_factory=list)
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
        depths = {main: depth - 1}  # of the atoms that are new
        body = [main]
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            if self.shared and rng.random() < 0.35:
                body.append(rng.choice(self.shared))
            else:
                body.append(self.pool.pop())
                depths[body[-1]] = 0
        body = [b for b in dict.fromkeys(body) if b not in path]
        rng.shuffle(body)
        self.rules.append((tuple(body), head))
        for atom, rest in depths.items():
            self.grow(atom, rest, (*path, head))
        self.shared.append(main)
        if rng.random() < self.cycle and len(path) > 1:
            self.rules.append(((rng.choice(path),), main))  # an ancestor would support itself

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

    def named(self, mask: int) -> list[str]:
        """Return the candidates of a mask, sorted."""
        return sorted(c for i, c in enumerate(self.candidates) if mask >> i & 1)


def grow(rng: Random, shape: Level, level: int) -> Graph:
    """Grow a graph for the goals, with a second derivation of one inner atom from level 2."""
    graph = Graph(rng, shape.cycle, rng.sample(NAMES[level], len(NAMES[level])))
    graph.goals = [graph.pool.pop() for _ in range(shape.goals)]
    for goal in graph.goals:
        graph.grow(goal, rng.randint(*shape.depth), (goal,))
    if level >= 2:
        inner = rng.choice([head for _, head in graph.rules])
        graph.grow(inner, rng.randint(1, 2), (inner,))
    graph.distract(rng.randint(*shape.distractors))
    graph.facts = list(dict.fromkeys(graph.facts))
    graph.candidates = [c for c in dict.fromkeys(graph.candidates) if c not in graph.facts]
    graph.rules = list(dict.fromkeys(graph.rules))
    return graph


def _accept(rng: Random, level: int) -> tuple[Graph, str | None, list[int]] | None:
    """Draw once; when it is well posed return the graph, the forbidden atom, all explanations."""
    graph = grow(rng, LEVELS[level], level)
    if not 2 <= len(graph.candidates) <= 14:
        return None
    free = derive(graph.rules, graph.facts)
    if any(goal in free or goal in graph.candidates for goal in graph.goals):
        return None
    labels = explain(graph.rules, graph.facts, graph.candidates)
    if labels is None or any(goal not in labels for goal in graph.goals):
        return None
    every = join(labels[goal] for goal in graph.goals)
    if not every or len(every) > 6:
        return None
    forbidden = None
    if level >= 2:
        known = {*graph.goals, *graph.candidates, *free}
        options = [h for h in dict.fromkeys(head for _, head in graph.rules) if h not in known]
        rng.shuffle(options)
        for option in options:  # one that rules something out is best, any other will do
            bad = labels.get(option, [])
            left = [mask for mask in every if not any(b & mask == b for b in bad)]
            if left and (len(left) < len(every) or len(every) == 1):
                forbidden, every = option, left
                break
    sizes = [mask.bit_count() for mask in every]
    well = sizes.count(sizes[0]) == 1 and sizes[0] >= min(level, 2)
    return (graph, forbidden, every) if well else None


def draft(rng: Random, level: int) -> Draft:
    """Draw one instance with exactly one smallest explanation."""
    # From level 2 at least half of the items must have a rival: minimal, but larger.
    rivals = level >= 2 and rng.random() < 0.6
    while True:
        found = _accept(rng, level)
        if found is None or (rivals and len(found[2]) < 2):
            continue
        graph, forbidden, masks = found
        sets = [graph.named(mask) for mask in masks]
        data = vars(graph) | {"candidates": sorted(graph.candidates)}
        easy = _among(data, graph.goals), _among(data, [head for _, head in graph.rules])
        if " ".join(sets[0]) not in easy or rng.random() < 0.2:
            break  # thinned, not removed: their absence would be a hint too
    rng.shuffle(graph.rules)
    return pose(
        {
            "rules": graph.rules,
            "facts": sorted(graph.facts),
            "candidates": sorted(graph.candidates),
            "goals": graph.goals,
            "forbidden": forbidden,
        },
        " ".join(sets[0]),
        {"minimal": sets},
    )


def pose(data: dict[str, Any], answer: str, certificate: dict[str, Any]) -> Draft:
    """Return the question that rules, facts, goals and the rest of `data` make."""
    rules = (f"{i}. {' '.join(body)} → {head}" for i, (body, head) in enumerate(data["rules"], 1))
    lines = [
        "Facts: " + (" ".join(data["facts"]) or "none"),
        "Rules:",
        *rules,
        *(f"{n.capitalize()}: {' '.join(data[n])}" for n in ("candidates", "goals") if n in data),
        *([f"Forbidden: {data['forbidden']}"] if data.get("forbidden") else []),
    ]
    return Draft("\n".join(lines), answer, canonical_form(data), data, certificate)


def canonical_form(data: dict[str, Any]) -> str:
    """Return the instance with atoms renamed in the order met when walking back from the goals."""
    rules: list[Rule] = data["rules"]
    groups = [data["facts"], data.get("candidates", []), data["goals"]]
    forbidden = data.get("forbidden")
    bodies: dict[str, list[tuple[str, ...]]] = {}
    for body, head in sorted(rules, key=lambda rule: (len(rule[0]), rule[0])):
        bodies.setdefault(head, []).append(body)
    order, met = dict.fromkeys(data["goals"]), 0
    while met < len(order):
        met = len(order)
        for atom in list(order):
            order |= dict.fromkeys(a for body in bodies.get(atom, ()) for a in sorted(body))
    order |= dict.fromkeys(sorted(a for body, head in rules for a in (*body, head)))
    order |= dict.fromkeys([*groups[0], *groups[1], *([forbidden] if forbidden else [])])
    name = {atom: f"a{i}" for i, atom in enumerate(order)}
    shown = (f"{'+'.join(sorted(name[b] for b in body))}>{name[head]}" for body, head in rules)
    sets = [" ".join(sorted(name[atom] for atom in group)) for group in groups]
    return "|".join([";".join(sorted(shown)), *sets, name[forbidden] if forbidden else ""])


def grade(answer: str, item: Item) -> Verdict:
    """Accept a smallest set of candidates that derives the goals and nothing forbidden."""
    d = item.data
    words = [w for w in re.split(r"[\s,;{}()\[\]]+|\band\b", answer.strip().strip(".")) if w]
    chosen = {w.capitalize() for w in words[:200]}
    if not chosen or not chosen <= set(d["candidates"]):
        return Verdict(parsed=False, correct=False)
    derived = derive(d["rules"], [*d["facts"], *chosen])
    valid = derived.issuperset(d["goals"]) and d["forbidden"] not in derived
    return Verdict(parsed=True, correct=valid and len(chosen) == len(item.answer.split()))


def certify(item: Item) -> bool:
    """Find the smallest explanations by SAT and compare with the one stored."""
    return smallest_by_sat(item.data) == [tuple(item.answer.split())]


def _among(data: Mapping[str, Any], heads: Sequence[str]) -> str:
    """Name the candidates in the bodies of the rules with these heads."""
    used = {atom for body, head in data["rules"] if head in heads for atom in body}
    return " ".join(c for c in data["candidates"] if c in used)


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
            "next to a goal": lambda item: _among(item.data, item.data["goals"]),
            "in any body": lambda item: _among(item.data, [h for _, h in item.data["rules"]]),
        },
    )
)
