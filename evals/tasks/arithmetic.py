"""Arithmetic: sums, differences and products, graded.

The domain of Stage C where no data can be had. Levels: 1 one sum or difference of numbers up to 99,
2 three terms, 3 a product among them, 4 two products and parentheses, 5 the same with three-digit
numbers. The smallest task, and the one to copy when you add your own.
"""

from __future__ import annotations

from random import Random

from evals.answers import Verdict, grade_number
from evals.task import Draft, Item, Task, register


def _sum(rng: Random, terms: int, top: int) -> list[str]:
    """Draw a chain of added and subtracted numbers as tokens."""
    chain = [str(rng.randint(1, top))]
    for _ in range(terms - 1):
        chain += [rng.choice("+-"), str(rng.randint(1, top))]
    return chain


def draft(rng: Random, level: int) -> Draft:
    """Draw one expression."""
    if level == 1:
        tokens = _sum(rng, 2, 99)
    elif level == 2:
        tokens = _sum(rng, 3, 99)
    else:
        top = 999 if level == 5 else 99
        tokens = _sum(rng, level - 1, top)
        place = rng.randrange(0, len(tokens), 2)
        factor = str(rng.randint(2, 9 if level < 5 else 99))
        if level > 3:
            tokens[place] = f"({tokens[place]} - {rng.randint(1, top)})"
        tokens[place] = f"{tokens[place]} × {factor}"
    text = " ".join(tokens)
    value = evaluate(text)
    return Draft(f"Compute: {text}", str(value), text, {"expression": text, "value": value})


def evaluate(text: str) -> int:
    """Compute an expression of + - × and parentheses by recursive descent (nothing is executed)."""
    tokens = text.replace("(", "( ").replace(")", " )").split()
    value, end = _expression(tokens, 0)
    if end != len(tokens):
        raise ValueError(f"not an expression: {text!r}")
    return value


def _expression(tokens: list[str], i: int) -> tuple[int, int]:
    value, i = _product(tokens, i)
    while i < len(tokens) and tokens[i] in "+-":
        right, j = _product(tokens, i + 1)
        value, i = (value + right if tokens[i] == "+" else value - right), j
    return value, i


def _product(tokens: list[str], i: int) -> tuple[int, int]:
    value, i = _atom(tokens, i)
    while i < len(tokens) and tokens[i] == "×":
        right, i = _atom(tokens, i + 1)
        value *= right
    return value, i


def _atom(tokens: list[str], i: int) -> tuple[int, int]:
    if tokens[i] != "(":
        return int(tokens[i]), i + 1
    value, i = _expression(tokens, i + 1)
    return value, i + 1


def grade(answer: str, item: Item) -> Verdict:
    """Accept the value."""
    return grade_number(answer, int(item.answer))


def certify(item: Item) -> bool:
    """Compute the expression again from its text."""
    return evaluate(item.data["expression"]) == int(item.answer)


register(
    Task(
        name="arithmetic",
        alias="arith",
        version="v1",
        levels=(1, 2, 3, 4, 5),
        instructions="Compute the value of the expression. Answer like <answer>10</answer>.",
        draw=draft,
        grade=grade,
        certify=certify,
        baselines={
            "first number": lambda item: item.data["expression"].strip("(").split()[0],
            "zero": lambda item: "0",
        },
    )
)
