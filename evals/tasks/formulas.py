"""Propositional formulas as nested tuples, their truth tables as big integers, their CNF.

A formula is a variable's name, `("¬", f)` or `(op, f, g)` with op one of ∧ ∨ → ↔ ⊕. A truth table
over n variables is one integer of 2**n bits, bit m being the value under assignment m (variable i
is true when bit i of m is set), so counting the models of a conjunction is one `&` and one
`bit_count`. The CNF is Tseitin's (G. S. Tseitin, 1968), used to certify items by a SAT solver
independently of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import TypeAlias

Formula: TypeAlias = "str | tuple[str, Formula] | tuple[str, Formula, Formula]"
OPERATORS = ("∧", "∨", "→", "↔", "⊕")


@lru_cache
def tables(names: tuple[str, ...]) -> dict[str, int]:
    """Return the truth table of each variable over 2**len(names) assignments."""
    size = 1 << len(names)
    return {name: sum(1 << m for m in range(size) if m >> i & 1) for i, name in enumerate(names)}


def truth(formula: Formula, names: tuple[str, ...]) -> int:
    """Return the truth table of a formula."""
    full = (1 << (1 << len(names))) - 1
    if isinstance(formula, str):
        return tables(names)[formula]
    if len(formula) == 2:
        return full ^ truth(formula[1], names)
    op, left, right = formula
    a, b = truth(left, names), truth(right, names)
    if op == "∧":
        return a & b
    if op == "∨":
        return a | b
    if op == "→":
        return (full ^ a) | b
    return a ^ b if op == "⊕" else full ^ a ^ b


def holds(formula: Formula, values: Mapping[str, bool]) -> bool:
    """Evaluate a formula under an assignment, by recursion and without tables."""
    if isinstance(formula, str):
        return values[formula]
    if len(formula) == 2:
        return not holds(formula[1], values)
    op, left, right = formula
    a, b = holds(left, values), holds(right, values)
    return {"∧": a and b, "∨": a or b, "→": b or not a, "↔": a == b, "⊕": a != b}[op]


def variables(formula: Formula) -> list[str]:
    """Return the variables of a formula in the order in which they are first read."""
    if isinstance(formula, str):
        return [formula]
    return list(dict.fromkeys(v for part in formula[1:] for v in variables(part)))


def show(formula: Formula, *, outer: bool = True) -> str:
    """Print a formula; binary ones inside others stand in parentheses."""
    if isinstance(formula, str):
        return formula
    if len(formula) == 2:
        return "¬" + show(formula[1], outer=False)
    op, left, right = formula
    text = f"{show(left, outer=False)} {op} {show(right, outer=False)}"
    return text if outer else f"({text})"


def negate(formula: Formula) -> Formula:
    """Return the negation, without ever writing two signs in a row."""
    if not isinstance(formula, str) and len(formula) == 2:
        return formula[1]
    return ("¬", formula)


def draw(rng: Random, names: Sequence[str], depth: int) -> Formula:
    """Draw a formula of exactly this depth (literals are depth 0; a negation adds none)."""
    return _draw(rng, names, depth)[0]


def _draw(rng: Random, names: Sequence[str], depth: int) -> tuple[Formula, tuple[str, ...]]:
    """Draw a formula together with its `variables`, which would be dear to collect each time."""
    if depth == 0:
        name = rng.choice(names)
        return (("¬", name) if rng.random() < 0.4 else name), (name,)
    while True:
        left, a = _draw(rng, names, depth - 1)
        right, b = _draw(rng, names, rng.randint(max(0, depth - 2), depth - 1))
        if a != b:
            break
    if rng.random() < 0.5:
        left, right, a, b = right, left, b, a
    formula: Formula = (rng.choice(OPERATORS), left, right)
    used = tuple(dict.fromkeys(a + b))
    return (negate(formula) if rng.random() < 0.15 else formula), used


def rename(formula: Formula, names: Mapping[str, str]) -> Formula:
    """Return the formula with its variables renamed."""
    if isinstance(formula, str):
        return names[formula]
    if len(formula) == 2:
        return (formula[0], rename(formula[1], names))
    return (formula[0], rename(formula[1], names), rename(formula[2], names))


def as_tuples(value: object) -> Formula:
    """Return a formula read back from JSON, where tuples have become lists."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        raise TypeError(f"not a formula: {value!r}")
    parts = [as_tuples(part) for part in value[1:]]
    return (value[0], *parts)


def cnf(formulas: Sequence[Formula], names: Sequence[str]) -> list[list[int]]:
    """Return the Tseitin clauses of a conjunction; variable i of `names` is literal i + 1."""
    literal = {name: i + 1 for i, name in enumerate(names)}
    clauses: list[list[int]] = []
    fresh = len(names)

    def encode(formula: Formula) -> int:
        nonlocal fresh
        if isinstance(formula, str):
            return literal[formula]
        if len(formula) == 2:
            return -encode(formula[1])
        op, a, b = formula[0], encode(formula[1]), encode(formula[2])
        fresh += 1
        x = fresh
        if op == "→":
            a, op = -a, "∨"
        if op == "∧":
            clauses.extend([[-x, a], [-x, b], [x, -a, -b]])
        elif op == "∨":
            clauses.extend([[x, -a], [x, -b], [-x, a, b]])
        else:
            b = -b if op == "⊕" else b
            clauses.extend([[-x, -a, b], [-x, a, -b], [x, a, b], [x, -a, -b]])
        return x

    for formula in formulas:
        clauses.append([encode(formula)])
    return clauses
