"""merger ablate: take a finished search, or a merge config, apart and say where its gain lies.

The options stand in search/wanted.py, one table for this command, recipes and Python.
"""

from pathlib import Path
from typing import Any

from merger.api.search import ablate as ablate_by_call
from merger.cli.app import pausing
from merger.cli.options import Json, Verbose, command
from search.wanted import Wanted


@command("ablate", Wanted)
def ablate(run: Path, *, verbose: Verbose = False, as_json: Json = False, **asked: Any) -> None:
    """Report where a gain comes from: experts, operators, scales, layers; and how sure that is.

    What is scored already is read from the ledger; what is missing is scored on the confirm items
    after its cost is printed. Writes report.json, report.md, report.html and figures/ into the run.

    Example: merger ablate runs/first --quick

    Args:
        run: Folder of a finished search, or a merge config.
        verbose: Show every column and table, as markdown.
    """
    from merger.cli import console
    from merger.cli.screen import Terminal, show
    from search.tables import markdown

    folder = Wanted(**asked).folder(run)
    with pausing(f"merger ablate {run if folder == run else f'{run} --out {folder}'}"):
        document = ablate_by_call(run, screen=Terminal(), **asked)
    if as_json:
        console.data(document)
    elif not asked["plan"]:
        console.out(markdown(document)) if verbose else show(document)
        console.say(f"the whole report: {folder / 'report.html'}")
