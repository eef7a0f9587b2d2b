"""merger eval and compare: models scored on tasks; two of anything scored, item by item.

A score stands with its interval; a comparison is paired by item, and its table says too what so
few items cannot see. McNemar's exact test, p corrected by Holm over the tasks of one table. What
is compared may be models of a ledger, winners of runs, or sample files of lm-eval.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import join, quote
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.api.evaluate import evaluate as run
from merger.cli.options import Json, command

if TYPE_CHECKING:
    from evals.ledger import Row
    from evals.paired import Comparison
    from evals.sides import Match

_SHOWN = 3  # flipped items shown on each side
_LONGEST = 800  # characters shown of a text


@command("eval", run)
def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...")],
    *,
    export: Path | None = None,
    as_json: Json = False,
    **asked: Any,
) -> None:
    """Score models on tasks. What the ledger holds is never paid for again.

    Example: merger eval base ded --tasks ded,ind --n 100

    Args:
        models: Folders, aliases, Hub ids.
        export: Write every answer and score here: .csv, .parquet or .jsonl.
    """
    from evals.jsonl import check_table, write_table
    from evals.ledger import hidden
    from merger.cli.console import data, say
    from merger.cli.screen import Terminal

    check_table(export)
    try:
        first, *others = found = run(models, **asked, screen=Terminal())
    except KeyboardInterrupt:
        say(f"paused: {asked['store']} keeps every answer so far; the same command continues")
        raise
    if export:
        rows = [row for one in found for row in one.rows()]
        write_table(export, rows)
        say(f"{len(rows)} answers in {export}")
    if as_json:
        pairs = [pair for one in others for pair in one.against(first)]
        data({"models": [one.document() for one in found]} | ({"pairs": pairs} if pairs else {}))
    else:
        label = _labels([one.model for one in found])
        _show_scores({label[one.model]: one.scores for one in found})
        if others:
            _show_pairs(label[first.model], {label[o.model]: o.compared(first) for o in others})
    then = f"another model on the same items: merger eval {quote(models[0])} OTHER …"
    if others:
        then = f"next: merger compare {join(models[:2])}{_kept(asked['store'])} --flips"
    say(f"ledger: {hidden(asked['store'])}; {then}")


@command("compare")
def compare(
    a: str, b: str, *, store: str = "evals.sqlite", flips: bool = False, as_json: Json = False
) -> None:
    """Compare B with A on the same items: difference, interval, exact p, what could be seen.

    Example: merger compare base ded --flips

    Args:
        a: A model's name or fingerprint, a run, a samples file.
        b: The other; differences are B minus A.
        store: Ledger: a path or a SQLAlchemy URL.
        flips: Show the items that flipped.
    """
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
        pairs = [c.document() | {"p_holm": p} for c, p in zip(found, adjusted, strict=True)]
        for told, c in zip(pairs, found if flips else (), strict=False):
            told |= {"gained": list(c.gained), "lost": list(c.lost)}
        data({"a": a, "b": b, "tasks": pairs})
        return
    label = _labels([a, b])
    left, right = label[a], label[b]
    _show_scores({left: {m.task: m.a for m in matches}, right: {m.task: m.b for m in matches}})
    _show_pairs(left, {right: found})
    for comparison, pair in zip(found, matches if flips else (), strict=False):
        _show_flips(comparison, pair, (left, right))
    if not flips:
        say(f"next: merger compare {join((a, b))}{_kept(store)} --flips  (the items that differ)")


def _kept(store: str) -> str:
    """Return the option that names a ledger, where it must be said."""
    from evals.ledger import hidden

    return "" if store == "evals.sqlite" else f" --store {quote(hidden(store))}"


def _labels(names: Sequence[str]) -> dict[str, str]:
    """Shorten paths to their last part where that names one model only."""
    short = {name: _last_part(Path(name)) or name for name in names}
    return {n: s if list(short.values()).count(s) == 1 else n for n, s in short.items()}


def _last_part(path: Path) -> str:
    """Return a path's last part; lm-eval puts its samples into a folder that names the model."""
    model = path.parent.name.rpartition("__")[2] if path.name.startswith("samples_") else ""
    return model or path.name


def _show_scores(found: "Mapping[str, Mapping[str, Sequence[Row]]]") -> None:
    """Print what each model scored: model -> task -> rows."""
    from evals.paired import labelled
    from evals.summary import summarize
    from merger.cli.console import table

    lines = []
    for model, scores in found.items():
        told = {task: summarize(rows) for task, rows in scores.items()}
        for task, s in told.items():
            interval = f"{100 * s.ci95.low:.1f}–{100 * s.ci95.high:.1f}"
            rates = ("–" if r is None else f"{100 * r:.1f}" for r in (s.truncated, s.no_answer))
            name = labelled(task, s.measure)
            lines.append((model, name, str(s.n), f"{100 * s.mean:.1f}", interval, *rates))
        if len(told) > 1:
            mean = sum(s.mean for s in told.values()) / len(told)
            lines.append((model, "mean", "", f"{100 * mean:.1f}", "", "", ""))
    table("", ("model", "task", ">n", ">%", ">95 %", ">cut", ">unread"), lines)


def _show_pairs(first: str, others: "Mapping[str, Sequence[Comparison]]") -> None:
    """Print how each model differs from the first, and what could have been seen."""
    from evals.paired import COLUMNS, LEGEND, labelled
    from evals.stats import holm
    from merger.cli.console import WIDTH, out, table

    pairs = [(model, c) for model, found in others.items() for c in found]
    adjusted = holm([c.result.p for _, c in pairs])
    lines = [
        (model, labelled(c.task, c.measure), str(c.result.n), *c.cells(p))
        for (model, c), p in zip(pairs, adjusted, strict=True)
    ]
    title = f"against {first}, on the same items"
    if len(others) > 1:
        table(title, ("model", "task", ">n", *COLUMNS), lines)
    else:
        table(f"{pairs[0][0]} {title}", ("task", ">n", *COLUMNS), [line[1:] for line in lines])
    out(fill(LEGEND, WIDTH))


def _show_flips(comparison: "Comparison", pair: "Match", names: tuple[str, str]) -> None:
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
