"""The least value of an option, said in its annotation; the command line refuses less."""

from typing import Annotated, NamedTuple


class Least(NamedTuple):
    """The least value that is taken."""

    value: float


Count = Annotated[int | None, Least(1)]
Number = Annotated[int, Least(0)]
