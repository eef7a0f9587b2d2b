"""What `merger align` and `merger domain` share: flags into settings, then one run of RL."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.errors import UsageError

if TYPE_CHECKING:
    from recipes.rl.settings import Settings

Model = Annotated[str, typer.Argument(help="Folder, alias or Hub id of the model to start from.")]
Task = Annotated[str, typer.Option(help="A task's name, or a JSONL file of items.")]
Out = Annotated[Path, typer.Option(help="Folder to make; OUT.partial is continued.")]
Reference = Annotated[
    str | None, typer.Option(help="Frozen model that the KL is taken to (MODEL).")
]
Levels = Annotated[str | None, typer.Option(help="Easy to hard, as 1-2 or 1,3 (all).")]
Steps = Annotated[int | None, typer.Option(min=1, help="Batches of answers (the preset's).")]
Prompts = Annotated[int | None, typer.Option(min=1, help="Prompts a step (the preset's).")]
Group = Annotated[int | None, typer.Option(min=2, help="Answers a prompt (the preset's).")]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate (5e-7).")]
Tokens = Annotated[int | None, typer.Option(min=1, help="Token budget of an answer (8192).")]
Reward = Annotated[str | None, typer.Option(help="paper, upstream or binary (the preset's).")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting (docs/rl.md)."),
]
Family = Annotated[str | None, typer.Option(help="Family that aliases come from.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Seed = Annotated[int, typer.Option(help="Of items and samples.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the settings, train nothing.")]
Verl = Annotated[bool, typer.Option("--verl", help="Write the run as files for verl into OUT.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def settings_of(preset: Settings, flags: dict[str, Any], more: Sequence[str]) -> Settings:
    """Lay flags that were given, then KEY=VALUE settings, over a preset."""
    import yaml

    from evals.suite import parse_levels
    from evals.task import get_task
    from recipes.rl.settings import make_settings
    from recipes.rl.source import is_file, open_source

    options = {key: value for key, value in flags.items() if value is not None}
    if "levels" in options:
        options["levels"] = list(parse_levels(options["levels"]) or ())
    for text in more:
        key, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--set is {text!r}", "Write --set KEY=VALUE.")
        options[key] = yaml.safe_load(value)
    if not is_file(options["task"]):
        options["task"] = get_task(options["task"]).name
    settings = make_settings(preset, options)
    open_source(settings)
    return settings


def go(
    model: str,
    out: Path,
    settings: Settings,
    *,
    reference: str | None,
    family: str | None,
    dry_run: bool,
    verl: bool,
    as_json: bool,
) -> None:
    """Show the settings, write them for verl, or train."""
    from merger.cli.console import say
    from recipes.rl.export_verl import export_verl

    if dry_run:
        show(settings, as_json=as_json)
    elif verl:
        say(f"{export_verl(model, out, settings)}: train.parquet, reward.py, launch.sh")
    else:
        train(model, out, settings, reference=reference, family=family, as_json=as_json)


def train(
    model: str,
    out: Path,
    settings: Settings,
    *,
    reference: str | None,
    family: str | None,
    as_json: bool,
) -> None:
    """Find the models, train, and tell what came out; Ctrl-C prints how to go on."""
    import sys

    from merger.cli.console import data, say
    from merger.cli.pausing import pausing
    from merger.experts import resolve
    from recipes.rl.align import align
    from recipes.story import tell

    found = {name: resolve(name, family=family) for name in (model, reference) if name}
    for one in found.values():
        say(one.choice)
    with pausing(f"merger {shlex.join(sys.argv[1:])}"):
        held = found[reference].path if reference else None
        align(found[model].path, out, settings, reference=held, log=say)
    facts = tell(out)
    say(f"{out}: {facts['task']} {facts['first']['correct']:.0%} → {facts['last']['correct']:.0%}")
    if as_json:
        data({"out": str(out), **facts})


def show(settings: Settings, *, as_json: bool) -> None:
    """Print the settings of a run that is not made."""
    from merger.cli.console import data, table
    from recipes.rl.settings import as_record

    record = as_record(settings)
    if as_json:
        data(record)
    else:
        table("", ("setting", "value"), [(key, str(value)) for key, value in record.items()])
