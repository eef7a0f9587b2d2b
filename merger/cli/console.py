"""The one door to rich: tables, progress, errors. Data go to stdout, everything else to stderr.

Tables are 80 columns wide when the output is no terminal; meaning is never carried by colour alone;
NO_COLOR and pipes are respected because rich respects them.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from merger.errors import MergerError, MismatchError

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80


def console(*, stderr: bool = True) -> "Console":
    """Return a rich console on stderr (or stdout), 80 columns wide where there is no terminal."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else WIDTH, highlight=False)


def say(text: str = "") -> None:
    """Print one line for people, on stderr, without markup."""
    sys.stderr.write(_clean(text) + "\n")


def out(text: str) -> None:
    """Print data on stdout, as it is."""
    sys.stdout.write(text + "\n")


def data(document: Any) -> None:
    """Print one JSON document on stdout."""
    out(json.dumps(document, ensure_ascii=False, indent=2))


def fail(mistake: MergerError) -> None:
    """Print a user's mistake: the law with value and place, then the remedy.

    Tensors that do not fit together have a line each; a parser's several lines become one.
    """
    several = isinstance(mistake, MismatchError)
    laws = mistake.law.splitlines() if several else [" ".join(mistake.law.split())]
    say("error: " + "\n       ".join(laws))
    say(f"       {' '.join(mistake.remedy.split()) or 'See --help.'}")


def _clean(text: str) -> str:
    """Return a text without what would steer a terminal: names come from files of strangers."""
    kept = (c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return "".join(kept)


# To rich a space, of no width: where a long name may go on in the next line.
_BREAK = "\x1f"
_BREAKS = re.compile(r"(?<=\w[-_:/])(?=\w)")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; columns whose name starts with '>' are right-aligned."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for i, name in enumerate(columns):
        number = name.startswith(">")  # is never folded, though its head may be
        justify: Any = "right" if number else "left"
        widest = max((len(row[i]) for row in rows), default=0) if number else None
        grid.add_column(name.lstrip(">"), justify=justify, overflow="fold", min_width=widest)
    for row in rows:
        grid.add_row(*(Text(_BREAKS.sub(_BREAK, _clean(cell))) for cell in row))
    screen = console(stderr=False)
    with screen.capture() as drawn:
        # A title of the table's own would be folded to the table's width.
        screen.print(*([Text(_clean(title), "italic")] if title else []), grid, sep="\n")
    sys.stdout.write(drawn.get().replace(_BREAK, ""))


@dataclass
class Progress:
    """Where long work stands: a bar on a terminal, a plain line every few seconds in a pipe."""

    label: str
    total: int
    pause: float = 5  # seconds between two lines
    draw: Callable[[int, int, str], None] | None = None
    done: int = 0
    last: float = field(default_factory=time.monotonic)

    def step(self, n: int = 1, note: str = "") -> None:
        """Move on by n and show a note of a few words."""
        self.done += n
        self.total = max(self.total, self.done)  # lm-eval tells late how much there is
        if self.draw:
            self.draw(self.done, self.total, note)
        elif time.monotonic() - self.last > self.pause or self.done >= self.total:
            self.last = time.monotonic()
            say(f"{self.label}: {self.done}/{self.total} {note}".rstrip())


@contextmanager
def progress(label: str, total: int, *, every: bool = False) -> Iterator[Progress]:
    """Show the progress of work with a known number of steps; with `every`, a line for each."""
    if every or not sys.stderr.isatty():  # rich is not loaded for that
        yield Progress(label, total, 0 if every else 5)
        return
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn(escape(label)), BarColumn(bar_width=24), MofNCompleteColumn())
    note = TextColumn("{task.fields[note]}", markup=False)
    with Bars(*columns, TimeRemainingColumn(), note, console=console(), transient=True) as bar:
        task = bar.add_task(label, total=total, note="")
        yield Progress(
            label,
            total,
            draw=lambda n, of, note: bar.update(task, completed=n, total=of, note=note),
        )


@contextmanager
def box(title: str, lines: Callable[[], list[str]]) -> Iterator[Callable[[], None]]:
    """Show a framed box of lines, drawn anew four times a second; yields what draws it at once.

    The line below it is the terminal's own: there it writes ^C, and not behind the frame, where a
    line that is broken would leave a border on the screen.
    """
    from rich.console import Group
    from rich.live import Live
    from rich.panel import Panel
    from rich.text import Text

    def draw() -> Any:
        return Group(Panel(Text("\n".join(lines()), no_wrap=True), title=title, width=WIDTH), "")

    with Live(get_renderable=draw, console=console(), refresh_per_second=4, transient=True) as live:
        yield live.refresh
