"""merger ablate: take a finished search apart and say which expert gave what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from merger.cli.app import app


@app.command("ablate")
def ablate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished search.")],
    sections: Annotated[
        str | None, typer.Option(help="Only these, with commas: leave_one_out, shapley, ….")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Sampled answers an item, for the oracle (0: none).")
    ] = 0,
    temperature: Annotated[float, typer.Option(help="Temperature of these samples.")] = 1.0,
    max_evals: Annotated[
        int | None, typer.Option(min=0, help="Most merges to score; what needs more is left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the cost and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Report which expert gave what: leave-one-out, exact Shapley, who solves what, the oracle.

    What the search has scored is read from its ledger; what is missing is scored on the confirm
    items after its cost is printed. Writes report.json and report.md into the run folder.
    """
    from merger.api.search import ablate as run_ablation
    from merger.cli.console import data
    from merger.cli.pausing import pausing
    from merger.cli.screen import Screen, show

    with pausing(f"merger ablate {run}"):
        document = run_ablation(
            run,
            sections,
            samples=samples,
            temperature=temperature,
            max_evals=max_evals,
            dry_run=dry_run,
            screen=Screen(),
        )
    if as_json:
        data(document)
    elif document:
        show(document)
