"""merger search: find the weights of a merge, and say whether the gain is real.

The options stand in search/asked.py, one table for this command, recipes and Python.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from merger.cli.app import app
from merger.cli.options import options_of
from search.asked import Asked, Common


@app.command("search")
@options_of(Asked, [field.name for field in fields(Common)])
def search(
    *,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Run folder to make.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to continue.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the merged model here.")] = None,
    allow_lineage: Annotated[
        bool, typer.Option("--allow-lineage", help="Take experts of another base.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    **asked: Any,
) -> None:
    """Search the weights of a merge, confirm the winner on fresh items, write both down.

    Candidates race on common items; one winner is frozen before any confirm item is drawn, and is
    compared with the base, the best expert, the uniform average and the paper's weights.
    """
    from datetime import datetime

    from merger.api.search import search as run_search
    from merger.cli.console import data, say
    from merger.cli.pausing import joined, pausing
    from merger.cli.screen import Screen, show

    place = resume or out or Path("runs") / datetime.now().strftime("search-%Y%m%d-%H%M%S")
    with pausing(f"merger search --resume {place}"):
        found = run_search(
            out=place,
            resume=resume is not None,
            save=save,
            allow_lineage=allow_lineage,
            screen=Screen(),
            helpers=lambda: joined(place, workers - 1),
            **asked,
        )
    if as_json:
        kept = ("verdict", "words", "kept", "winner", "frozen", "confirm", "guard")
        data({"run": str(found.run.path)} | {k: found.confirmed.get(k) for k in kept})
        return
    show(found.report)
    if save is None:
        say(f"merge it:    merger merge {place / 'winner.yaml'} OUT")
    say(f"explain it:  merger ablate {place}")
    say(f"all trials:  optuna-dashboard {found.run.storage.removeprefix('journal://')}")
