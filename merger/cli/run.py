"""merger run: a recipe's stages in order, in one folder that can be continued."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from merger.cli.app import app
from merger.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from recipes.runner import Runner
    from recipes.series import Series


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
        bool, typer.Option("--dry-run", help="Check all, show stages and needs, run none.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Run a recipe. Finished stages are not run again; a killed one continues."""
    from merger.cli.console import data, say
    from merger.cli.pausing import pausing
    from merger.cli.screen import Screen
    from recipes.recipe import load_recipe
    from recipes.runner import Runner
    from recipes.series import Series

    _alone()
    chosen = [*(settings or []), *([f"seed={seed}"] if seed is not None else [])]
    loaded = load_recipe(recipe, chosen)
    runner = (Series if loaded.seeds else Runner)(
        loaded, out or _folder(recipe, loaded.name), Screen()
    )
    if dry_run:
        _check(runner, as_json=as_json)
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


def _check(runner: Runner | Series, *, as_json: bool) -> None:
    """Show the stages and what they take; raise where the disk is too small for what is to do."""
    from merger.cli.console import data, say, table
    from recipes.needs import free_disk, free_memory

    plan, downloads = runner.plan(), runner.downloads()
    todo = [s.needs for s in plan if s.needs and s.state != "finished"]
    asked = sum(n.disk for n in todo) + max((n.scratch for n in todo), default=0)
    gpu = any(n.gpu for n in todo)
    free = {"disk": free_disk(runner.run), "memory": free_memory(gpu=False)}
    free["gpu"] = free_memory(gpu=True) if gpu else 0
    if as_json:
        stages = [s._asdict() | {"needs": s.needs and s.needs._asdict()} for s in plan]
        data({"stages": stages, "downloads": downloads, "disk": asked, "free": free})
    else:
        rows = [
            (
                s.name,
                s.kind,
                ", ".join(s.models),
                s.state,
                *map(_size, (s.needs or (None,) * 3)[:3]),
            )
            for s in plan
        ]
        heads = ("stage", "kind", "starts from", "state", ">disk", ">scratch", ">memory")
        table("", heads, rows)
        for name, size in downloads.items():
            say(f"to download: {name}, {_size(size)}")
        least = "at least " if any(s.needs is None for s in plan) else ""
        say(f"disk: {least}{_size(asked)} to write, {_size(free['disk'])} free")
        for where, on_gpu in (("memory", False), ("gpu", True)):
            if most := max((n.memory for n in todo if n.gpu == on_gpu), default=0):
                short = "" if most <= free[where] else ": too little on this machine"
                say(f"{where}: {_size(most)} and more at once, {_size(free[where])} here{short}")
    if asked > free["disk"]:
        room = _size(free["disk"])
        law = f"{_size(asked)} are to be written below {runner.run}, and {room} are free"
        raise RecipeError(law, "Free some space, or name another place with --out.")


def _size(count: int | None) -> str:
    if count is None:
        return "unknown"
    return f"{count / 1e9:.1f} GB" if count > 1e8 else f"{count / 1e6:.1f} MB"
