"""merger ablate: take a finished search apart and say which expert gave what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merger.cli.app import app
from merger.errors import SearchError

if TYPE_CHECKING:
    from search.ablation import Ablation
    from search.protocol import Search


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
    from merger.cli.console import data
    from merger.cli.pausing import pausing
    from merger.cli.screen import Screen, show
    from search.ablation import Ablation, section_names
    from search.candidate import Candidate
    from search.report import write
    from search.run import Run
    from search.setup import open_search

    names, folder = section_names(sections), Run(run)
    confirmed = folder.read("confirm.json")
    if folder.manifest and confirmed is None:
        law = f"{run} has no confirm.json: its search has not ended"
        raise SearchError(law, f"merger search --resume {run}")
    search = open_search(folder, Screen())
    search.world.pools.sealed.clear()
    parts = Ablation(
        search.world,
        Candidate.from_mapping(confirmed["winner"]),
        search.options.experts,
        search.objective,
        samples,
        temperature,
    )
    kept = _affordable(search, parts, names, max_evals)
    if dry_run:
        return
    with pausing(f"merger ablate {run}"):
        _pay(search, parts, kept)
        document = write(folder, search, {name: parts.section(name) for name in kept})
    if as_json:
        data(document)
    else:
        show(document)


def _affordable(
    search: Search, parts: Ablation, names: Sequence[str], most: int | None
) -> list[str]:
    """Print what each section costs and return those within the limit."""
    rate = search.run.manifest.get("prepared", {}).get("seconds_per_answer", 0.0)
    kept: list[str] = []
    for name in names:
        merges, answers = parts.cost([*kept, name])
        if most is not None and merges > most:
            search.screen.say(
                f"{name}: left out, it needs {merges} merges and --max-evals is {most}"
            )
            continue
        kept.append(name)
    merges, answers = parts.cost(kept)
    search.screen.say(
        f"Cost: {merges} merges to score, {answers} answers, about {answers * rate:.0f} s; "
        "all else is in the ledger."
    )
    return kept


def _pay(search: Search, parts: Ablation, names: Sequence[str]) -> None:
    """Score what is missing, with progress."""
    _, answers = parts.cost(names)
    if not answers:
        return
    with search.screen.progress("ablate", answers) as steps:
        for world, candidate, pool in parts.needs(names):
            if missing := world.missing(candidate, pool):
                world.answers(candidate, pool)
                steps.step(missing, candidate.describe())
