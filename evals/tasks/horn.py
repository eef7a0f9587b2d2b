"""Horn rules: forward chaining, minimal explanations by labels, and an independent check by SAT.

A rule is (body atoms, head atom). The label of an atom is the antichain of minimal candidate sets
that derive it together with the facts, as bit masks over the candidates, propagated to a fixed
point also through cyclic rules (J. de Kleer, An assumption-based TMS, 1986).
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, TypeAlias

Rule: TypeAlias = tuple[tuple[str, ...], str]
TOO_MANY = 512


def derive(rules: Sequence[Rule], known: Iterable[str]) -> set[str]:
    """Return all that follows from the known atoms (test membership only, never iterate)."""
    derived = set(known)
    while new := {h for body, h in rules if h not in derived and derived.issuperset(body)}:
        derived |= new
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


def join(labels: Iterable[list[int]]) -> list[int] | None:
    """Return the minimal unions, one mask from each label; None when there are too many."""
    joined = [0]
    for label in labels:
        joined = minimal(a | b for a in joined for b in label)
        if len(joined) > TOO_MANY:
            return None
    return joined


def explain(
    rules: Sequence[Rule], facts: Sequence[str], candidates: Sequence[str]
) -> dict[str, list[int]] | None:
    """Return the label of every derivable atom, or None when some label grows too large."""
    labels: dict[str, list[int]] = {atom: [1 << i] for i, atom in enumerate(candidates)}
    labels |= {atom: [0] for atom in facts}
    grew = True
    while grew:
        grew = False
        for body, head in rules:
            if all(atom in labels for atom in body):
                new, old = join([labels[atom] for atom in body]), labels.get(head, [])
                if new is None:
                    return None
                if old != [0] and (both := minimal([*old, *new])) != old:
                    labels[head], grew = both, True
    return labels


def smallest_by_sat(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return all explanations of the smallest size, found by SAT over sets of growing size.

    A set A explains when rules, facts and A with the negation of (all goals) have no model, and
    rules, facts and A with the negation of the forbidden atom have one.
    """
    from pysat.solvers import Cadical153

    index, clauses = _clauses(data)
    candidates, forbidden = sorted(data["candidates"]), data["forbidden"]
    with (
        Cadical153(bootstrap_with=[*clauses, [-index[g] for g in data["goals"]]]) as entails,
        Cadical153(bootstrap_with=clauses) as allows,
    ):
        for size in range(len(candidates) + 1):
            found = []
            for chosen in combinations(candidates, size):
                literals = [index[a] for a in chosen]
                if not entails.solve(assumptions=literals) and (
                    not forbidden or allows.solve(assumptions=[*literals, -index[forbidden]])
                ):
                    found.append(chosen)
            if found:
                return found
    return []


def follows_by_sat(data: Mapping[str, Any], atom: str) -> bool:
    """Say whether an atom follows: rules and facts with its negation have no model."""
    from pysat.solvers import Cadical153

    index, clauses = _clauses(data)
    with Cadical153(bootstrap_with=[*clauses, [-index[atom]]]) as solver:
        return not solver.solve()


def _clauses(data: Mapping[str, Any]) -> tuple[dict[str, int], list[list[int]]]:
    """Return the number of each atom, and rules and facts as clauses."""
    atoms = [a for body, head in data["rules"] for a in (*body, head)]
    atoms += [*data["facts"], *data.get("candidates", ()), *data["goals"]]
    index = {atom: i for i, atom in enumerate(dict.fromkeys(atoms), 1)}
    clauses = [[*(-index[b] for b in body), index[head]] for body, head in data["rules"]]
    return index, [*clauses, *([index[fact]] for fact in data["facts"])]
