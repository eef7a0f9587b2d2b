"""merger diff BASE EXPERT…: the geometry of task vectors, by module and along the layers.

First the verdict on lineage in words, then norms, cosines, sign conflicts, overlap and what a cast
to bfloat16 keeps, and a strip of shades along the depth of the model. `merger.geometry` computes;
here it is only laid out for 80 columns.
"""

from itertools import pairwise
from typing import TYPE_CHECKING

from merger.cli.options import Family, Json, command
from merger.errors import UsageError

if TYPE_CHECKING:
    from merger.geometry import Geometry, Sums

_SCOPES = ("module", "layer", "tensor")
_COLUMNS = {
    "expert": {"norm": "norm", "relative": "relative", "changed": "changed"}
    | {"bf16 kept": "bf16_survive", "bf16 error": "bf16_error"},
    "pair": {"cosine": "cosine", "sign conflict": "conflict", "overlap": "overlap"},
}
_DRAWN = {"expert": ("relative", "changed", "bf16 kept"), "pair": ("cosine", "sign conflict")}
_WIDEST = 18  # characters of a name, where that tells the experts apart
_STRIP = 32  # cells of a heat strip; a deeper stack is averaged into as many


@command("diff")
def diff(
    base: str,
    experts: list[str],
    *,
    family: Family = None,
    per: str = "module",
    as_json: Json = False,
) -> None:
    """Compare experts with their base: norms, cosines, sign conflicts, sparsity, cast loss.

    `relative` is the norm of a task vector over that of the base; `changed` the share of entries
    that moved, `bf16 kept` the share of those that still differ once both models are bfloat16;
    `sign conflict` the share of entries two experts moved against each other, among those that
    both moved; `overlap` how many both moved among those that either did.

    Example: merger diff base ded ind abd --per layer

    Args:
        base: The base: folder, alias or Hub id.
        experts: One or more experts.
        per: Finest table: module, layer or tensor.
    """
    from merger.cli.console import data, say, table
    from merger.geometry import labels, lineage, short

    if per not in _SCOPES:
        raise UsageError(f"--per is {per!r}", f"One of {', '.join(_SCOPES)}.")
    geometry = _measure(base, experts, family, quiet=as_json)
    verdicts = lineage(geometry)
    if as_json:
        told = [v._asdict() | {"ok": v.ok} for v in verdicts]
        data(geometry.to_json() | {"lineage": told})
        return
    groups = {"all": geometry.total()} | geometry.by_module()
    _tables(geometry, groups, f"experts against {short(geometry.base)}", "scope")
    _strips(geometry)
    if per != "module":
        finest = geometry.by_layer() if per == "layer" else geometry.tensors
        _tables(geometry, finest, f"per {per}", per)
    for note in geometry.notes:
        say(f"note: {note}")
    names = labels(geometry.experts)
    rows = [[name, v.kind, v.why] for name, v in zip(names, verdicts, strict=True)]
    table("lineage", ["expert", "verdict", "why"], rows)


def _measure(base: str, experts: list[str], family: str | None, *, quiet: bool) -> "Geometry":
    from merger.checkpoint import open_models
    from merger.cli.console import progress, say
    from merger.experts import resolve
    from merger.geometry import measure

    found = {name: resolve(name, family=family) for name in dict.fromkeys([base, *experts])}
    for one in () if quiet else found.values():
        say(one.choice)
    opened = open_models({name: one.path for name, one in found.items()}, base)
    others = {name: opened[name] for name in experts}
    with progress("diff", len(opened[base].tensors)) as bar:
        return measure(
            opened[base], others, base_name=base, progress=lambda name: bar.step(1, name[-24:])
        )


def _figures(geometry: "Geometry", sums: "Sums") -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the figures of some tensors: expert or pair -> its name -> column -> value."""
    from merger.geometry import labels

    names, told = labels(geometry.experts), sums.figures()
    cut = [name[-_WIDEST:] for name in names]
    names = names if len(set(cut)) < len(names) else cut
    columns, pairs = _COLUMNS["pair"], {}
    for key, found in told["pairs"].items():
        who = " · ".join(names[int(i)] for i in key.split(","))
        pairs[who] = {column: found[key] for column, key in columns.items()}
    each = {
        name: {column: told[key][i] for column, key in _COLUMNS["expert"].items()}
        for i, name in enumerate(names)
    }
    return {"expert": each, "pair": pairs}


def _tables(geometry: "Geometry", groups: "dict[str, Sums]", title: str, scope: str) -> None:
    """Print the figures of every expert, then those of every pair, group by group."""
    from merger.cli.console import table

    figures = {group: _figures(geometry, sums) for group, sums in groups.items()}
    for what, told in (("expert", title), ("pair", "pairs of task vectors")):
        rows = [
            ["" if i else group, who, *("–" if v is None else f"{v:.3g}" for v in cells.values())]
            for group, found in figures.items()
            for i, (who, cells) in enumerate(found[what].items())
        ]
        if rows:
            table(told, [scope, what, *(f">{name}" for name in _COLUMNS[what])], rows)


def _strips(geometry: "Geometry") -> None:
    """Draw figures along each stack of layers, all strips of a figure on one scale."""
    from merger.cli.console import table
    from merger.cli.screen import spark

    stacks: dict[str, list[Sums]] = {}
    for place, sums in geometry.by_layer().items():
        stack, _, number = place.rpartition(" ")
        if number.isdigit():
            stacks.setdefault(stack, []).append(sums)
    for stack, layers in stacks.items():
        if len(layers) < 2:
            continue
        along, rows = [_figures(geometry, sums) for sums in layers], []
        for what, column in ((w, c) for w, columns in _DRAWN.items() for c in columns):
            found = {who: [at[what][who][column] or 0.0 for at in along] for who in along[0][what]}
            numbers = [v for values in found.values() for v in values] or [0.0]
            # A figure that hardly varies is drawn flat.
            span = min(*numbers, 0.99 * max(numbers)), max(numbers)
            for i, (who, values) in enumerate(found.items()):
                ends = f"{min(values):.3g}", f"{max(values):.3g}"
                rows.append(["" if i else column, who, spark(_thinned(values), span), *ends])
        table("", ["figure", "of", f"{stack} 0 to {len(layers) - 1}", ">least", ">most"], rows)


def _thinned(values: list[float]) -> list[float]:
    """Return the values, or their means over as many runs as a strip has cells."""
    count = min(_STRIP, len(values))
    cuts = [i * len(values) // count for i in range(count + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(cuts)]
