"""merger operators: what can be named as a merge_method, and with which knobs."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app
from merger.cli.merge import Json

if TYPE_CHECKING:
    from merger.operators import Knob, Operator


@app.command("operators")
def operators(
    name: Annotated[str | None, typer.Argument(help="One operator, in full.")] = None,
    as_json: Json = False,
) -> None:
    """List the operators, or one of them with its knobs, ranges and source."""
    from merger.cli.console import WIDTH, data, out, table
    from merger.operators import OPERATORS

    chosen = [OPERATORS[name]] if name else [OPERATORS[n] for n in OPERATORS]
    if as_json:
        data([_document(o) for o in chosen])
    for one in () if as_json else chosen:
        out(fill(f"{one.name}: {one.doc if name else one.doc.splitlines()[0]}", WIDTH))
        out(f"  {_needs(one)}; {one.paper}")
        if name:
            columns = ("knob", "for", "default", "search range", "meaning")
            table("", columns, [_row(n, k) for n, k in one.knobs.items()])
            continue
        rows = [_row(n, k) for n, k in one.knobs.items()]
        each = {n for n, k in one.knobs.items() if k.each}
        told = [f"{n}{'*' * (n in each)} {span} ({given})" for n, _, given, span, _ in rows]
        out(fill("; ".join(told) or "no knobs", WIDTH, initial_indent="  ", subsequent_indent="  "))
    if not (name or as_json):
        out("* one value for each expert; then the range a search looks in, and (the default)")


def _needs(operator: Operator) -> str:
    base = {"required": "a base and ", "optional": "a base or none, "}.get(operator.base, "")
    fewest, most = operator.experts
    count = f"{fewest} expert{'s' * (fewest > 1)}"
    return f"needs {base}{count if fewest == most else f'{fewest} or more experts'}"


def _row(name: str, knob: Knob) -> tuple[str, ...]:
    default = "required" if knob.default is None else str(knob.default).lower()
    if knob.choices or knob.kind is bool:
        span = ", ".join(knob.choices) or "true, false"
    else:
        span = f"{knob.low:g} to {knob.high:g}"
    return name, "each expert" if knob.each else "the merge", default, span, knob.help


def _document(operator: Operator) -> dict[str, Any]:
    knobs = {
        name: {
            "each": k.each,
            "kind": k.kind.__name__,
            "default": k.default,
            "range": None if k.choices or k.kind is bool else [k.low, k.high],
            "choices": list(k.choices),
            "help": k.help,
        }
        for name, k in operator.knobs.items()
    }
    told = {"name": operator.name, "doc": operator.doc, "paper": operator.paper}
    laws = {n: v for n, v in operator.laws._asdict().items() if n != "rowwise"}  # a function
    return told | {"base": operator.base, "experts": operator.experts, "laws": laws, "knobs": knobs}
