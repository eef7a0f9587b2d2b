"""Worked traces, written by solvers: every step can be checked from what stands beside it.

A trace is what the cold start puts between `<think>` and `</think>`. What can be learned at a
million parameters depends on it entirely (docs/log.md): a step first copies the formula, pair or
rule it uses, then writes what follows, so that no step needs more than one look back.

- deduction: the list of partial assignments that satisfy the formulas read so far. For each
  formula, every surviving assignment is extended by the formula's new variables; those that satisfy
  it are numbered, the others marked x.
- induction: the steps that fit each pair of neighbours, then the steps of the cycle written out,
  then the one step into the gap.
- abduction: the rules in order, again and again; each is copied, with the candidate set of every
  atom behind it, up to the first unknown atom or to its head. No rule is found by search.
- arithmetic: column by column.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise, product, takewhile

from evals.task import Item
from evals.tasks.formulas import as_tuples, holds, show, variables
from evals.tasks.horn import Rule
from evals.tasks.induction import NUMBERS

_PARTS = ("formulas", "visible", "rules", "expression")


def trace(item: Item) -> str:
    """Return the worked trace of an item."""
    return _WRITERS[item.task](item)


def completion(item: Item, *, worked: bool) -> str:
    """Return the text after the pre-filled `<think>`: the trace, or nothing, then the answer.

    The answer begins with a space, so that its tokens are those of the trace and can be copied.
    """
    return f"{trace(item) if worked else ''}</think><answer> {item.answer}</answer>"


def size(item: Item) -> int:
    """Return how long an item is: its formulas, terms or rules; minus signs in arithmetic."""
    part = next(item.data[k] for k in _PARTS if k in item.data)
    return part.count("-") if isinstance(part, str) else len(part)


def _deduction(item: Item) -> str:
    survivors: list[dict[str, bool]] = [{}]
    blocks = []
    for number, formula in enumerate(map(as_tuples, item.data["formulas"]), 1):
        new = [v for v in sorted(variables(formula)) if v not in survivors[0]]
        lines, kept = [], []
        for known in survivors:
            for values in product((True, False), repeat=len(new)):
                tried = {**known, **dict(zip(new, values, strict=True))}
                literals = " ".join(v if true else f"¬{v}" for v, true in tried.items())
                if holds(formula, tried):
                    kept.append(tried)
                lines.append(f" {literals} {len(kept) if holds(formula, tried) else 'x'}")
        blocks.append(f"{number}. {show(formula)}:{';'.join(lines)}")
        survivors = kept
        if not kept:
            break
    return "\n".join(blocks)


def _induction(item: Item) -> str:
    visible: list[int | None] = list(item.data["visible"])
    cycle: list[tuple[str, int]] = list(item.data["cycle"])
    text = ["?" if v is None else str(v) for v in visible]
    pairs = []
    for (a, b), (left, right) in zip(pairwise(visible), pairwise(text), strict=True):
        fit = [] if a is None or b is None else NUMBERS.fitting(a, b)
        fits = " ".join(f"{s}{v}" for s, v in fit) or "?"
        pairs.append(f" {left} {right} {fits}")
    hole = visible.index(None)
    steps = [f"{s}{v}" for s, v in (cycle[i % len(cycle)] for i in range(len(visible) - 1))]
    last = f" {text[hole - 1]} {steps[hole - 1]} {item.answer}"
    return ";".join(pairs) + "\n " + " ".join(steps) + "\n" + last


def _abduction(item: Item) -> str:
    lines, needs = _walk(item)
    goals = ", ".join(f"{goal} {_named(needs[goal])}" for goal in item.data["goals"])
    every = f" → {_named(_union(needs, item.data['goals']))}" if "," in goals else ""
    return "\n".join([*lines, f" {goals}{every}"])


def found(item: Item) -> bool:
    """Say whether the worked trace of an item ends in its answer; only abduction's may not."""
    if item.task != "abduction":
        return True
    _, needs = _walk(item)
    return sorted(_union(needs, item.data["goals"])) == item.answer.split()


def _walk(item: Item) -> tuple[list[str], dict[str, list[str]]]:
    """Go through the rules again and again until none fires; return the lines and what was found.

    A rule is copied with the candidate set of each of its atoms up to the first unknown one; when
    all are known its head gets their union, unless it has a set as small. So the last place an atom
    was named always has its set, or `?`, behind it. A set derived from one that shrinks later is
    not mended: `found` says whether the goals' sets are the answer all the same.
    """
    needs: dict[str, list[str]] = {atom: [] for atom in item.data["facts"]}
    needs |= {atom: [atom] for atom in item.data["candidates"]}
    waiting: dict[int, Rule] = dict(enumerate(item.data["rules"], 1))
    lines: list[str] = []
    fired = True
    while fired and waiting:
        lines += ["-"] if lines else []
        fired = False
        for number, (body, head) in list(waiting.items()):
            known = list(takewhile(needs.__contains__, body))
            parts = [f"{atom} {_named(needs[atom])}" for atom in known]
            if len(known) < len(body):
                lines.append(f"{number}. {', '.join([*parts, body[len(known)]])} ?")
                continue
            fired = bool(waiting.pop(number))
            lines.append(f"{number}. {', '.join(parts)} → {_fire(needs, body, head)}")
    return lines, needs


def _fire(needs: dict[str, list[str]], body: Sequence[str], head: str) -> str:
    """Give the head the union of its body's sets, unless it has one as small; return the text."""
    new = _union(needs, body)
    text = f"{head} {_named(new)}"
    if head in needs and len(needs[head]) <= len(new):
        return f"{text}; {head} {_named(needs[head])}"
    needs[head] = new
    return text


def _union(needs: dict[str, list[str]], atoms: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(candidate for atom in atoms for candidate in needs[atom]))


def _named(candidates: list[str]) -> str:
    return " ".join(candidates) or "free"


def _arithmetic(item: Item) -> str:
    tokens: list[str] = item.data["expression"].split()
    lines, value = [], int(tokens[0]) if tokens[0].isdigit() else None
    if value is None or any(t not in "+-" and not t.isdigit() for t in tokens):
        return f" {item.data['expression']}"
    for sign, term in zip(tokens[1::2], tokens[2::2], strict=True):
        other = int(term)
        step = other if sign == "+" else -other
        lines.append(f" {value} {sign} {other}:{_columns(value, step)} {value + step}")
        value += step
    return "\n".join(lines)


def _columns(a: int, b: int) -> str:
    """Write an addition or a subtraction digit by digit, units first, with what is carried."""
    sign = 1 if (a < 0) == (b < 0) else -1
    small, big = sorted((abs(a), abs(b)))
    parts, carry = [], 0
    while big or small or carry:
        x, y = big % 10, small % 10
        total = x + sign * y + sign * carry
        parts.append(f" {x} {y} {carry} {total % 10}")
        carry = int(total > 9 or total < 0)
        big, small = big // 10, small // 10
    return ";".join(parts) + ";"


_WRITERS: dict[str, Callable[[Item], str]] = {"deduction": _deduction, "induction": _induction}
_WRITERS |= {"abduction": _abduction, "arithmetic": _arithmetic}
