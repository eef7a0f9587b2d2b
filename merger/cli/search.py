"""merger search, worker, ablate: find the weights of a merge; say whether and whence the gain.

Their options stand in search/asked.py, tables for these commands, recipes and Python.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from merger.api.limits import Least
from merger.api.search import ablate as ablate_by_call
from merger.api.search import search as search_by_call
from merger.cli.app import pausing
from merger.cli.options import Json, Verbose, command
from search.asked import Asked, Wanted


@command("search", Asked)
def search(
    *,
    workers: Annotated[int, Least(1)] = 1,
    out: Path | None = None,
    resume: Path | None = None,
    save: Path | None = None,
    allow_lineage: bool = False,
    as_json: Json = False,
    **asked: Any,
) -> None:
    """Search the weights of a merge, confirm the winner on fresh items, write both down.

    Candidates race on common items; one winner is frozen before any confirm item is drawn, and is
    compared with the base, the best expert, the uniform average and the paper's weights.

    Example: merger search --experts ded,ind,abd --trials 60 --out runs/first

    Args:
        workers: Processes on this machine.
        out: Run folder to make.
        resume: Run folder to continue.
        save: Write the merged model here.
        allow_lineage: Take experts of another base.
    """
    from merger.cli.console import data, say
    from merger.cli.screen import Terminal, show

    if workers > 1:
        from evals.threads import cores

        os.environ["OMP_NUM_THREADS"] = str(max(1, cores() // workers))  # each its share
    place = resume or out or Path("runs") / datetime.now().strftime("search-%Y%m%d-%H%M%S")
    asked |= {"out": place, "resume": resume is not None, "save": save, "screen": Terminal()}
    with pausing(f"merger search --resume {place}", made=place / "manifest.json"):
        found = search_by_call(
            allow_lineage=allow_lineage, helpers=lambda: _joined(place, workers - 1), **asked
        )
    if as_json:
        kept = ("verdict", "words", "kept", "winner", "frozen", "confirm", "guard")
        data({"run": str(found.run.path)} | {k: found.confirmed.get(k) for k in kept})
        return
    show(found.report)
    if save is None:
        say(f"merge it:    merger merge {place / 'winner.yaml'} OUT")
    say(f"explain it:  merger ablate {place}")
    trials = shlex.quote(found.run.storage.removeprefix("journal://"))  # a URL has a ? to a shell
    say(f"all trials:  optuna-dashboard {trials}")


@contextmanager
def _joined(run: Path, count: int) -> Iterator[None]:
    """Have other processes take trials of a run while the block lasts; they log into its folder."""
    line = [sys.executable, "-m", "merger.cli", "worker", "--join", str(run)]
    helpers = []
    for i in range(count):
        with (run / f"worker-{i + 1}.log").open("a") as log:
            helpers.append(subprocess.Popen(line, stdout=log, stderr=log))  # noqa: S603
    try:
        yield
        for helper in helpers:
            helper.wait()  # a trial in flight is finished, for its scores are paid for
    finally:
        for helper in helpers:
            helper.terminate()
            helper.wait()


@command("worker")
def worker(*, join: Path) -> None:
    """Take trials of a running search until its budget is used.

    Several hosts need the study and the ledger in places all of them reach: begin the search with
    --storage and --store set to PostgreSQL URLs, or keep the run folder on a shared disk.

    Example: merger worker --join runs/first

    Args:
        join: Run folder of the search, on a shared disk.
    """
    from merger.cli.screen import Terminal
    from search.crash import this_worker
    from search.run import Run
    from search.setup import open_search

    screen, name = Terminal(), this_worker()
    with pausing(f"merger worker --join {join}"):
        search = open_search(Run(join), screen, worker=name)
        screen.say(f"worker {name} joins {join}: {search.study.finished()} trials are done")
        search.work()
        if search.run.read("frozen.json") is not None:
            screen.say("its winner is frozen: no trials are left")


@command("ablate", Wanted)
def ablate(run: Path, *, verbose: Verbose = False, as_json: Json = False, **asked: Any) -> None:
    """Report where a gain comes from: experts, operators, scales, layers; and how sure that is.

    What is scored already is read from the ledger; what is missing is scored on the confirm items
    after its cost is printed. Writes report.json, report.md, report.html and figures/ into the run;
    shows the sections that were asked for.

    Example: merger ablate runs/first --quick

    Args:
        run: Folder of a finished search, or a merge config.
        verbose: Show every column and table, as markdown.
    """
    from merger.cli.console import data, out, say
    from merger.cli.screen import Terminal, show
    from search.tables import markdown

    folder = Wanted(**asked).folder(run)
    with pausing(shlex.join(["merger", *sys.argv[1:]])):
        document = ablate_by_call(run, screen=Terminal(), **asked)
    if as_json:
        data(document)
    elif not asked["plan"]:
        names = [name.strip() for name in (asked["sections"] or "").split(",") if name]
        known = document["sections"]
        told = document | {"sections": {n: s for n, s in known.items() if n in names or not names}}
        out(markdown(told)) if verbose else show(told)
        say(f"the whole report: {folder / 'report.html'}")
