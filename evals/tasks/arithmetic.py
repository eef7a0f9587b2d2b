"""Arithmetic: sums, differences and products, graded.

The domain of Stage C where no data can be had. Levels: 1 one sum or difference of numbers from 0 to
100, 2 three terms from 1 to 99, 3 a product among them, 4 two products and parentheses, 5 the same
with three-digit numbers. The smallest task, and the one to copy when you add your own.
"""

import ast
from operator import add, mul, sub
from random import Random

from evals.answers import Verdict, grade_number
from evals.task import Draft, Item, Task, register

_OPERATORS = {ast.Add: add, ast.Sub: sub, ast.Mult: mul}


def _sum(rng: Random, terms: int, low: int, top: int) -> list[str]:
    """Draw a chain of added and subtracted numbers as tokens."""
    chain = [str(rng.randint(low, top))]
    for _ in range(terms - 1):
        chain += [rng.choice("+-"), str(rng.randint(low, top))]
    return chain


def draft(rng: Random, level: int) -> Draft:
    """Draw one expression."""
    if level == 1:
        tokens = _sum(rng, 2, 0, 100)
    elif level == 2:
        tokens = _sum(rng, 3, 1, 99)
    else:
        top = 999 if level == 5 else 99
        tokens = _sum(rng, level - 1, 1, top)
        place = rng.randrange(0, len(tokens), 2)
        factor = str(rng.randint(2, 9 if level < 5 else 99))
        if level > 3:
            tokens[place] = f"({tokens[place]} - {rng.randint(1, top)})"
        tokens[place] = f"{tokens[place]} × {factor}"
    text = " ".join(tokens)
    value = evaluate(text)
    return Draft(f"Compute: {text}", str(value), text, {"expression": text, "value": value})


def evaluate(text: str) -> int:
    """Compute an expression of + - × and parentheses; Python parses it, nothing is executed."""

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.BinOp):
            return int(_OPERATORS[type(node.op)](value(node.left), value(node.right)))
        return int(ast.literal_eval(node))

    return value(ast.parse(text.replace("×", "*"), mode="eval").body)


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
        version="v2",
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
