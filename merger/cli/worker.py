"""merger worker: another process, here or on another host, that takes trials of one search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from merger.cli.app import app


@app.command("worker")
def worker(
    join: Annotated[Path, typer.Option(help="Run folder of the search, on a shared disk.")],
) -> None:
    """Take trials of a running search until its budget is used.

    Several hosts need the study and the ledger in places all of them reach: begin the search with
    --storage and --store set to PostgreSQL URLs, or keep the run folder on a shared disk.
    """
    from merger.cli.pausing import pausing
    from merger.cli.screen import Screen
    from search.crash import this_worker
    from search.run import Run
    from search.setup import open_search

    screen, name = Screen(), this_worker()
    with pausing(f"merger worker --join {join}"):
        search = open_search(Run(join), screen, worker=name)
        screen.say(f"worker {name} joins {join}: {search.study.finished()} trials are done")
        with screen.trials(search.study.finished(), search.options.trials) as told:
            search.work(told)
