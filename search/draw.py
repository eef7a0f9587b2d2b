"""Figures of a report as shapes, and the shapes as SVG or, with matplotlib, as PNG.

A figure is data in the document (its kind names the drawer); everything drawn is also a number in a
table or in report.json. Shapes say what they are (axis, faint, colour 0 to 5) and not how they
look: in a page its style sheet decides, light or dark; alone, the few rules below do. Every text is
escaped.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10
from pathlib import Path
from typing import Any, NamedTuple

from search.tables import Document, Section, cell

WIDTH, ROW, EDGE = 640.0, 22.0, 12.0
LETTER = 6.6  # pixels of an average character
DASHES = ("", "7 3", "2 3")  # the first six lines, the next six, …
PALETTE = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#64748b")
COLOURS = {f"c{i}": colour for i, colour in enumerate(PALETTE)}
STYLE = "text{font:12px system-ui,sans-serif;fill:currentColor}"
STYLE += "".join(f".{name}{{stroke:{c};fill:{c}}}" for name, c in COLOURS.items())


class Shape(NamedTuple):
    """One mark: `kind` is line, rect, dot or text; `look` is axis, faint, or c0 to c5."""

    kind: str
    at: tuple[float, ...]  # line: x, y, x, y, …; rect: x, y, width, height; dot: x, y, radius
    look: str = "axis"
    text: str = ""  # of a text; dashes of a line; else what a pointer over the mark reads
    anchor: str = "start"
    shade: float = 1.0


@dataclass
class Canvas:
    """Shapes in a box of so many pixels."""

    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)

    def line(self, *at: float, look: str = "axis", dash: str = "") -> None:
        """Draw a line through points; `dash` holds the lengths of a stroke and of a gap."""
        self.shapes.append(Shape("line", at, look, dash))

    def rect(self, *at: float, tip: str = "", shade: float = 1.0) -> None:
        """Draw a filled box."""
        self.shapes.append(Shape("rect", at, "c0", tip, shade=shade))

    def dot(self, x: float, y: float, look: str = "c0", tip: str = "", radius: float = 4) -> None:
        """Draw a filled circle."""
        self.shapes.append(Shape("dot", (x, y, radius), look, tip))

    def write(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """Write a text; `anchor` is start, middle or end."""
        self.shapes.append(Shape("text", (x, y), text=text, anchor=anchor))


def svg(canvas: Canvas, title: str, *, alone: bool = False) -> str:
    """Return the canvas as an SVG element; `alone` makes it a file of its own."""
    head = f'viewBox="0 0 {canvas.width:g} {canvas.height:g}" role="img"'
    own = f' xmlns="http://www.w3.org/2000/svg" width="{canvas.width:g}" color="#334155"'
    style = f"<style>{STYLE}svg{{background:#fff}}</style>" if alone else ""
    marks = "".join(map(_mark, canvas.shapes))
    return f"<svg {head}{own if alone else ''}><title>{escape(title)}</title>{style}{marks}</svg>"


def _mark(s: Shape) -> str:
    tip = f"<title>{escape(s.text)}</title>" if s.text and s.kind != "text" else ""
    look = f'class="{s.look}" fill-opacity="{s.shade:.2f}"'
    match s.kind, [f"{v:.1f}" for v in s.at]:
        case "text", [x, y]:
            return f'<text x="{x}" y="{y}" text-anchor="{s.anchor}">{escape(s.text)}</text>'
        case "rect", [x, y, w, h]:
            place = f'x="{x}" y="{y}" width="{w}" height="{h}"'
            return f'<rect {place} {look} stroke="none" style="stroke:none">{tip}</rect>'
        case "dot", [x, y, r]:
            return f'<circle cx="{x}" cy="{y}" r="{r}" {look}>{tip}</circle>'
        case _, values:
            stroke = f'class="{s.look}"' if s.look in COLOURS else 'stroke="currentColor"'
            thin = ' stroke-opacity=".3"' if s.look == "faint" else ""
            dash = f' stroke-dasharray="{s.text}"' if s.text else ""
            how = f'{stroke}{thin}{dash} style="fill:none" stroke-width="1.5"'
            return f'<polyline points="{" ".join(values)}" {how}/>'


def png(canvas: Canvas, place: Path) -> None:
    """Write the canvas as a PNG at twice its size; needs matplotlib (the extra `plots`)."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Rectangle

    figure = Figure((canvas.width / 72, canvas.height / 72), dpi=144)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, canvas.width), ylim=(canvas.height, 0))
    axes.set_axis_off()
    for s in canvas.shapes:
        x, y, *size = s.at
        shade = 0.3 if s.look == "faint" else min(1.0, s.shade)  # rounding
        ink: dict[str, Any] = {"color": COLOURS.get(s.look, "#334155"), "alpha": shade}
        match s.kind:
            case "text":
                side = {"start": "left", "middle": "center", "end": "right"}[s.anchor]
                axes.text(x, y, s.text, ha=side, fontsize=8.5, parse_math=False)
            case "line":
                dash = (0, [*map(float, s.text.split())]) if s.text else "-"
                axes.plot(s.at[::2], s.at[1::2], linewidth=1.2, linestyle=dash, **ink)
            case "rect":
                axes.add_patch(Rectangle((x, y), *size, linewidth=0, **ink))
            case "dot":
                axes.add_patch(Circle((x, y), size[0], **ink))
    figure.savefig(place)


