"""merger align and merger domain: one ability (Stage A) or a domain (Stage C) into one model.

They are one command under two names, each with its preset; a flag named as a setting lays its value
over the preset, and --set reaches the settings that have no flag.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app

if TYPE_CHECKING:
    from recipes.rl.settings import Settings

ALIGN = """Align a model to one task by REINFORCE++, easy to hard.

The preset is the paper's: 32 prompts × 4 answers a step, KL 0.001, reward of format and answer.
The output is a plain checkpoint with its learning curve; a killed run continues.
"""
DOMAIN = """Continue a model in a domain by GRPO.

The preset is SimpleRL-Zoo's: 1,024 prompts × 8 answers a step in 4 updates, reward for right
answers alone; scale it to your machine with --prompts, --group and --set updates=1.
"""
_COLUMNS = 64  # of a curve in the terminal


@app.command("align", help=ALIGN)
@app.command("domain", help=DOMAIN)
def train(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Folder, alias or Hub id to start from.")],
    task: Annotated[
        str, typer.Option(help="A task, several as ded+ind+abd, gym:NAME, or a file of items.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to make; OUT.partial is continued.")],
    reference: Annotated[
        str | None, typer.Option(help="Frozen model that the KL is taken to (MODEL).")
    ] = None,
    levels: Annotated[str | None, typer.Option(help="Easy to hard, as 1-2 or 1,3 (all).")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Batches of answers (the preset's).")
    ] = None,
    prompts_per_step: Annotated[
        int | None, typer.Option("--prompts", min=1, help="Prompts a step (the preset's).")
    ] = None,
    group: Annotated[int | None, typer.Option(min=2, help="Answers a prompt (preset's).")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate (5e-7).")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Token budget of an answer (8192).")
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(help="paper, upstream, binary; as controls format, random (the preset's)."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting (docs/rl.md)."),
    ] = None,
    family: Annotated[str | None, typer.Option(help="Family that aliases come from.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of items and samples.")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the settings, train nothing.")
    ] = False,
    verl: Annotated[
        bool, typer.Option("--verl", help="Write the run as files for verl into OUT.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Lay the flags over the command's preset; then show it, write it for verl, or train."""
    from merger.cli.console import data, say, table
    from recipes.rl.export_verl import export_verl
    from recipes.rl.settings import as_record

    chosen = _settings(context.info_name or "", context.params, settings or [])
    if dry_run and as_json:
        data(as_record(chosen))
    elif dry_run:
        rows = [(key, str(value)) for key, value in as_record(chosen).items()]
        table("", ("setting", "value"), rows)
        say(f"on several GPUs: accelerate launch --config_file {_launcher()} -m merger.cli …")
    elif verl:
        say(f"{export_verl(model, out, chosen)}: train.parquet, reward.py, launch.sh")
    else:
        facts = _train({"model": model, "reference": reference}, out, chosen, family)
        if as_json:
            data({"out": str(out), **facts})


def _launcher() -> Path:
    """Return the launch configuration that comes with the package; others lie beside it."""
    from importlib.resources import files

    return Path(str(files("recipes"))) / "accelerate" / "fsdp.yaml"


def _settings(command: str, flags: Mapping[str, Any], more: Sequence[str]) -> Settings:
    """Lay flags that were given, then KEY=VALUE settings, over the command's preset."""
    from evals.suite import parse_levels
    from recipes.recipe import read_setting
    from recipes.rl.settings import STAGE_A, STAGE_C, make_settings

    preset = {"align": STAGE_A, "domain": STAGE_C}[command]
    known = {field.name for field in fields(preset)}
    options = {k: v for k, v in flags.items() if k in known and v is not None}
    options["levels"] = list(parse_levels(flags["levels"]) or ())
    options |= dict(map(read_setting, more))
    return make_settings(preset, options)


def _train(
    names: Mapping[str, str | None], out: Path, settings: Settings, family: str | None
) -> dict[str, Any]:
    """Find the models, train, and tell what came out; Ctrl-C prints how to go on."""
    from merger.cli.console import say
    from merger.cli.pausing import pausing
    from merger.experts import resolve
    from recipes.rl.align import align
    from recipes.rl.curve import read_curve, tell

    paths = {}
    for role, name in names.items():
        if name is not None:
            found = resolve(name, family=family)
            say(found.choice)
            paths[role] = found.path
    with pausing(f"merger {shlex.join(sys.argv[1:])}"):
        align(paths["model"], out, settings, reference=paths.get("reference"), log=say)
    _show(read_curve(out))
    facts = tell(out)
    say(f"{out}: {facts['task']} {facts['first']['correct']:.0%} → {facts['last']['correct']:.0%}")
    return facts


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw the learning curve in the terminal: a line of blocks per column, by parts of steps."""
    from merger.cli.console import say
    from merger.cli.panel import spark
    from recipes.rl.curve import thinned

    for column in ("reward", "correct", "format", "worked", "length", "kl"):
        values = thinned(rows, column, _COLUMNS)
        ends = f"{values[0]:.3g} → {values[-1]:.3g}"
        say(f"  {column:<8} {spark(values):<{min(_COLUMNS, len(rows))}} {ends}")
