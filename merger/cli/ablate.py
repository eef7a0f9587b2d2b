"""merger ablate: take a finished search, or a merge config, apart and say where its gain lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from merger.cli.app import app


@app.command("ablate")
def ablate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished search, or a merge config.")],
    sections: Annotated[str | None, typer.Option(help="Only these, with commas.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer items, points, samples.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", "--dry-run", help="Print what it costs and stop.")
    ] = False,
    max_evals: Annotated[
        int | None, typer.Option(min=0, help="Most merges to score; what needs more is left out.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=0, help="Samples an item for the oracle (one per expert).")
    ] = None,
    temperature: Annotated[float, typer.Option(help="Temperature of sampled answers.")] = 0.7,
    margin: Annotated[float, typer.Option(help="Points within which merges are as good.")] = 2.0,
    log: Annotated[
        list[str] | None,
        typer.Option(help="Learning curves of a start: NAME=curve.jsonl[,curve.jsonl]."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Of a config: the run folder.")] = None,
    base: Annotated[str, typer.Option(help="Of a config that names none: the base.")] = "base",
    family: Annotated[str | None, typer.Option(help="Of a config: whose aliases.")] = None,
    tasks: Annotated[str, typer.Option(help="Of a config: what to score on.")] = "ded,ind,abd",
    levels: Annotated[str | None, typer.Option(help="Of a config: levels of the items.")] = None,
    items: Annotated[int, typer.Option(min=2, help="Of a config: items per task.")] = 100,
    seed: Annotated[int, typer.Option(help="Of intervals, orders and fresh items.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Show every column and table, as markdown.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Report where a gain comes from: experts, operators, scales, layers; and how sure that is.

    What is scored already is read from the ledger; what is missing is scored on the confirm items
    after its cost is printed. Writes report.json, report.md, report.html and figures/ into the run.
    """
    from merger.cli import console
    from merger.cli.pausing import pausing
    from merger.cli.screen import Screen, show
    from search.ablation_run import Wanted, run_of_config
    from search.ablation_run import ablate as taken_apart
    from search.asked import Asked
    from search.tables import markdown

    screen, folder = Screen(), run
    wanted = Wanted(sections, quick, samples, temperature, margin, max_evals, plan, seed, device,
                    log or ())  # fmt: skip
    if run.suffix in (".yaml", ".yml"):
        folder = out or Path("runs") / f"ablate-{run.stem}"
        asked = Asked(base=base, family=family, tasks=tasks, levels=levels, seed=seed,
                      items=f"{items}+{items}", device=device or "cpu")  # fmt: skip
        run_of_config(run, folder, asked, screen)
    with pausing(f"merger ablate {folder}"):
        document = taken_apart(folder, wanted, screen)
    if as_json:
        console.data(document)
    elif not plan:
        console.out(markdown(document)) if verbose else show(document)
        console.say(f"the whole report: {folder / 'report.html'}")
