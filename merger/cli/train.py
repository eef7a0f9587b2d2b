"""merger run, align, domain: a recipe's stages in order, or one stage of RL by itself.

`align` (Stage A) and `domain` (Stage C) are one piece of work with two presets; a flag named as a
setting lays its value over the preset, and --set reaches the settings that have no flag.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.api.limits import Count, Least
from merger.cli.app import pausing
from merger.cli.options import Family, Json, command
from merger.errors import RecipeError, UsageError

if TYPE_CHECKING:
    from recipes.rl.settings import Settings
    from recipes.runner import Runner
    from recipes.series import Series

_COLUMNS = 64  # of a curve in the terminal
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE")]


@command("run")
def run(
    recipe: str,
    *,
    out: Path | None = None,
    settings: Sets = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE")] = None,
    seed: int | None = None,
    dry_run: bool = False,
    as_json: Json = False,
) -> None:
    """Run a recipe. Finished stages are not run again; a killed one continues.

    Example: merger run tiny --set scale=smoke

    Args:
        recipe: A bundled recipe's name, a YAML file, or a run folder.
        out: Run folder (runs/NAME).
        settings: seed, scale, STAGE.option, KIND.option.
        only: Run this stage only.
        seed: Seed of all stages, as --set seed=N.
        dry_run: Check all, show stages and needs, run none.
    """
    from merger.cli.console import data, say
    from merger.cli.screen import Terminal
    from recipes.recipe import load_recipe
    from recipes.runner import Runner
    from recipes.series import Series

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # each would run every stage
        law = "merger run is one process, and a launcher started several"
        raise UsageError(law, "Launch the stage instead: accelerate launch -m merger.cli align …")
    seeds = [] if seed is None else [f"seed={seed}"]
    loaded = load_recipe(recipe, [*(settings or []), *seeds])
    kept = (Path(recipe) / "recipe.yaml").is_file()
    place = out or (Path(recipe) if kept else Path("runs") / loaded.name)
    runner = (Series if loaded.seeds else Runner)(loaded, place, Terminal())
    if dry_run:
        _check(runner, as_json=as_json)
        return
    with pausing(f"merger run {shlex.quote(str(runner.run))}", "what is finished"):
        facts = runner.go(only)
    say(f"run: {runner.run}")
    if as_json:
        data({"run": str(runner.run.absolute()), "stages": facts})


def _check(runner: "Runner | Series", *, as_json: bool) -> None:
    """Show the stages and what they take; raise where the disk is too small for what is to do."""
    from merger.cli.console import data, say, table
    from merger.plan.text import bytes_text
    from recipes.needs import free_disk, memory_here

    plan, downloads = runner.plan(), runner.downloads()
    todo = [s.needs for s in plan if s.needs and s.state != "finished"]
    asked = sum(n.disk for n in todo) + max((n.scratch for n in todo), default=0)
    most = {kind: max((n.memory for n in todo if n.gpu == on), default=0) for kind, on in _KINDS}
    free = {"disk": free_disk(runner.run)}
    free |= {kind: memory_here(gpu=on) if most[kind] or not on else 0 for kind, on in _KINDS}
    if as_json:
        stages = [s._asdict() | {"needs": s.needs and s.needs._asdict()} for s in plan]
        told = {"stages": stages, "downloads": downloads, "missing": runner.missing()}
        data(told | {"disk": asked, "free": free})
    else:
        heads = ("stage", "kind", "starts from", "state", ">disk", ">scratch", ">memory")
        needs = [map(bytes_text, s.needs[:3]) if s.needs else ["unknown"] * 3 for s in plan]
        rows = [(s.name, s.kind, ", ".join(s.models), s.state) for s in plan]
        table("", heads, [(*row, *need) for row, need in zip(rows, needs, strict=True)])
        for law in runner.missing():
            say(f"warning: {law}")
        for name, size in downloads.items():
            say(f"to download: {name}, {bytes_text(size) if size else 'unknown'}")
        least = "at least " if any(s.needs is None for s in plan) else ""
        say(f"disk: {least}{bytes_text(asked)} to write, {bytes_text(free['disk'])} free")
        for kind, need in most.items():
            short = "" if need <= free[kind] else ": too little on this machine"
            if need:
                here = bytes_text(free[kind])
                say(f"{kind}: {bytes_text(need)} and more at once, {here} here{short}")
    if asked > free["disk"]:
        room = bytes_text(free["disk"])
        law = f"{bytes_text(asked)} are to be written below {runner.run}, and {room} are free"
        raise RecipeError(law, "Free some space, or name another place with --out.")


_KINDS = (("memory", False), ("gpu", True))


@dataclass(frozen=True)
class Flags:
    """The settings that have a flag; None leaves the preset's."""

    task: Annotated[str, "A task, several as ded+ind+abd, gym:NAME, or a file of items."]
    levels: Annotated[str | None, "Easy to hard, as 1-2 or 1,3 (all)."] = None
    steps: Annotated[Count, "Batches of answers (the preset's)."] = None
    prompts_per_step: Annotated[
        int | None, typer.Option("--prompts", min=1, help="Prompts a step (the preset's).")
    ] = None
    group: Annotated[int | None, Least(2), "Answers a prompt (the preset's)."] = None
    lr: Annotated[float | None, "Learning rate (5e-7)."] = None
    max_new_tokens: Annotated[Count, "Token budget of an answer (8192)."] = None
    reward: Annotated[
        str | None, "paper, upstream, binary; as controls format, random (the preset's)."
    ] = None
    device: Annotated[str, "auto, cpu or cuda."] = "auto"
    seed: Annotated[int, "Of items and samples."] = 0


