"""Figures of a report: forest plots, curves, bars, heat maps and the map of shares, as shapes.

A figure is data in the document (its kind names the drawer); everything drawn is also a number in a
table or in report.json.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from search.draw_shapes import Canvas, png, svg, ticks
from search.format import Document, Section, cell

WIDTH, ROW, EDGE = 640.0, 22.0, 12.0
LETTER = 6.6  # pixels of an average character
FigureData = Section


def draw(figure: FigureData) -> Canvas:
    """Return a figure as shapes."""
    return DRAWERS[figure["kind"]](figure)


def save_figures(document: Document, folder: Path) -> None:
    """Write every figure as SVG, and as PNG where matplotlib is installed."""
    from importlib.util import find_spec

    folder.mkdir(exist_ok=True)
    for figure in figures(document):
        canvas = draw(figure)
        place = folder / f"{figure['name']}.svg"
        place.write_text(svg(canvas, figure["title"], alone=True), encoding="utf-8")
        if find_spec("matplotlib"):
            png(canvas, place.with_suffix(".png"))


def figures(document: Document) -> Iterator[FigureData]:
    """Yield the figures of all sections."""
    for found in document["sections"].values():
        yield from found["figures"]


def _left(labels: Sequence[str]) -> float:
    return EDGE + LETTER * max(map(len, labels), default=0) + 8


def _forest(figure: FigureData) -> Canvas:
    rows = figure["rows"]
    left = _left([r["label"] for r in rows])
    canvas = Canvas(WIDTH, ROW * (len(rows) + 1) + 2 * EDGE)
    kind = "number" if figure["name"] == "importance" else "signed"
    low = min([0.0, *(r["ci95"][0] for r in rows)])
    high = max([0.0, *(r["ci95"][1] for r in rows)])
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return left + float(value - low) / span * (WIDTH - left - 2 * EDGE)

    bottom = EDGE + ROW * len(rows)
    for tick in ticks(low, high):
        canvas.line(x(tick), EDGE, x(tick), bottom, look="axis" if tick == 0 else "faint")
        canvas.write(x(tick), bottom + 14, cell(kind, tick), "middle")
    for i, row in enumerate(rows):
        y = EDGE + ROW * (i + 0.5)
        ends = " to ".join(cell(kind, end) for end in row["ci95"])
        canvas.write(left - 8, y + 4, row["label"], "end")
        canvas.line(x(row["ci95"][0]), y, x(row["ci95"][1]), y, look="c0")
        canvas.dot(x(row["value"]), y, tip=f"{row['label']}: {cell(kind, row['value'])}, {ends}")
    return canvas


def _curves(figure: FigureData) -> Canvas:
    lines, unit = figure["lines"], figure["unit"]
    height, left, top = 260.0, 56.0, EDGE + 18 * (1 + len(lines) // 4)
    canvas = Canvas(WIDTH, top + height + 40)
    points = [p for line in lines for p in line["points"]]
    xs = [p["x"] for p in points]
    ys = [end for p in points for end in (p["y"], *p.get("ci95", ()))]
    (x0, x1), (y0, y1) = (min(xs), max(xs)), (min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x0) / ((x1 - x0) or 1) * (WIDTH - left - 2 * EDGE)
        return left + EDGE + across, top + height - (y - y0) / ((y1 - y0) or 1) * height

    for tick in ticks(y0, y1):
        canvas.line(left, place(x0, tick)[1], WIDTH - EDGE, place(x0, tick)[1], look="faint")
        canvas.write(left - 6, place(x0, tick)[1] + 4, cell(unit, tick), "end")
    for tick in ticks(x0, x1, 6):
        canvas.write(place(tick, y0)[0], top + height + 18, cell("number", tick), "middle")
    canvas.write(WIDTH / 2, top + height + 34, figure["x"], "middle")
    for i, line in enumerate(lines):
        _one_curve(canvas, line, f"c{i % 6}", place, unit, len(points) < 100)
        canvas.dot(left + 150 * (i % 4), EDGE + 18 * (i // 4), f"c{i % 6}")
        canvas.write(left + 8 + 150 * (i % 4), EDGE + 4 + 18 * (i // 4), line["label"][:22])
    return canvas


def _one_curve(
    canvas: Canvas,
    line: Section,
    look: str,
    place: Callable[[float, float], tuple[float, float]],
    unit: str,
    dots: bool,
) -> None:
    """Draw one line with its intervals."""
    points = line["points"]
    canvas.line(*(v for p in points for v in place(p["x"], p["y"])), look=look)
    for p in points if dots else ():
        x, y = place(p["x"], p["y"])
        tip = f"{line['label']}, {cell('number', p['x'])}: {cell(unit, p['y'])}"
        if "ci95" in p:
            ends = [place(p["x"], end)[1] for end in p["ci95"]]
            canvas.line(x, ends[0], x, ends[1], look=look)
            tip += f" ({' to '.join(cell(unit, end) for end in p['ci95'])})"
        canvas.dot(x, y, look, tip, 3)


def _bars(figure: FigureData) -> Canvas:
    rows = figure["rows"]
    left, most = _left([r["label"] for r in rows]), max([1, *(r["value"] for r in rows)])
    canvas = Canvas(WIDTH, ROW * len(rows) + 2 * EDGE)
    unit = (WIDTH - left - 90) / most
    for i, row in enumerate(rows):
        y = EDGE + ROW * i
        canvas.write(left - 8, y + 15, row["label"], "end")
        canvas.rect(left, y + 3, row["value"] * unit, ROW - 6, shade=0.3)
        canvas.rect(left, y + 3, row["part"] * unit, ROW - 6)
        canvas.write(left + row["value"] * unit + 6, y + 15, f"{row['part']} of {row['value']}")
    return canvas


def _heat(figure: FigureData) -> Canvas:
    rows, columns = figure["rows"], figure["columns"]
    left = _left([r["label"] for r in rows])
    tall = LETTER * max(map(len, columns), default=0) + EDGE
    canvas = Canvas(WIDTH, ROW * len(rows) + tall + 2 * EDGE)
    known = [v for r in rows for v in r["values"] if v is not None]
    low, high = min([0.0, *known]), max([0.0, *known])
    wide = min(40.0, (WIDTH - left - EDGE) / max(1, len(columns)))
    for i, row in enumerate(rows):
        canvas.write(left - 8, EDGE + ROW * i + 15, row["label"], "end")
        for j, v in enumerate(row["values"]):
            tip = f"{row['label']}, {columns[j]}: {cell('number', v)}"
            shade = 0.0 if v is None else (v - low) / ((high - low) or 1)
            canvas.rect(left + wide * j, EDGE + ROW * i, wide - 1, ROW - 1, tip=tip, shade=shade)
    told = f"blank {cell('number', low)}, full {cell('number', high)}; columns: "
    told += f"{columns[0]} to {columns[-1]}" if columns else "none"
    canvas.write(left, EDGE + ROW * len(rows) + 18, told)
    return Canvas(WIDTH, ROW * len(rows) + 3 * EDGE + 10, canvas.shapes)


def _ternary(figure: FigureData) -> Canvas:
    side, steps = 420.0, figure["steps"]
    high = side * 0.75**0.5
    canvas = Canvas(WIDTH, high + 70)
    low, top = figure["range"]

    def place(shares: Sequence[float]) -> tuple[float, float]:
        return (WIDTH - side) / 2 + side * (shares[0] / 2 + shares[2]), 36 + high * (1 - shares[0])

    size = side / steps * 0.8
    for found in figure["cells"]:
        x, y = place(found["shares"])
        parts = ", ".join(
            f"{n} {s:.2f}" for n, s in zip(figure["corners"], found["shares"], strict=True)
        )
        tip = f"{parts}: {cell('points', found['mean'])} ± {cell('points', found['sd'])}"
        shade = 0.08 + 0.92 * (found["mean"] - low) / ((top - low) or 1)
        canvas.rect(x - size / 2, y - size / 2, size, size, tip=tip, shade=shade)
        if found["near"]:
            canvas.dot(x, y, "c1", tip, 2.5)
    for name, shares, anchor in zip(
        figure["corners"],
        ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
        ("middle", "start", "end"),
        strict=True,
    ):
        x, y = place(shares)
        canvas.write(x, y - 18 if shares[0] else y + 28, name, anchor)
    for letter, shares in figure["marks"].items():
        x, y = place(shares)
        canvas.dot(x, y, "c3", letter, 9)
        canvas.write(x + 12, y + 4, letter)
    return canvas


DRAWERS: dict[str, Callable[[FigureData], Canvas]] = {
    "forest": _forest,
    "curves": _curves,
    "bars": _bars,
    "heat": _heat,
    "ternary": _ternary,
}
