"""`merger compare`: two models of a ledger, two runs, or two lm-eval sample files, item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app

if TYPE_CHECKING:
    from evals.ledger import Row
    from evals.paired import Comparison
    from evals.sides import Match

_SHOWN = 3  # flipped items shown on each side
_LONGEST = 800  # characters shown of a text


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A model's name or fingerprint, a run, a samples file.")],
    b: Annotated[str, typer.Argument(help="The other; differences are B minus A.")],
    store: Annotated[
        str, typer.Option(help="Ledger: a path or a SQLAlchemy URL.")
    ] = "evals.sqlite",
    flips: Annotated[bool, typer.Option(help="Show the items that flipped.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Compare B with A on the same items: difference, interval, exact p, what could be seen."""
    from evals.paired import compare_rows
    from evals.sides import match, read_side
    from evals.stats import holm
    from merger.cli.console import data, say

    matches, notes = match(*(read_side(name, store) for name in (a, b)))
    found = [compare_rows(m.task, m.a, m.b) for m in matches]
    for note in notes:
        say(note)
    if as_json:
        adjusted = holm([c.result.p for c in found])
        pairs = [_document(c, p, flips) for c, p in zip(found, adjusted, strict=True)]
        data({"a": a, "b": b, "tasks": pairs})
        return
    left, right = labels([a, b]).values()
    rows = {m.task: m.a for m in matches}, {m.task: m.b for m in matches}
    show_scores({left: rows[0], right: rows[1]})
    show_pairs(left, {right: found})
    if flips:
        for comparison, pair in zip(found, matches, strict=True):
            _show_flips(comparison, pair, (left, right))
    else:
        say(f"next: merger compare {a} {b} --store {store} --flips  (the items that differ)")


def labels(names: Sequence[str]) -> dict[str, str]:
    """Shorten paths to their last part where that names one model only."""
    from pathlib import Path

    short = {name: Path(name).name or name for name in names}
    return {n: s if list(short.values()).count(s) == 1 else n for n, s in short.items()}


def show_scores(found: Mapping[str, Mapping[str, Sequence[Row]]]) -> None:
    """Print what each model scored: model -> task -> rows."""
    from evals.runner import summarize
    from merger.cli.console import table

    lines = []
    for model, scores in found.items():
        told = {task: summarize(rows) for task, rows in scores.items()}
        for task, s in told.items():
            interval = f"[{100 * s.ci95.low:.1f}, {100 * s.ci95.high:.1f}]"
            rates = (f"{100 * rate:.1f}" for rate in (s.truncated, s.no_answer))
            lines.append((model, task, str(s.n), f"{100 * s.mean:.1f}", interval, *rates))
        if len(told) > 1:
            mean = sum(s.mean for s in told.values()) / len(told)
            lines.append((model, "mean", "", f"{100 * mean:.1f}", "", "", ""))
    table("", ("model", "task", ">n", ">%", "95 %", ">truncated", ">no answer"), lines)


def show_pairs(first: str, others: Mapping[str, Sequence[Comparison]]) -> None:
    """Print how each model differs from the first, and what could have been seen."""
    from textwrap import fill

    from evals.paired import COLUMNS, visible
    from evals.stats import holm
    from merger.cli.console import WIDTH, out, table

    pairs = [(model, c) for model, found in others.items() for c in found]
    adjusted = holm([c.result.p for _, c in pairs])
    lines = [
        (model, c.task, str(c.result.n), *c.cells(p))
        for (model, c), p in zip(pairs, adjusted, strict=True)
    ]
    table(f"against {first}, on the same items", ("model", "task", ">n", *COLUMNS), lines)
    out(fill(visible([c for _, c in pairs]), WIDTH))


def _document(comparison: Comparison, adjusted: float, flips: bool) -> dict[str, Any]:
    document = comparison.document() | {"p_holm": adjusted}
    if flips:
        document |= {"gained": list(comparison.gained), "lost": list(comparison.lost)}
    return document


def _show_flips(comparison: Comparison, pair: Match, names: tuple[str, str]) -> None:
    """Show the items only one side got right: the question, and both answers side by side."""
    from merger.cli.console import out, table

    asked = pair.asked()
    texts = [{row.item: row.text for row in reversed(rows)} for rows in (pair.a, pair.b)]
    for word, items in (("gained", comparison.gained), ("lost", comparison.lost)):
        out(f"\n{comparison.task} {word} {len(items)}")
        for item in items[:_SHOWN]:
            facts = asked.get(item, {})
            out(f"\n{item}")
            out("".join(f"    {line}\n" for line in str(facts.get("prompt", "")).splitlines()))
            title = f"right: {facts['answer']}" if facts.get("answer") else ""
            table(title, names, [tuple(_cut(side[item]) for side in texts)])
        if len(items) > _SHOWN:
            out(f"and {len(items) - _SHOWN} more (--json --flips lists all)")


def _cut(text: str) -> str:
    """Leave out the middle of a long text: the answer stands at its end."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}\n[…]\n{text[-half:]}"