def _train(
    preset: "Settings",
    model: str,
    *,
    out: Path,
    reference: str | None = None,
    settings: Sets = None,
    family: Family = None,
    dry_run: bool = False,
    verl: bool = False,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Lay the flags over the preset; then show it, write it for verl, or train.

    Args:
        preset: of the command.
        model: Folder, alias or Hub id to start from.
        out: Folder to make; OUT.partial is continued.
        reference: Frozen model that the KL is taken to (MODEL).
        settings: Any other setting (docs/rl.md).
        dry_run: Show the settings, train nothing.
        verl: Write the run as files for verl into OUT.
        flags: of `Flags`.
    """
    from evals.suite import parse_levels
    from merger.cli.console import data, say, table
    from merger.lines import read_setting
    from recipes.rl.export_verl import export_verl
    from recipes.rl.settings import as_record, make_settings

    options = {k: v for k, v in flags.items() if v is not None}
    options["levels"] = list(parse_levels(flags["levels"]) or ())
    chosen = make_settings(preset, options | dict(map(read_setting, settings or [])))
    if dry_run and as_json:
        data(as_record(chosen))
    elif dry_run:
        from importlib.resources import files

        shown = as_record(chosen) | ({} if chosen.levels else {"levels": "all"})
        table("", ("setting", "value"), [(k, str(v)) for k, v in shown.items()])
        launcher = Path(str(files("recipes"))) / "accelerate" / "fsdp.yaml"
        say(f"on several GPUs: accelerate launch --config_file {launcher} -m merger.cli …")
    elif verl:
        say(f"{export_verl(model, out, chosen)}: train.parquet, reward.py, launch.sh")
    else:
        facts = _trained({"model": model, "reference": reference}, out, chosen, family)
        if as_json:
            data({"out": str(out), **facts})


def _trained(
    names: Mapping[str, str | None], out: Path, settings: "Settings", family: str | None
) -> dict[str, Any]:
    """Find the models, train, draw the curve, and tell what came out."""
    from merger.cli.console import say
    from merger.cli.screen import spark
    from merger.experts import resolve
    from recipes.rl.align import align
    from recipes.rl.curve import read_curve, tell, thinned

    found = {role: resolve(name, family=family) for role, name in names.items() if name}
    for one in found.values():
        say(one.choice)
    paths = {role: one.path for role, one in found.items()}
    kept = f"the last checkpoint, one every {settings.save_every} steps,"
    with pausing(f"merger {shlex.join(sys.argv[1:])}", kept):
        align(paths["model"], out, settings, reference=paths.get("reference"), log=say)
    rows, facts = read_curve(out), tell(out)
    for column in ("reward", "correct", "format", "worked", "length", "kl"):
        values = thinned(rows, column, _COLUMNS)
        ends = f"{values[0]:.3g} → {values[-1]:.3g}"
        say(f"  {column:<8} {spark(values):<{min(_COLUMNS, len(rows))}} {ends}")
    say(f"{out}: {facts['task']} {facts['first']['correct']:.0%} → {facts['last']['correct']:.0%}")
    return facts


@command("align", Flags, _train)
def align(**asked: Any) -> None:
    """Align a model to one task by REINFORCE++, easy to hard.

    The preset is the paper's: 32 prompts × 4 answers a step, KL 0.001, reward of format and answer.
    The output is a plain checkpoint with its learning curve; a killed run continues.

    Example: merger align base --task ded --out my-ded --levels 1 --steps 100 --lr 1e-4
    """
    from recipes.rl.settings import STAGE_A

    _train(STAGE_A, **asked)


@command("domain", Flags, _train)
def domain(**asked: Any) -> None:
    """Continue a model in a domain by GRPO.

    The preset is SimpleRL-Zoo's: 1,024 prompts × 8 answers a step in 4 updates, reward for right
    answers alone; scale it to your machine with --prompts, --group and --set updates=1.

    Example: merger domain merged --task arithmetic --out my-arith --prompts 16 --lr 1e-4
    """
    from recipes.rl.settings import STAGE_C

    _train(STAGE_C, **asked)
