"""A figure as a list of shapes, and the shapes as SVG or, with matplotlib, as PNG.

Shapes say what they are (axis, faint, colour 0 to 5) and not how they look: in a page its style
sheet decides, light or dark; alone, the few rules below do. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

PALETTE = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#64748b")
STYLE = "text{font:12px system-ui,sans-serif;fill:currentColor}" + "".join(
    f".c{i}{{stroke:{c};fill:{c}}}" for i, c in enumerate(PALETTE)
)


@dataclass(frozen=True)
class Shape:
    """One mark: `kind` is line, rect, dot or text; `look` is axis, faint, or c0 to c5."""

    kind: str
    at: tuple[float, ...]  # line: x, y, x, y, …; rect: x, y, width, height; dot: x, y, radius
    look: str = "axis"
    text: str = ""  # of a text; else what a pointer over the mark reads
    anchor: str = "start"
    shade: float = 1.0


@dataclass
class Canvas:
    """Shapes in a box of so many pixels."""

    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)

    def line(self, *at: float, look: str = "axis") -> None:
        """Draw a line through points."""
        self.shapes.append(Shape("line", at, look))

    def rect(self, *at: float, look: str = "c0", tip: str = "", shade: float = 1.0) -> None:
        """Draw a filled box."""
        self.shapes.append(Shape("rect", at, look, tip, shade=shade))

    def dot(self, x: float, y: float, look: str = "c0", tip: str = "", radius: float = 4) -> None:
        """Draw a filled circle."""
        self.shapes.append(Shape("dot", (x, y, radius), look, tip))

    def write(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """Write a text; `anchor` is start, middle or end."""
        self.shapes.append(Shape("text", (x, y), "axis", text, anchor))


def svg(canvas: Canvas, title: str, *, alone: bool = False) -> str:
    """Return the canvas as an SVG element; `alone` makes it a file of its own."""
    head = f'viewBox="0 0 {canvas.width:g} {canvas.height:g}" role="img"'
    own = f' xmlns="http://www.w3.org/2000/svg" width="{canvas.width:g}" color="#334155"'
    style = f"<style>{STYLE}svg{{background:#fff}}</style>" if alone else ""
    marks = "".join(map(_mark, canvas.shapes))
    return f"<svg {head}{own if alone else ''}><title>{escape(title)}</title>{style}{marks}</svg>"


def _mark(s: Shape) -> str:
    tip = f"<title>{escape(s.text)}</title>" if s.text and s.kind != "text" else ""
    if s.kind == "text":
        x, y = s.at
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{s.anchor}">{escape(s.text)}</text>'
    if s.kind == "line":
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(s.at[::2], s.at[1::2], strict=True))
        stroke = 'stroke="currentColor"' if s.look in ("axis", "faint") else f'class="{s.look}"'
        thin = ' stroke-opacity=".3"' if s.look == "faint" else ""
        return f'<polyline points="{points}" {stroke}{thin} style="fill:none" stroke-width="1.5"/>'
    look = f'class="{s.look}" fill-opacity="{s.shade:.2f}"'
    if s.kind == "rect":
        x, y, w, h = s.at
        place = f'x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"'
        return f'<rect {place} {look} stroke="none" style="stroke:none">{tip}</rect>'
    x, y, r = s.at
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r:g}" {look}>{tip}</circle>'


def png(canvas: Canvas, place: Path) -> None:
    """Write the canvas as a PNG at twice its size; needs matplotlib (the extra `plots`)."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle, Rectangle

    figure = Figure((canvas.width / 72, canvas.height / 72), dpi=144)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, canvas.width), ylim=(canvas.height, 0))
    axes.set_axis_off()
    for s in canvas.shapes:
        colour = PALETTE[int(s.look[1:])] if s.look[1:].isdigit() else "#334155"
        faint = 0.3 if s.look == "faint" else min(1.0, s.shade)  # rounding
        if s.kind == "text":
            side = {"start": "left", "middle": "center", "end": "right"}[s.anchor]
            axes.text(s.at[0], s.at[1], s.text, ha=side, fontsize=8.5, parse_math=False)
        elif s.kind == "line":
            axes.plot(s.at[::2], s.at[1::2], color=colour, alpha=faint, linewidth=1.2)
        elif s.kind == "rect":
            x, y, w, h = s.at
            axes.add_patch(Rectangle((x, y), w, h, color=colour, alpha=faint, linewidth=0))
        else:
            x, y, r = s.at
            axes.add_patch(Circle((x, y), r, color=colour, alpha=faint))
    figure.savefig(place)


def ticks(low: float, high: float, count: int = 4) -> Sequence[float]:
    """Return round numbers within [low, high]."""
    from math import ceil, floor, log10

    step = (high - low or 1.0) / count
    unit = 10 ** floor(log10(step))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= step)
    first = ceil(low / step - 1e-9)
    return [i * step for i in range(first, floor(high / step + 1e-9) + 1)]
