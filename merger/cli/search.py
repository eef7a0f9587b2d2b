"""merger search: find the weights of a merge, and say whether the gain is real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app

if TYPE_CHECKING:
    from search.protocol import Search


@app.command("search")
def search(
    experts: Annotated[str | None, typer.Option(help="Models to merge, with commas.")] = None,
    base: Annotated[str, typer.Option(help="The model they started from.")] = "base",
    family: Annotated[str | None, typer.Option(help="Family whose aliases are used.")] = None,
    tasks: Annotated[str, typer.Option(help="What to score on, with commas.")] = "ded,ind,abd",
    check: Annotated[
        str,
        typer.Option(help="How files of items are graded: exact, number, math, package:function."),
    ] = "exact",
    levels: Annotated[str | None, typer.Option(help="Levels of the items: 1-2 or 1,3.")] = None,
    items: Annotated[
        str, typer.Option(help="Items per task: search + confirm, or search + select + confirm.")
    ] = "100+200",
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all (60).")] = None,
    time: Annotated[str | None, typer.Option(help="Time in all: 90s, 10m, 1h.")] = None,
    objective: Annotated[
        str, typer.Option(help="mean, min, weighted:ded=2,ind=1 or pareto.")
    ] = "mean",
    sampler: Annotated[str, typer.Option(help="auto, gp, tpe, cmaes, nsga, random.")] = "auto",
    racing: Annotated[str, typer.Option(help="sign, strict or none.")] = "sign",
    prefer: Annotated[
        str, typer.Option(help="simple: a simple recipe stays unless beaten; best: the winner.")
    ] = "simple",
    storage: Annotated[
        str | None, typer.Option(help="Study: journal:///…, sqlite:///…, postgresql+psycopg://….")
    ] = None,
    store: Annotated[str | None, typer.Option(help="Ledger: a path or database URL.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Run folder to make.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to continue.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the merged model here.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Dtype of the merge.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    max_new_tokens: Annotated[int | None, typer.Option(help="Token budget per answer.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; none: fresh confirm items.")] = None,
    allow_lineage: Annotated[
        bool, typer.Option("--allow-lineage", help="Take experts of another base.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Search the weights of a merge, confirm the winner on fresh items, write both down.

    Candidates race on common items; one winner is frozen before any confirm item is drawn, and is
    compared with the base, the best expert, the uniform average and the paper's weights.
    """
    asked = dict(locals())
    from dataclasses import fields
    from datetime import datetime

    from merger.cli.pausing import joined, pausing
    from merger.cli.screen import Screen
    from search.ask import Asked, options_of, seconds_of
    from search.run import Run
    from search.setup import create, extend, open_search

    screen = Screen()
    if resume:
        run = Run(resume)
        extend(run, trials, seconds_of(time) if time else None)
    else:
        options = options_of(Asked(**{f.name: asked[f.name] for f in fields(Asked)}))
        folder = out or Path("runs") / datetime.now().strftime("search-%Y%m%d-%H%M%S")
        run = create(folder, options, screen, allow_lineage=allow_lineage)
    with pausing(f"merger search --resume {run.path}"):
        opened = open_search(run, screen)
        opened.helpers = lambda: joined(run.path, workers - 1)
        document = opened.go()
        _finish(opened, document, save, as_json=as_json)


def _finish(search: Search, document: dict[str, Any], save: Path | None, *, as_json: bool) -> None:
    """Write what came out, show it, and name the commands that follow."""
    from merger.cli.console import data, say
    from merger.cli.screen import show
    from search.report import search_report
    from search.winner import save_model, write_winner

    write_winner(search, document)
    report = search_report(search, document)
    if save:
        for note in save_model(search, document, save):
            say(note)
    if as_json:
        kept = ("verdict", "words", "kept", "winner", "frozen", "confirm")
        data({"run": str(search.run.path)} | {k: document[k] for k in kept})
        return
    show(report)
    for text in _commands(search, save):
        say(text)


def _commands(search: Search, save: Path | None) -> Iterator[str]:
    """Yield the exact commands that use what was found."""
    run = search.run
    if save is None:
        yield f"merge it:    merger merge {run.path / 'winner.yaml'} OUT"
    yield f"explain it:  merger ablate {run.path}"
    place = search.run.storage.removeprefix("journal://")
    yield f"all trials:  optuna-dashboard {place}"
