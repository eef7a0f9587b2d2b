"""`merger compare`: two models of a ledger, two runs, or two lm-eval sample files, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app

if TYPE_CHECKING:
    from evals.paired import Comparison

_SHOWN = 3  # flipped items shown on each side


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
    from evals.paired import COLUMNS, compare_scores
    from evals.stats import holm
    from merger.cli.console import data, table

    left, right = (_scores(name, store) for name in (a, b))
    names = [task for task in left if task in right]
    if not names:
        _nothing_common(a, b, left, right)
    found = [compare_scores(task, left[task], right[task]) for task in names]
    adjusted = holm([c.result.p for c in found])
    if as_json:
        pairs = [_document(c, p, flips) for c, p in zip(found, adjusted, strict=True)]
        data({"a": a, "b": b, "tasks": pairs})
        return
    rows = [(*c.cells(), f"{p:.3f}") for c, p in zip(found, adjusted, strict=True)]
    table(f"{b} against {a}, on the same items", (*COLUMNS, ">Holm"), rows)
    if flips:
        _show_flips(found)


def _document(comparison: Comparison, adjusted: float, flips: bool) -> dict[str, Any]:
    document = comparison.document() | {"p_holm": adjusted}
    if flips:
        document |= {"gained": list(comparison.gained), "lost": list(comparison.lost)}
    return document


def _show_flips(found: list[Comparison]) -> None:
    """List the items only one side got right."""
    from merger.cli.console import out

    for comparison in found:
        for word, items in (("gained", comparison.gained), ("lost", comparison.lost)):
            out(f"{comparison.task} {word} {len(items)}")
            for item in items[:_SHOWN]:
                out(f"  {item}")
            if len(items) > _SHOWN:
                out(f"  and {len(items) - _SHOWN} more (--json --flips lists all)")


def _nothing_common(
    a: str, b: str, left: Mapping[str, object], right: Mapping[str, object]
) -> None:
    from merger.errors import EvalError

    raise EvalError(
        f"{a} was scored on {', '.join(left)}, {b} on {', '.join(right)}: no task in common",
        "Evaluate both on the same tasks with `merger eval`.",
    )


def _scores(name: str, store: str) -> dict[str, dict[str, float]]:
    """Return task -> item -> score of a samples file, a run folder or a model in the ledger."""
    from evals.samples import read_samples

    path = Path(name)
    if path.suffix in {".jsonl", ".json"}:
        return read_samples(path)
    if (path / "ledger.sqlite").is_file():
        return _run_scores(path)
    return _ledger_scores(store, name)


def _run_scores(run: Path) -> dict[str, dict[str, float]]:
    """Return the scores of a run's winner, which confirm.json names, on confirm items alone.

    Search and select items chose the winner, so its scores on them flatter it.
    """
    import json

    from merger.errors import EvalError

    confirm = run / "confirm.json"
    if not confirm.is_file():
        raise EvalError(f"{run} has no winner yet: no confirm.json", "Finish it: --resume.")
    winner = json.loads(confirm.read_text())["winner"]
    fingerprint = winner["fingerprint"] if isinstance(winner, dict) else winner
    table = _ledger_scores(str(run / "ledger.sqlite"), fingerprint)
    held = {t: {i: s for i, s in scores.items() if "/confirm/" in i} for t, scores in table.items()}
    return {task: scores for task, scores in held.items() if scores}


def _ledger_scores(store: str, name: str) -> dict[str, dict[str, float]]:
    """Return the scores of the model of this name or fingerprint (or a beginning of it)."""
    from evals.ledger import Ledger
    from merger.errors import EvalError
    from merger.registry import unknown

    if "://" not in store and not Path(store).is_file():
        raise EvalError(f"there is no ledger at {store}", "Name one with --store, or run eval.")
    ledger = Ledger(store)
    names, cells = ledger.names(), ledger.cells()
    prints = {c.fingerprint for c in cells}
    chosen = {
        f for f in prints if name in names.get(f, ()) or (len(name) >= 6 and f.startswith(name))
    }
    if len(chosen) > 1:
        raise EvalError(
            f"{name!r} names {len(chosen)} different models in {store}",
            f"Name a fingerprint: {', '.join(sorted(f[:12] for f in chosen))}.",
        )
    if not chosen:
        known = [n for f in prints for n in names.get(f, [f[:12]])]
        raise unknown(f"model in {store}", name, known)
    table: dict[str, dict[str, float]] = {}
    for cell in cells:
        if cell.fingerprint in chosen:
            table.setdefault(cell.task, {}).update(ledger.scores(cell))
    return table
