"""Worked traces, written by solvers: every step can be checked from what stands beside it.

A trace is what the cold start puts between `<think>` and `</think>`. What can be learned at a
million parameters depends on it entirely (docs/log.md): a step first copies the formula, pair or
rule it uses, then writes what follows, so that no step needs more than one look back.

- deduction: the list of partial assignments that satisfy the formulas read so far. For each
  formula, every surviving assignment is extended by the formula's new variables; those that satisfy
  it are numbered, the others marked x.
- induction: the steps that fit each pair of neighbours, then the steps of the cycle written out,
  then the one step into the gap.
- abduction: forward chaining; each firing copies its rule and gives the head's minimal candidate
  sets.
- arithmetic: column by column.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

from evals.task import Item
from evals.tasks.formulas import as_tuples, holds, show, variables
from evals.tasks.horn import Rule, join, minimal
from evals.tasks.induction import fitting


def trace(item: Item, *, quick: bool = False) -> str:
    """Return the worked trace of an item; `quick` is abduction by first derivations only."""
    if quick and item.task == "abduction":
        return _first_derivations(item)
    return _WRITERS[item.task](item)


def completion(item: Item, *, worked: bool, quick: bool = False) -> str:
    """Return the text after the pre-filled `<think>`: the trace, or nothing, then the answer.

    The answer begins with a space, so that its tokens are those of the trace and can be copied.
    """
    return f"{trace(item, quick=quick) if worked else ''}</think><answer> {item.answer}</answer>"


def size(item: Item) -> int:
    """Return how long an item is: its formulas, terms or rules; minus signs in arithmetic."""
    parts = {"deduction": "formulas", "induction": "visible", "abduction": "rules"}
    part = item.data[parts.get(item.task, "expression")]
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
        fits = "?" if a is None or b is None else " ".join(f"{s}{v}" for s, v in fitting(a, b))
        pairs.append(f" {left} {right} {fits}")
    hole = visible.index(None)
    steps = [f"{s}{v}" for s, v in (cycle[i % len(cycle)] for i in range(len(visible) - 1))]
    last = f" {text[hole - 1]} {steps[hole - 1]} {item.answer}"
    return ";".join(pairs) + "\n " + " ".join(steps) + "\n" + last


def _abduction(item: Item) -> str:
    d = item.data
    candidates: list[str] = list(d["candidates"])
    labels: dict[str, list[int]] = {atom: [0] for atom in d["facts"]}
    labels |= {atom: [1 << i] for i, atom in enumerate(candidates)}

    def sets(masks: list[int]) -> str:
        named = (" ".join(c for i, c in enumerate(candidates) if m >> i & 1) for m in masks)
        return " | ".join(name or "free" for name in named)

    rules: list[Rule] = [(tuple(body), head) for body, head in d["rules"]]
    lines, grew = [], True
    while grew:
        grew = False
        for number, (body, head) in enumerate(rules, 1):
            if any(atom not in labels for atom in body):
                continue
            merged = minimal([*labels.get(head, []), *(join([labels[a] for a in body]) or [])])
            if merged != labels.get(head):
                labels[head], grew = merged, True
                lines.append(f"{number}. {' '.join(body)} → {head}: {sets(merged)}")
    every = join([labels[goal] for goal in d["goals"]]) or []
    lines.append(f" {' '.join(d['goals'])}: {sets(every)}")
    if d["forbidden"]:
        lines.append(f" {d['forbidden']}: {sets(labels.get(d['forbidden'], []))}")
    return "\n".join(lines)


def _first_derivations(item: Item) -> str:
    """Chain forward until the goals are known, each atom by the first rule that gives it.

    The candidates a rule rests on are those of its body, in the body's order. Nothing is derived
    twice, so a smaller explanation that comes later is missed: `found` says whether one was.
    """
    d = item.data
    needs: dict[str, list[str]] = {atom: [] for atom in d["facts"]}
    needs |= {atom: [atom] for atom in d["candidates"]}
    lines, grew = [], True
    while grew and any(goal not in needs for goal in d["goals"]):
        grew = False
        for number, (body, head) in enumerate(d["rules"], 1):
            if head in needs or any(atom not in needs for atom in body):
                continue
            needs[head], grew = list(dict.fromkeys(c for a in body for c in needs[a])), True
            lines.append(f"{number}. {' '.join(body)} → {head}: {' '.join(needs[head]) or 'free'}")
            if all(goal in needs for goal in d["goals"]):
                break
    every = dict.fromkeys(c for goal in d["goals"] for c in needs[goal])
    lines.append(f" {' '.join(d['goals'])}: {' '.join(every)}")
    return "\n".join(lines)


def found(item: Item) -> bool:
    """Say whether the quick trace of an item ends in its answer."""
    last = trace(item, quick=True).rsplit(": ", 1)[-1]
    return item.task != "abduction" or sorted(last.split()) == item.answer.split()


def _arithmetic(item: Item) -> str:
    tokens: list[str] = item.data["expression"].split()
    lines, value = [], int(tokens[0]) if tokens[0].isdigit() else None
    if value is None or any(t not in "+-" and not t.isdigit() for t in tokens):
        return f" {item.data['expression']}"
    for sign, term in zip(tokens[1::2], tokens[2::2], strict=True):
        other = int(term)
        after = value + other if sign == "+" else value - other
        lines.append(
            f" {value} {sign} {other}:{_columns(value, other if sign == '+' else -other)} {after}"
        )
        value = after
    return "\n".join(lines)


def _columns(a: int, b: int) -> str:
    """Write an addition or a subtraction digit by digit, units first, with what is carried."""
    if (a < 0) == (b < 0):
        sign, big, small = 1, max(abs(a), abs(b)), min(abs(a), abs(b))
    else:
        sign, big, small = -1, max(abs(a), abs(b)), min(abs(a), abs(b))
    parts, carry = [], 0
    while big or small or carry:
        x, y = big % 10, small % 10
        total = x + sign * y + sign * carry
        parts.append(f" {x} {y} {carry} {total % 10}")
        carry = int(total > 9 or total < 0)
        big, small = big // 10, small // 10
    return ";".join(parts) + ";"


_WRITERS: dict[str, Callable[[Item], str]] = {
    "deduction": _deduction,
    "induction": _induction,
    "abduction": _abduction,
    "arithmetic": _arithmetic,
}
