"""`merger diff BASE EXPERT…`: the geometry of task vectors, per module and per layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app

if TYPE_CHECKING:
    from merger.geometry import Geometry, Sums

_SCOPES = ("module", "layer", "tensor")


@app.command("diff")
def diff(
    base: Annotated[str, typer.Argument(help="The base: folder, alias or Hub id.")],
    experts: Annotated[list[str], typer.Argument(help="One or more experts.")],
    family: Annotated[str | None, typer.Option(help="Family whose aliases are meant.")] = None,
    per: Annotated[str, typer.Option(help="Finest table: module, layer or tensor.")] = "layer",
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Compare experts with their base: norms, cosines, sign conflicts, sparsity, cast loss."""
    import torch

    from merger.cli.console import data, table
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
    table(
        "lineage",
        ["expert", "verdict", "why"],
        [[short(v.expert), v.kind, v.why] for v in verdicts],
    )


def _measure(base: str, experts: list[str], family: str | None, *, quiet: bool) -> Geometry:
    from merger.checkpoint import open_checkpoint
    from merger.cli.console import progress, say
    from merger.experts import resolve
    from merger.geometry import measure

    found = {name: resolve(name, family=family) for name in dict.fromkeys([base, *experts])}
    for one in found.values():
        if not quiet:
            say(one.choice)
    ground = open_checkpoint(found[base].path)
    opened = {name: open_checkpoint(found[name].path, ground) for name in dict.fromkeys(experts)}
    with progress("diff", len(ground.tensors)) as bar:
        return measure(
            ground, opened, base_name=base, progress=lambda name: bar.step(1, name[-24:])
        )


def _show(geometry: Geometry, per: str) -> None:
    from merger.cli.console import say, table
    from merger.geometry import short

    total = geometry.total()
    _experts(geometry, {"all": total}, f"experts against {short(geometry.base)}", "scope")
    pairs = [(n, p) for n, p in _pairs(geometry, total)]
    if pairs:
        head = ["pair", ">cosine", ">sign conflict", ">overlap"]
        cells = [[n, _f(p["cosine"]), _f(p["conflict"]), _f(p["overlap"])] for n, p in pairs]
        table("pairs of task vectors", head, cells)
    _experts(geometry, geometry.by_module(), "per module", "module")
    if per == "layer":
        _experts(geometry, geometry.by_layer(), "per layer", "layer")
    if per == "tensor":
        _experts(geometry, geometry.tensors, "per tensor", "tensor")
    for note in geometry.notes:
        say(f"note: {note}")


def _experts(geometry: Geometry, groups: dict[str, Sums], title: str, scope: str) -> None:
    from merger.cli.console import table
    from merger.geometry import short

    head = [scope, "expert", ">norm", ">relative", ">changed", ">bf16 kept", ">bf16 error"]
    rows = []
    for group, sums in groups.items():
        f = sums.figures()
        for i, name in enumerate(geometry.experts):
            keys = ("norm", "relative", "changed", "bf16_survive", "bf16_error")
            rows.append(
                [group if i == 0 else "", short(name)[-18:], *(_f(f[key][i]) for key in keys)]
            )
    table(title, head, rows)


def _pairs(geometry: Geometry, sums: Sums) -> list[tuple[str, dict[str, Any]]]:
    from merger.geometry import short

    found = []
    for key, figures in sums.figures()["pairs"].items():
        i, j = map(int, key.split(","))
        names = geometry.experts[i], geometry.experts[j]
        found.append((" · ".join(short(n)[-18:] for n in names), figures))
    return found


def _f(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
