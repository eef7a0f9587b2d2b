"""merger extract-lora: what a model changed of its base, as a PEFT adapter folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from merger.cli.app import app


@app.command("extract-lora")
def extract(
    base: Annotated[str, typer.Argument(help="The base: folder, alias or Hub id.")],
    model: Annotated[str, typer.Argument(help="A model trained from it.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    rank: Annotated[int, typer.Option(min=1, help="Rank of the factors at most.")] = 32,
    family: Annotated[str | None, typer.Option(help="Family whose aliases are meant.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing adapter.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Extract a LoRA adapter that `merger` and PEFT read; say how much of the change it keeps."""
    from merger.checkpoint import open_checkpoint
    from merger.checkpoint.place import check_apart, check_place
    from merger.cli.console import data, progress, say
    from merger.engine.extract import extract_lora, save_adapter
    from merger.experts import resolve
    from merger.provenance import Input

    check_place(out, force=force, resume=True)
    places = [resolve(name, family=family) for name in (base, model)]
    check_apart(out, (place.path for place in places))
    ground, trained = (open_checkpoint(place.path) for place in places)
    with progress("extract-lora", len(ground.tensors)) as bar:
        made = extract_lora(ground, trained, rank, progress=lambda name: bar.step(1, name[-24:]))
    save_adapter(made, out, Input(base, ground).place, force=force)
    kept = made.kept / made.change if made.change else 1.0
    if json_:
        data({"out": str(out), "ranks": made.ranks, "kept": kept, "whole": made.whole})
        return
    for place in places:
        say(place.choice)
    share = f"{len(made.ranks)} matrices at rank {rank} keep {kept:.2%} of the squared change"
    say(f"{out}: {share}; {len(made.whole)} tensors saved whole")
