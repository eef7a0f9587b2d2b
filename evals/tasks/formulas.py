"""Propositional formulas as nested tuples, their truth tables as big integers, their CNF.

A formula is a variable's name, `("¬", f)` or `(op, f, g)` with op one of ∧ ∨ → ↔ ⊕. A truth table
over n variables is one integer of 2**n bits, bit m being the value under assignment m (variable i
is true when bit i of m is set), so counting the models of a conjunction is one `&` and one
`bit_count`; one assignment is a table of one bit. The CNF is Tseitin's (G. S. Tseitin, 1968), used
to certify items by a SAT solver independently of the tables.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from random import Random
from typing import Any, NamedTuple, TypeAlias

from merger.errors import EvalError

Formula: TypeAlias = str | tuple[Any, ...]
OPERATORS = ("∧", "∨", "→", "↔", "⊕")
_TOKEN = re.compile(r"[A-Z]+|[¬∧∨→↔⊕()]")


class Drawn(NamedTuple):
    """A formula with its table and the variable that is read first."""

    formula: Formula
    table: int
    first: str


def full(names: Sequence[str]) -> int:
    """Return the table of what is always true."""
    return (1 << (1 << len(names))) - 1


@lru_cache
def tables(names: tuple[str, ...]) -> dict[str, int]:
    """Return the truth table of each variable over 2**len(names) assignments."""
    size = 1 << len(names)
    return {name: sum(1 << m for m in range(size) if m >> i & 1) for i, name in enumerate(names)}


def truth(formula: Formula, values: Mapping[str, int], every: int) -> int:
    """Return a formula's table from those of its variables; `every` is the table of all ones."""
    if isinstance(formula, str):
        return values[formula]
    if len(formula) == 2:
        return every ^ truth(formula[1], values, every)
    op, left, right = formula
    return _apply(op, truth(left, values, every), truth(right, values, every), every)


def _apply(op: str, a: int, b: int, every: int) -> int:
    if op == "∧":
        return a & b
    if op == "∨":
        return a | b
    if op == "→":
        return (every ^ a) | b
    return a ^ b if op == "⊕" else every ^ a ^ b


def holds(formula: Formula, values: Mapping[str, bool]) -> bool:
    """Evaluate a formula under one assignment."""
    return bool(truth(formula, values, 1))


def variables(formula: Formula) -> list[str]:
    """Return the variables of a formula in the order in which they are first read."""
    if isinstance(formula, str):
        return [formula]
    return list(dict.fromkeys(v for part in formula[1:] for v in variables(part)))


def show(formula: Formula, *, outer: bool = True) -> str:
    """Print a formula; binary ones inside others stand in parentheses."""
    if isinstance(formula, str):
        return formula
    parts = [show(part, outer=False) for part in formula[1:]]
    if len(parts) == 1:
        return "¬" + parts[0]
    text = f" {formula[0]} ".join(parts)
    return text if outer else f"({text})"


def parse(text: str) -> Formula:
    """Read an infix formula, fully parenthesised; raises `EvalError` for anything else."""
    tokens = iter([*_TOKEN.findall(text), ""])

    def part() -> Formula:
        sign = next(tokens)
        if sign == "¬":
            return ("¬", part())
        return pair(")") if sign == "(" else sign if sign.isalpha() else refuse()

    def pair(end: str) -> Formula:
        formula, op = part(), next(tokens)
        if op in OPERATORS:
            formula, op = (op, formula, part()), next(tokens)
        return formula if op == end else refuse()

    def refuse() -> Formula:
        raise EvalError(f"{text!r} is no formula", "Write it with parentheses around pairs.")

    return pair("")


def negate(formula: Formula) -> Formula:
    """Return the negation, without ever writing two signs in a row."""
    return formula[1] if len(formula) == 2 else ("¬", formula)


def draw(rng: Random, names: tuple[str, ...], depth: int) -> Drawn:
    """Draw a formula of exactly this depth (literals are depth 0; a negation adds none)."""
    values, every = tables(names), full(names)
    bits, chance = rng.getrandbits, rng.random

    def below(n: int) -> int:
        """Draw as `randrange` does, without its checks: this is where the time goes."""
        size = n.bit_length()
        while (value := bits(size)) >= n:
            pass
        return value

    def grow(depth: int) -> tuple[Formula, int, str]:
        if depth == 0:
            name = names[below(len(names))]
            table = values[name]
            return (("¬", name), every ^ table, name) if chance() < 0.4 else (name, table, name)
        low = depth - 2 if depth > 2 else 0
        while True:
            a, b = grow(depth - 1), grow(low + below(depth - low))
            if a[2] != b[2] or variables(a[0]) != variables(b[0]):
                break
        (left, x, first), (right, y, _) = (b, a) if chance() < 0.5 else (a, b)
        op = OPERATORS[below(5)]
        table = _apply(op, x, y, every)
        if chance() < 0.15:
            return ("¬", (op, left, right)), every ^ table, first
        return (op, left, right), table, first

    return Drawn(*grow(depth))


def as_tuples(value: object) -> Formula:
    """Return a formula read back from JSON, where tuples have become lists."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        raise TypeError(f"not a formula: {value!r}")
    return (value[0], *map(as_tuples, value[1:]))


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
        a, b = encode(formula[1]), encode(formula[2])
        fresh += 1
        for p, q in product((0, 1), repeat=2):  # a line of the table says what the new one is
            value = fresh if _apply(formula[0], p, q, 1) else -fresh
            clauses.append([-a if p else a, -b if q else b, value])
        return fresh

    clauses += [[encode(formula)] for formula in formulas]
    return clauses
