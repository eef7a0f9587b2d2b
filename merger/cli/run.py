"""merger run: a recipe's stages in order, in one folder that can be continued."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merger.cli.app import app
from merger.errors import UsageError

if TYPE_CHECKING:
    from recipes.runner import Line


@app.command("run")
def run(
    recipe: Annotated[
        str, typer.Argument(help="A bundled recipe's name, a YAML file, or a run folder.")
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder (runs/NAME).")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="seed, scale, STAGE.option, KIND.option."),
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="Run this stage only.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all stages, as --set seed=N.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all, show the stages, run none.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Run a recipe. Finished stages are not run again; a killed one continues."""
    from merger.cli.console import data, say
    from merger.cli.pausing import pausing
    from merger.cli.screen import Screen
    from recipes.recipe import load_recipe
    from recipes.runner import Runner

    _alone()
    chosen = [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]
    loaded = load_recipe(recipe, chosen)
    runner = Runner(loaded, out or _folder(recipe, loaded.name), Screen())
    if dry_run:
        _show(runner.plan(), as_json=as_json)
        return
    with pausing(f"merger run {runner.run}"):
        facts = runner.go(only)
    say(f"run: {runner.run}")
    if as_json:
        data({"run": str(runner.run.absolute()), "stages": facts})


def _alone() -> None:
    """Refuse several processes, which would all run every stage."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "merger run is one process, and a launcher started several",
            "Launch the stage instead: accelerate launch -m merger.cli align …",
        )


def _folder(recipe: str, name: str) -> Path:
    """Return where a recipe runs: the folder it was kept in, or runs/NAME."""
    return Path(recipe) if (Path(recipe) / "recipe.yaml").is_file() else Path("runs") / name


def _show(plan: list[Line], *, as_json: bool) -> None:
    from merger.cli.console import data, table

    if as_json:
        data({"stages": [line._asdict() for line in plan]})
        return
    rows = [(line.name, line.kind, ", ".join(line.models), line.state) for line in plan]
    table("", ("stage", "kind", "starts from", "state"), rows)
