"""merger inspect, experts, operators: what a checkpoint holds, and what can be named.

Headers and configs suffice for most of it; weights are read for the fingerprint, shown unasked
where that costs about a second, and for embeddings that are tied and stored twice. `operators`
prints the table that spec, search and docs read: names, papers, knobs, ranges, needs.
"""

from collections.abc import Iterator
from itertools import groupby
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.options import Family, Json, command

if TYPE_CHECKING:
    from merger.checkpoint import Checkpoint
    from merger.operators import Knob, Operator

# Below this many bytes the content hash costs about a second, and is shown unasked.
_CHEAP = 1 << 30


@command("inspect")
def inspect(
    model: str,
    *,
    family: Family = None,
    tensors: bool = False,
    content: Annotated[bool, typer.Option("--hash")] = False,
    as_json: Json = False,
) -> None:
    """Show what a checkpoint holds: format, sizes, config, tokenizer, fingerprint.

    Example: merger inspect ded --tensors

    Args:
        model: Folder, alias or Hub id[@revision].
        tensors: List every tensor.
        content: Hash the weights, any size.
    """
    from merger.checkpoint import open_checkpoint
    from merger.checkpoint.facts import facts_of
    from merger.cli.console import data
    from merger.experts import resolve

    found = resolve(model, family=family)
    checkpoint = open_checkpoint(found.path, bare=True)
    facts = {"model": model, "choice": found.choice, **facts_of(checkpoint)}
    if content or sum(facts["bytes"].values()) < _CHEAP:
        facts["fingerprint"] = checkpoint.fingerprint()
    if not as_json:
        _show(facts, checkpoint, tensors=tensors)
        return
    if tensors and checkpoint.tensors:
        facts["list"] = [
            {"name": i.name, "dtype": i.dtype, "shape": list(i.shape), "bytes": i.nbytes}
            for i in checkpoint.tensors.values()
        ]
    data(facts)


_ELSEWHERE = {"model", "choice", "tensors", "parameters", "bytes", "tokenizer", "chat_template"}
_ELSEWHERE |= {"notes", "per_dtype", "per_module", "per_layer", "target_modules"}


def _show(facts: dict[str, Any], checkpoint: "Checkpoint", *, tensors: bool) -> None:
    from merger.cli.console import say, table

    say(facts["choice"])
    shorter = {k: v[:16] for k, v in facts.items() if k.endswith("fingerprint")}
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


def _runs(layers: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield the layers with their parameters, those of one size that follow each other at once."""
    numbered = {name: count for name, count in layers.items() if name[-1].isdigit()}
    for (_, count), run in groupby(numbered.items(), lambda i: (i[0].rpartition(" ")[0], i[1])):
        names = [name for name, _ in run]
        last = names[-1].rpartition(" ")[2]
        yield f"{names[0]} to {last}, each" if len(names) > 1 else names[0], count


@command("experts")
def experts(*, family: Family = None, as_json: Json = False) -> None:
    """List aliases: those of ./experts.yaml, of the family in use, of every bundled family.

    Example: merger experts --family maa-7b
    """
    from merger.cli.console import data, table
    from merger.experts import families, known_aliases

    found = [
        {"alias": alias, "from": source, "target": target, "here": (root / target).exists()}
        for alias, (source, target, root) in known_aliases(family=family).items()
    ]
    told = [{"name": f.name, "description": f.description} for f in families().values()]
    if as_json:
        data({"aliases": found, "families": told})
        return
    rows = [[*map(str, list(f.values())[:3]), "yes" if f["here"] else "Hub"] for f in found]
    table("models by name", ["alias", "from", "target", "here"], rows)
    table("families", ["name", "description"], [list(t.values()) for t in told])


@command("operators")
def operators(
    name: Annotated[str | None, typer.Argument()] = None, *, as_json: Json = False
) -> None:
    """List the operators, or one of them with its knobs, ranges and source.

    Example: merger operators ties

    Args:
        name: One operator, in full.
    """
    from merger.cli.console import WIDTH, data, out, table
    from merger.operators import OPERATORS

    chosen = [OPERATORS[name]] if name else [OPERATORS[n] for n in OPERATORS]
    if as_json:
        data([_document(o) for o in chosen])
        return
    indent: dict[str, Any] = dict.fromkeys(("initial_indent", "subsequent_indent"), "  ")
    for one in chosen:
        rows = [_row(n, k) for n, k in one.knobs.items()]
        out(fill(f"{one.name}: {one.doc if name else one.doc.splitlines()[0]}", WIDTH))
        out(fill(f"{_needs(one)}; {one.paper}", WIDTH, break_on_hyphens=False, **indent))
        if name:
            table("", ("knob", "for", "default", "search range", "meaning"), rows)
            return
        told = [f"{n}{'*' * one.knobs[n].each} {span} ({given})" for n, _, given, span, _ in rows]
        out(fill("; ".join(told) or "no knobs", WIDTH, **indent))
    out("* one value for each expert; then the range a search looks in, and (the default)")


def _needs(operator: "Operator") -> str:
    base = {"required": "a base and ", "optional": "a base or none, "}.get(operator.base, "")
    fewest, most = operator.experts
    count = f"{fewest} expert{'s' * (fewest > 1)}"
    return f"needs {base}{count if fewest == most else f'{fewest} or more experts'}"


def _row(name: str, knob: "Knob") -> tuple[str, ...]:
    default = "required" if knob.default is None else str(knob.default).lower()
    listed = knob.choices or knob.kind is bool
    ends = [f"{n}" if knob.kind is int else f"{n:g}" for n in (knob.low, knob.high)]
    span = ", ".join(knob.choices) or "true, false" if listed else " to ".join(ends)
    return name, "each expert" if knob.each else "the merge", default, span, knob.help


def _document(operator: "Operator") -> dict[str, Any]:
    told = {key: getattr(operator, key) for key in ("name", "doc", "paper", "base", "experts")}
    laws = {n: v for n, v in operator.laws._asdict().items() if not callable(v)}
    knobs = {
        name: {key: getattr(knob, key) for key in ("each", "default", "help")}
        | {"kind": knob.kind.__name__, "choices": list(knob.choices)}
        | {"range": None if knob.choices or knob.kind is bool else [knob.low, knob.high]}
        for name, knob in operator.knobs.items()
    }
    return told | {"laws": laws, "knobs": knobs}
