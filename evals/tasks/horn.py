"""Horn rules: forward chaining, minimal explanations by labels, and an independent check by SAT.

A rule is (body atoms, head atom). The label of an atom is the antichain of minimal candidate sets
that derive it together with the facts, as bit masks over the candidates, propagated to a fixed
point also through cyclic rules (J. de Kleer, An assumption-based TMS, 1986).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TypeAlias

Rule: TypeAlias = tuple[tuple[str, ...], str]
TOO_MANY = 512


def derive(rules: Sequence[Rule], known: Iterable[str]) -> set[str]:
    """Return all that follows from the known atoms (test membership only, never iterate)."""
    derived = set(known)
    grew = True
    while grew:
        grew = False
        for body, head in rules:
            if head not in derived and all(atom in derived for atom in body):
                derived.add(head)
                grew = True
    return derived


def minimal(masks: Iterable[int]) -> list[int]:
    """Return the subset-minimal masks, small ones first."""
    distinct = set(masks)
    if len(distinct) == 1 or 0 in distinct:  # by far the most common cases
        return [min(distinct)]
    kept: list[int] = []
    for mask in sorted(distinct, key=lambda m: (m.bit_count(), m)):
        if not any(k & mask == k for k in kept):
            kept.append(mask)
    return kept


def join(labels: Sequence[list[int]]) -> list[int] | None:
    """Return the minimal unions, one mask from each label; None when there are too many."""
    joined = [0]
    for label in labels:
        if len(label) == 1:
            grown = [a | label[0] for a in joined]
            joined = grown if len(grown) == 1 else minimal(grown)
        else:
            joined = minimal(a | b for a in joined for b in label)
        if len(joined) > TOO_MANY:
            return None
    return joined


def explain(
    rules: Sequence[Rule], facts: Sequence[str], candidates: Sequence[str]
) -> dict[str, list[int]] | None:
    """Return the label of every derivable atom, or None when some label grows too large."""
    labels: dict[str, list[int]] = {atom: [0] for atom in facts}
    for i, atom in enumerate(candidates):
        labels[atom] = minimal([*labels.get(atom, []), 1 << i])
    users: dict[str, list[int]] = {}
    for i, (body, _) in enumerate(rules):
        for atom in body:
            users.setdefault(atom, []).append(i)
    waiting = dict.fromkeys(range(len(rules)))  # an ordered set: rules whose body may have grown
    while waiting:
        i = next(iter(waiting))
        del waiting[i]
        body, head = rules[i]
        if any(atom not in labels for atom in body):
            continue
        new = join([labels[atom] for atom in body])
        if new is None:
            return None
        old = labels.get(head, [])
        if all(any(o & n == o for o in old) for n in new):
            continue  # nothing that is not known already
        labels[head] = minimal([*old, *new])
        waiting.update(dict.fromkeys(users.get(head, ())))
    return labels


def smallest_by_sat(
    rules: Sequence[Rule],
    facts: Sequence[str],
    candidates: Sequence[str],
    goals: Sequence[str],
    forbidden: str | None,
) -> list[tuple[str, ...]]:
    """Return all explanations of the smallest size, found by SAT over sets of growing size.

    A set A explains when rules, facts and A with the negation of (all goals) have no model, and
    rules, facts and A with the negation of the forbidden atom have one.
    """
    from pysat.solvers import Cadical153

    atoms = [a for body, head in rules for a in (*body, head)]
    index = {a: i + 1 for i, a in enumerate(dict.fromkeys([*atoms, *facts, *candidates, *goals]))}
    clauses = [[*(-index[b] for b in body), index[head]] for body, head in rules]
    clauses += [[index[fact]] for fact in facts]
    with (
        Cadical153(bootstrap_with=[*clauses, [-index[g] for g in goals]]) as entails,
        Cadical153(bootstrap_with=clauses) as allows,
    ):
        for size in range(len(candidates) + 1):
            found = []
            for chosen in combinations(sorted(candidates), size):
                literals = [index[a] for a in chosen]
                if entails.solve(assumptions=literals):
                    continue
                if forbidden and not allows.solve(assumptions=[*literals, -index[forbidden]]):
                    continue
                found.append(chosen)
            if found:
                return found
    return []


def follows_by_sat(rules: Sequence[Rule], facts: Sequence[str], atom: str) -> bool:
    """Say whether an atom follows: rules and facts with its negation have no model."""
    from pysat.solvers import Cadical153

    atoms = dict.fromkeys([atom, *facts, *(a for body, head in rules for a in (*body, head))])
    index = {a: i for i, a in enumerate(atoms, 1)}
    clauses = [[*(-index[b] for b in body), index[head]] for body, head in rules]
    with Cadical153(bootstrap_with=[*clauses, *([index[f]] for f in facts), [-index[atom]]]) as s:
        return not s.solve()
