"""What an operator may learn about a whole tensor before it combines the first block.

A survey is a generator: it yields a measure, is resumed once the measure has seen every block of
the tensor in order, and returns the facts. More than one pass is allowed; memory stays that of one
block. The measures themselves: sums.py (sums and inner products), magnitudes.py (k-th largest).
"""

from collections.abc import Callable, Generator, Iterable, MutableMapping
from typing import Any, NamedTuple, Protocol

from merger.late import Tensor


class Size(NamedTuple):
    """The whole tensor as rows of its last axis, and how many experts stand side by side."""

    rows: int
    cols: int
    experts: int

    @property
    def numel(self) -> int:
        """How many entries one expert's tensor has."""
        return self.rows * self.cols


class Place(NamedTuple):
    """Where a block lies in its tensor, and the key of each expert's random stream."""

    start: int = 0  # flat index of the block's first entry
    keys: tuple[int, ...] = ()


class Block(NamedTuple):
    """Aligned whole rows: experts (k, rows, cols), base (rows, cols) or None."""

    experts: Tensor
    base: Tensor | None
    place: Place

    @property
    def changes(self) -> Tensor:
        """Return the task vectors, expert − base (k, rows, cols); without a base, the experts."""
        return self.experts if self.base is None else self.experts - self.base


class Measure(Protocol):
    """Something that looks at every block of a tensor once, in order.

    A measure that needs to see only some of them says which by a method `pick`: how many there are
    -> the numbers of those wanted, ascending.
    """

    def add(self, block: Block) -> None:
        """Take one block into account."""


Survey = Generator[Measure, Any, Any]
Streams = Callable[[Block], Tensor]  # what is measured of a block: (m, rows, cols)
Pick = Callable[[int], Iterable[int]]
Passes = Callable[[Pick], Iterable[Block]]


def run_survey(
    survey: Survey | None, blocks: Passes, kept: MutableMapping[str, Measure] | None = None
) -> Any:
    """Drive a survey to its end over fresh passes of the blocks and return its facts.

    A measure with a `name` comes out the same whatever the knobs: `kept` holds such ones from one
    survey of a tensor to the next, and the survey is sent the one it is to read.
    """
    if survey is None:
        return None
    try:
        measure = next(survey)
        while True:
            name = getattr(measure, "name", "")
            known = kept.get(name) if kept is not None else None
            if known is None:
                for block in blocks(getattr(measure, "pick", range)):
                    measure.add(block)
            if kept is not None and name:
                measure = kept.setdefault(name, measure)
            measure = survey.send(measure)
    except StopIteration as done:
        return done.value
