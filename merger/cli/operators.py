"""merger operators: what can be named as a merge_method, and with which knobs."""

from __future__ import annotations

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
    from merger.cli.console import data, out, table
    from merger.operators import OPERATORS

    chosen = [OPERATORS[name]] if name else [OPERATORS[n] for n in OPERATORS]
    if as_json:
        data([_document(o) for o in chosen])
    elif name:
        out(f"{name}: {chosen[0].doc}\n{chosen[0].paper}")
        out(f"base {chosen[0].base}, {_experts(chosen[0])}")
        columns = ("knob", "for", "default", "search range", "meaning")
        table("", columns, [_row(n, k) for n, k in chosen[0].knobs.items()])
    else:
        rows = [(o.name, o.base, ", ".join(o.knobs) or "-", o.doc.splitlines()[0]) for o in chosen]
        table("", ("operator", "base", "knobs", "what it does"), rows)


def _experts(operator: Operator) -> str:
    fewest, most = operator.experts
    return f"{fewest} experts" if fewest == most else f"{fewest} or more experts"


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
