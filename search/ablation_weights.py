"""The section on weights alone: how far each expert went, how they meet, what bfloat16 keeps."""

from __future__ import annotations

from typing import Any

from search.ablation import Ablation, Absent, Found, part
from search.format import Section, columns, grid, section

FIGURES = {
    "relative": "Relative length",
    "changed": "Changed entries",
    "bf16_survive": "Changes that bfloat16 keeps",
    "bf16_error": "Share of the change's length lost to bfloat16",
}
_SHADES = " ░▒▓█"


@part("Geometry of the experts, and what a cast to bfloat16 keeps")
def geometry(a: Ablation, found: Found) -> Section:
    """Return norms, overlap and cast loss per expert, per pair and per layer; exact, no sample."""
    if a.facts.geometry is None:
        raise Absent("There are no checkpoints to measure.")
    measured = a.facts.geometry()
    total, layers = measured.total().figures(), measured.by_layer()
    by_layer = {name: sums.figures() for name, sums in layers.items()}
    made = section(
        "Read from the weights, so without error. Relative: length of the change over that of the "
        "base. bf16 kept: changed entries that still differ after base and expert are cast; error: "
        "what the cast takes of the change's length.",
    )
    shown = columns("name:expert, norm::number, relative::number, changed::share, "
                    "bf16_survive:bf16 kept:share, bf16_error:bf16 error:share")  # fmt: skip
    pairs = columns("name:pair, cosine::number, conflict:opposed signs:share, overlap::share")
    rows = [
        {"name": f"{layer}: {e}", **_of(figures, i)}
        for layer, figures in by_layer.items()
        for i, e in enumerate(a.experts)
    ]
    made["tables"] = [
        grid(shown, [{"name": e, **_of(total, i)} for i, e in enumerate(a.experts)]),
        grid(pairs, _pairs(a, total), "Pairs of task vectors"),
        grid(shown, rows, "By layer") | {"wide": True},
        grid(pairs, [{**r, "name": f"{name}: {r['name']}"} for name, f in by_layer.items()
                     for r in _pairs(a, f)], "Pairs by layer") | {"wide": True},
    ]  # fmt: skip
    made["figures"] = [_heat(a, key, by_layer) for key in FIGURES] + [_meetings(a, by_layer)]
    return made


def _of(figures: dict[str, Any], i: int) -> dict[str, Any]:
    return {key: figures[key][i] for key in ("norm", *FIGURES)}


def _pairs(a: Ablation, figures: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": " · ".join(a.experts[int(i)] for i in key.split(",")), **pair}
        for key, pair in figures["pairs"].items()
    ]


def _heat(a: Ablation, key: str, by_layer: dict[str, Any]) -> Section:
    table = {e: [f[key][i] for f in by_layer.values()] for i, e in enumerate(a.experts)}
    return heat(f"geometry_{key}", FIGURES[key], list(by_layer), table)


def _meetings(a: Ablation, by_layer: dict[str, Any]) -> Section:
    first = next(iter(by_layer.values()))
    names = [r["name"] for r in _pairs(a, first)]
    table = {n: [_pairs(a, f)[j]["cosine"] for f in by_layer.values()] for j, n in enumerate(names)}
    return heat("geometry_cosine", "Cosine of task vectors", list(by_layer), table)


def heat(name: str, title: str, columns: list[str], rows: dict[str, list[Any]]) -> Section:
    """Return a figure of shaded cells, with a sketch of it in characters."""
    known = [v for values in rows.values() for v in values if v is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    width = max(map(len, rows), default=0)

    def shade(value: float | None) -> str:
        if value is None:
            return "·"
        return _SHADES[round((value - low) / ((high - low) or 1) * (len(_SHADES) - 1))]

    sketch = [f"{title} by layer, blank {low:.2g} to full {high:.2g}:"] if rows else []
    sketch += [f"{row:<{width}} |{''.join(map(shade, values))}|" for row, values in rows.items()]
    cells = {"columns": columns, "rows": [{"label": r, "values": v} for r, v in rows.items()]}
    return {"kind": "heat", "name": name, "title": title, "sketch": sketch} | cells
