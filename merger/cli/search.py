"""merger search: find the weights of a merge, and say whether the gain is real."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from merger.cli.app import app

Experts = Annotated[str | None, typer.Option(help="Models to merge, with commas.")]
Base = Annotated[str, typer.Option(help="The model they started from.")]
Family = Annotated[str | None, typer.Option(help="Family whose aliases are used.")]
Tasks = Annotated[
    str, typer.Option(help="What to score on, with commas: tasks, or files of items (.jsonl).")
]
Check = Annotated[
    str, typer.Option(help="How files of items are graded: exact, number, math, package:function.")
]
Levels = Annotated[str | None, typer.Option(help="Levels of the items: 1-2 or 1,3.")]
Items = Annotated[
    str, typer.Option(help="Items per task: search + confirm, or search + select + confirm.")
]
Mde = Annotated[float | None, typer.Option(help="Confirm items enough to see so many points.")]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials in all (60).")]
Time = Annotated[str | None, typer.Option(help="Time in all: 90s, 10m, 1h.")]
Goal = Annotated[str, typer.Option(help="mean, min, weighted:ded=2,ind=1 or pareto.")]
Sampler = Annotated[str, typer.Option(help="auto, gp, tpe, cmaes, nsga, random.")]
Racing = Annotated[str, typer.Option(help="When a losing trial is stopped: sign, strict or none.")]
Prefer = Annotated[
    str, typer.Option(help="simple: a simple recipe stays unless beaten; best: the winner.")
]
Storage = Annotated[
    str | None, typer.Option(help="Study: journal:///…, sqlite:///…, postgresql+psycopg://….")
]
Store = Annotated[str | None, typer.Option(help="Ledger: a path or a database URL.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes on this machine.")]
Out = Annotated[Path | None, typer.Option(help="Run folder to make.")]
Resume = Annotated[Path | None, typer.Option(help="Run folder to continue.")]
Save = Annotated[Path | None, typer.Option(help="Write the merged model here.")]
Dtype = Annotated[str | None, typer.Option(help="Dtype of the merge (the base's).")]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Budget = Annotated[int | None, typer.Option(help="Token budget of an answer.")]
Seed = Annotated[int | None, typer.Option(help="Seed; none: fresh confirm items.")]
AllowLineage = Annotated[
    bool, typer.Option("--allow-lineage", help="Take experts of another base.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command("search")
def search(
    experts: Experts = None,
    base: Base = "base",
    family: Family = None,
    tasks: Tasks = "ded,ind,abd",
    check: Check = "exact",
    levels: Levels = None,
    items: Items = "100+200",
    mde: Mde = None,
    trials: Trials = None,
    time: Time = None,
    objective: Goal = "mean",
    sampler: Sampler = "auto",
    racing: Racing = "sign",
    prefer: Prefer = "simple",
    storage: Storage = None,
    store: Store = None,
    workers: Workers = 1,
    out: Out = None,
    resume: Resume = None,
    save: Save = None,
    dtype: Dtype = None,
    device: Device = "cpu",
    max_new_tokens: Budget = None,
    seed: Seed = None,
    allow_lineage: AllowLineage = False,
    as_json: Json = False,
) -> None:
    """Search the weights of a merge, confirm the winner on fresh items, write both down.

    Candidates race on common items; one winner is frozen before any confirm item is drawn, and is
    compared with the base, the best expert, the uniform average and the paper's weights.
    """
    asked = dict(locals())
    from datetime import datetime

    from merger.api.search import search as run_search
    from merger.cli.console import data, say
    from merger.cli.pausing import joined, pausing
    from merger.cli.screen import Screen, show

    for mine in ("workers", "as_json", "out", "resume"):
        del asked[mine]
    place = resume or out or Path("runs") / datetime.now().strftime("search-%Y%m%d-%H%M%S")
    with pausing(f"merger search --resume {place}"):
        found = run_search(
            out=place,
            resume=resume is not None,
            screen=Screen(),
            helpers=lambda: joined(place, workers - 1),
            **asked,
        )
    if as_json:
        kept = ("verdict", "words", "kept", "winner", "frozen", "confirm")
        data({"run": str(found.run.path)} | {k: found.confirmed[k] for k in kept})
        return
    show(found.report)
    if save is None:
        say(f"merge it:    merger merge {place / 'winner.yaml'} OUT")
    say(f"explain it:  merger ablate {place}")
    say(f"all trials:  optuna-dashboard {found.run.storage.removeprefix('journal://')}")
