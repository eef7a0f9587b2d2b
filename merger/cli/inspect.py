"""`merger inspect MODEL`: what a checkpoint holds, from its headers alone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app

if TYPE_CHECKING:
    from merger.checkpoint import Checkpoint

# Below this many bytes the content hash costs about a second, and is shown unasked.
_CHEAP = 1 << 30


@app.command("inspect")
def inspect(
    model: Annotated[str, typer.Argument(help="Folder, alias or Hub id[@revision].")],
    family: Annotated[str | None, typer.Option(help="Family whose aliases are meant.")] = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    content: Annotated[bool, typer.Option("--hash", help="Hash the weights, any size.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Show what a checkpoint holds: format, sizes, config, tokenizer, fingerprint."""
    from merger.checkpoint import open_checkpoint
    from merger.checkpoint.facts import facts_of
    from merger.cli.console import data
    from merger.experts import resolve

    found = resolve(model, family=family)
    checkpoint = open_checkpoint(found.path, bare=True)
    facts = {"model": model, "choice": found.choice, **facts_of(checkpoint)}
    if content or sum(facts["bytes"].values()) < _CHEAP:
        facts["fingerprint"] = checkpoint.fingerprint()
    if json_:
        listed = [_row(info) for info in checkpoint.tensors.values()] if tensors else None
        data(facts | ({"list": listed} if listed else {}))
    else:
        _show(facts, checkpoint, tensors=tensors)


_ELSEWHERE = {"model", "choice", "tensors", "parameters", "bytes", "tokenizer", "chat_template"}
_ELSEWHERE |= {"notes", "per_dtype", "per_module", "per_layer", "target_modules"}


def _runs(layers: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the layers with their parameters, those of one size that follow each other at once."""
    numbered = {name: count for name, count in layers.items() if name[-1].isdigit()}
    for (_, count), run in groupby(numbered.items(), lambda i: (i[0].rpartition(" ")[0], i[1])):
        names = [name for name, _ in run]
        last = names[-1].rpartition(" ")[2]
        yield f"{names[0]} to {last}, each" if len(names) > 1 else names[0], count


def _row(info: Any) -> dict[str, Any]:
    return {"name": info.name, "dtype": info.dtype, "shape": list(info.shape), "bytes": info.nbytes}


def _show(facts: dict[str, Any], checkpoint: Checkpoint, *, tensors: bool) -> None:
    from merger.cli.console import say, table

    say(facts["choice"])
    shorter = {k: v[:16] for k, v in facts.items() if k in ("fingerprint", "header_sha256")}
    known = {k: v for k, v in (facts | shorter).items() if v is not None}
    rows = [[k, str(v)] for k, v in known.items() if k not in _ELSEWHERE]
    rows += [["tokenizer", ", ".join(facts["tokenizer"]) or "none"]]
    rows += [["chat_template", "yes" if facts["chat_template"] else "none"]]
    rows += [["note", note] for note in facts["notes"]]
    table(facts["model"][-72:], ["", ""], rows)
    total = [f"all, {facts['tensors']} tensors", facts["parameters"], sum(facts["bytes"].values())]
    shown = [total, *([code, n, facts["bytes"][code]] for code, n in facts["per_dtype"].items())]
    cells = [[name, f"{count:,}", f"{size:,}"] for name, count, size in shown]
    parts = (*facts["per_module"].items(), *_runs(facts["per_layer"]))
    cells += [[name, f"{count:,}", ""] for name, count in parts]
    table("", ["of", ">parameters", ">bytes"], cells)
    if tensors:
        infos = checkpoint.tensors.values()
        listed = [[i.name, i.dtype, "×".join(map(str, i.shape)), f"{i.nbytes:,}"] for i in infos]
        table("tensors", ["name", "dtype", "shape", ">bytes"], listed)
