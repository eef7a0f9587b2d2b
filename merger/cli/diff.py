"""`merger diff BASE EXPERT…`: the geometry of task vectors, by module and along the layers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app

if TYPE_CHECKING:
    from merger.geometry import Geometry, Sums

_SCOPES = ("module", "layer", "tensor")
_EACH = {"norm": "norm", "relative": "relative", "changed": "changed"} | {
    "bf16 kept": "bf16_survive",
    "bf16 error": "bf16_error",
}
_PAIR = {"cosine": "cosine", "sign conflict": "conflict", "overlap": "overlap"}
_DRAWN = {"expert": ("relative", "changed", "bf16 kept"), "pair": ("cosine", "sign conflict")}
_STRIP = 32  # cells of a heat strip; a deeper stack is averaged into as many
_Cells = list[tuple[str, str, float | None]]  # expert or pair, column, figure


@app.command("diff")
def diff(
    base: Annotated[str, typer.Argument(help="The base: folder, alias or Hub id.")],
    experts: Annotated[list[str], typer.Argument(help="One or more experts.")],
    family: Annotated[str | None, typer.Option(help="Family whose aliases are meant.")] = None,
    per: Annotated[str, typer.Option(help="Finest table: module, layer or tensor.")] = "module",
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Compare experts with their base: norms, cosines, sign conflicts, sparsity, cast loss."""
    import torch

    from merger.cli.console import data, say, table
    from merger.errors import UsageError
    from merger.geometry import lineage, short

    if per not in _SCOPES:
        raise UsageError(f"--per is {per!r}", f"One of {', '.join(_SCOPES)}.")
    with torch.no_grad():
        geometry = _measure(base, experts, family, quiet=json_)
    verdicts = lineage(geometry)
    if json_:
        told = [v._asdict() | {"ok": v.ok} for v in verdicts]
        data(geometry.to_json() | {"lineage": told})
        return
    _show(geometry, per)
    for note in geometry.notes:
        say(f"note: {note}")
    rows = [[short(v.expert), v.kind, v.why] for v in verdicts]
    table("lineage", ["expert", "verdict", "why"], rows)


def _measure(base: str, experts: list[str], family: str | None, *, quiet: bool) -> Geometry:
    from merger.checkpoint import open_models
    from merger.cli.console import progress, say
    from merger.experts import resolve
    from merger.geometry import measure

    found = {name: resolve(name, family=family) for name in dict.fromkeys([base, *experts])}
    for one in found.values():
        if not quiet:
            say(one.choice)
    opened = open_models({name: one.path for name, one in found.items()}, base)
    ground, others = opened[base], {name: opened[name] for name in experts}
    with progress("diff", len(ground.tensors)) as bar:
        return measure(
            ground, others, base_name=base, progress=lambda name: bar.step(1, name[-24:])
        )


def _show(geometry: Geometry, per: str) -> None:
    from merger.geometry import short

    groups = {"all": geometry.total()} | geometry.by_module()
    _tables(geometry, groups, f"experts against {short(geometry.base)}", "scope")
    _strips(geometry)
    if per == "layer":
        _tables(geometry, geometry.by_layer(), "per layer", "layer")
    if per == "tensor":
        _tables(geometry, geometry.tensors, "per tensor", "tensor")


def _tables(geometry: Geometry, groups: dict[str, Sums], title: str, scope: str) -> None:
    """Print the figures of every expert, then those of every pair, group by group."""
    from merger.cli.console import table

    for what, columns in (("expert", _EACH), ("pair", _PAIR)):
        rows = []
        for group, sums in groups.items():
            found: dict[str, list[str]] = {}
            for who, _, value in _figures(geometry, sums, what):
                found.setdefault(who, []).append("–" if value is None else f"{value:.3g}")
            rows += [[group if i == 0 else "", w, *c] for i, (w, c) in enumerate(found.items())]
        if rows:
            told = title if what == "expert" else "pairs of task vectors"
            table(told, [scope, what, *(f">{name}" for name in columns)], rows)


def _figures(geometry: Geometry, sums: Sums, what: str) -> _Cells:
    """Return the figures of some tensors, of every expert or of every pair of them."""
    from merger.geometry import short

    names = [short(n)[-18:] for n in geometry.experts]
    told: dict[str, Any] = sums.figures()
    if what == "expert":
        return [(n, c, told[key][i]) for i, n in enumerate(names) for c, key in _EACH.items()]
    pairs = [(*map(int, key.split(",")), figures) for key, figures in told["pairs"].items()]
    return [(f"{names[i]} · {names[j]}", c, f[k]) for i, j, f in pairs for c, k in _PAIR.items()]


def _strips(geometry: Geometry) -> None:
    """Draw figures along each stack of layers, all strips of a figure on one scale."""
    from merger.cli.console import table
    from merger.cli.panel import spark

    for stack, layers in _stacks(geometry):
        rows = []
        for what, columns in _DRAWN.items():
            cells = [cell for sums in layers for cell in _figures(geometry, sums, what)]
            for column in columns:
                found: dict[str, list[float]] = {}
                for who, _, value in (cell for cell in cells if cell[1] == column):
                    found.setdefault(who, []).append(0.0 if value is None else value)
                numbers = [v for values in found.values() for v in values] or [0.0]
                # A figure that hardly varies is drawn flat.
                span = min(*numbers, 0.99 * max(numbers)), max(numbers)
                for i, (who, values) in enumerate(found.items()):
                    ends = f"{min(values):.3g}", f"{max(values):.3g}"
                    rows.append(["" if i else column, who, spark(_thinned(values), span), *ends])
        table("", ["figure", "of", f"{stack} 0 to {len(layers) - 1}", ">least", ">most"], rows)


def _stacks(geometry: Geometry) -> Iterator[tuple[str, list[Sums]]]:
    """Yield every stack of more than one layer with its layers' sums, in order."""
    found: dict[str, list[Sums]] = {}
    for place, sums in geometry.by_layer().items():
        stack, _, number = place.rpartition(" ")
        if number.isdigit():
            found.setdefault(stack, []).append(sums)
    yield from ((stack, layers) for stack, layers in found.items() if len(layers) > 1)


def _thinned(values: list[float]) -> list[float]:
    """Return the values, or their means over as many runs as a strip has cells."""
    count = min(_STRIP, len(values))
    cuts = [i * len(values) // count for i in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