def ticks(low: float, high: float, count: int = 4) -> Sequence[float]:
    """Return round numbers within [low, high]."""
    step = (high - low or 1.0) / count
    unit = 10 ** floor(log10(step))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= step)
    return [i * step for i in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def draw(figure: Section) -> Canvas:
    """Return a figure as shapes."""
    return DRAWERS[figure["kind"]](figure)


def save_figures(document: Document, folder: Path) -> None:
    """Write every figure as SVG, and as PNG where matplotlib is installed."""
    from importlib.util import find_spec

    folder.mkdir(exist_ok=True)
    for figure in figures(document):
        canvas, place = draw(figure), folder / f"{figure['name']}.svg"
        place.write_text(svg(canvas, figure["title"], alone=True), encoding="utf-8")
        if find_spec("matplotlib"):
            png(canvas, place.with_suffix(".png"))


def figures(document: Document) -> Iterator[Section]:
    """Yield the figures of all sections."""
    for found in document["sections"].values():
        yield from found["figures"]


def _labelled(rows: Sequence[Section], below: float = 0.0) -> tuple[Canvas, float]:
    """Return a canvas with the labels of rows, and where the rows begin to the right of them."""
    left = EDGE + LETTER * max((len(r["label"]) for r in rows), default=0) + 8
    canvas = Canvas(WIDTH, ROW * len(rows) + 2 * EDGE + below)
    for i, row in enumerate(rows):
        canvas.write(left - 8, EDGE + ROW * i + 15, row["label"], "end")
    return canvas, left


def _axis(ends: Iterable[float], start: float, stop: float) -> Callable[[float], float]:
    """Return what puts numbers between two ends to pixels between `start` and `stop`."""
    low, high = min(known := list(ends)), max(known)
    return lambda value: start + float(value - low) / ((high - low) or 1.0) * (stop - start)


def _forest(figure: Section) -> Canvas:
    rows, kind = figure["rows"], figure.get("unit", "signed")
    canvas, left = _labelled(rows, ROW)
    ends = [0.0, *(end for r in rows for end in r["ci95"])]
    x, bottom = _axis(ends, left, WIDTH - 2 * EDGE), EDGE + ROW * len(rows)
    for tick in ticks(min(ends), max(ends)):
        canvas.line(x(tick), EDGE, x(tick), bottom, look="axis" if tick == 0 else "faint")
        canvas.write(x(tick), bottom + 14, cell(kind, tick), "middle")
    for i, row in enumerate(rows):
        y, (low, high) = EDGE + ROW * (i + 0.5), row["ci95"]
        tip = f"{row['label']}: {cell(kind, row['value'])}, {cell(kind, low)} to {cell(kind, high)}"
        canvas.line(x(low), y, x(high), y, look="c0")
        canvas.dot(x(row["value"]), y, tip=tip)
    return canvas


def _curves(figure: Section) -> Canvas:
    lines, unit = figure["lines"], figure["unit"]
    bottom, left, top = 260.0, 56.0, EDGE + 18 * (1 + len(lines) // 4)
    canvas, bottom = Canvas(WIDTH, top + bottom + 40), top + bottom
    points = [p for line in lines for p in line["points"]]
    xs = [p["x"] for p in points]
    ys = [end for p in points for end in (p["y"], *p.get("ci95", ()))]
    x, y = _axis(xs, left + EDGE, WIDTH - EDGE), _axis(ys, bottom, top)
    for tick in ticks(min(ys), max(ys)):
        canvas.line(left, y(tick), WIDTH - EDGE, y(tick), look="faint")
        canvas.write(left - 6, y(tick) + 4, cell(unit, tick), "end")
    for tick in ticks(min(xs), max(xs), 6):
        canvas.write(x(tick), bottom + 18, cell("number", tick), "middle")
    canvas.write(WIDTH / 2, bottom + 34, figure["x"], "middle")
    for i, line in enumerate(lines):
        look, across, down = f"c{i % 6}", left + 150 * (i % 4), EDGE + 18 * (i // 4)
        dash = DASHES[i // 6 % 3]
        canvas.line(across - 14, down, across + 14, down, look=look, dash=dash)
        canvas.write(across + 20, down + 4, line["label"][:20])
        way = (v for p in line["points"] for v in (x(p["x"]), y(p["y"])))
        canvas.line(*way, look=look, dash=dash)
        for p in line["points"] if len(points) < 100 else ():
            tip = f"{line['label']}, {cell('number', p['x'])}: {cell(unit, p['y'])}"
            if ends := p.get("ci95"):
                canvas.line(x(p["x"]), y(ends[0]), x(p["x"]), y(ends[1]), look=look)
                tip += f" ({' to '.join(cell(unit, end) for end in ends)})"
            canvas.dot(x(p["x"]), y(p["y"]), look, tip, 3)
    return canvas


def _bars(figure: Section) -> Canvas:
    rows = figure["rows"]
    canvas, left = _labelled(rows)
    width = _axis([0, 1, *(r["value"] for r in rows)], 0, WIDTH - left - 90)
    for i, row in enumerate(rows):
        y = EDGE + ROW * i
        canvas.rect(left, y + 3, width(row["value"]), ROW - 6, shade=0.3)
        canvas.rect(left, y + 3, width(row["part"]), ROW - 6)
        told = f"{row['part']} of {row['value']}"
        canvas.write(left + width(row["value"]) + 6, y + 15, told)
    return canvas


def _heat(figure: Section) -> Canvas:
    rows, columns = figure["rows"], figure["columns"]
    canvas, left = _labelled(rows, EDGE + 10)
    known = [0.0, *(v for r in rows for v in r["values"] if v is not None)]
    wide, shade = min(40.0, (WIDTH - left - EDGE) / max(1, len(columns))), _axis(known, 0, 1)
    for i, row in enumerate(rows):
        for j, v in enumerate(row["values"]):
            tip = f"{row['label']}, {columns[j]}: {cell('number', v)}"
            dark = 0.0 if v is None else shade(v)
            canvas.rect(left + wide * j, EDGE + ROW * i, wide - 1, ROW - 1, tip=tip, shade=dark)
    told = f"blank {cell('number', min(known))}, full {cell('number', max(known))}; columns: "
    told += " to ".join(columns[:: max(1, len(columns) - 1)])
    canvas.write(left, EDGE + ROW * len(rows) + 18, told)
    return canvas


def _ternary(figure: Section) -> Canvas:
    side, names = 420.0, figure["corners"]
    high, size = side * 0.75**0.5, side / figure["steps"] * 0.8
    canvas, shade = Canvas(WIDTH, high + 70), _axis(figure["range"], 0.08, 1)

    def place(shares: Sequence[float]) -> tuple[float, float]:
        return (WIDTH - side) / 2 + side * (shares[0] / 2 + shares[2]), 36 + high * (1 - shares[0])

    for found in figure["cells"]:
        x, y = place(found["shares"])
        tip = ", ".join(f"{n} {s:.2f}" for n, s in zip(names, found["shares"], strict=True))
        tip += f": {cell('points', found['mean'])} ± {cell('points', found['sd'])}"
        dark = min(1.0, shade(found["mean"]))
        canvas.rect(x - size / 2, y - size / 2, size, size, tip=tip, shade=dark)
        if found["near"]:
            canvas.dot(x, y, "c1", tip, 2.5)
    for i, anchor in enumerate(("middle", "start", "end")):
        x, y = place([float(i == j) for j in range(3)])
        canvas.write(x, y + 28 if i else y - 18, names[i], anchor)
    for letter, shares in figure["marks"].items():
        x, y = place(shares)
        canvas.dot(x, y, "c3", letter, 9)
        canvas.write(x + 12, y + 4, letter)
    return canvas


DRAWERS = {"forest": _forest, "curves": _curves, "bars": _bars, "heat": _heat, "ternary": _ternary}
