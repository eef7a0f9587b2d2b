"""The least value of an option, said in its annotation; the command line refuses less.

`Annotated[int, Least(1)]` is read twice: by the command line, which shows the range and refuses
less, and by `check_least`, which does the same for a call from Python.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from merger.errors import UsageError


class Least(NamedTuple):
    """The least value that is taken."""

    value: float


Count = Annotated[int | None, Least(1)]
Number = Annotated[int, Least(0)]


def check_least(call: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raise a UsageError for an argument of a call that lies below its least value."""
    for name, hint in call.__annotations__.items():
        for least in getattr(hint, "__metadata__", ()):
            value = given.get(name)
            if isinstance(least, Least) and value is not None and value < least.value:
                raise UsageError(f"{name} is {value}", f"Give {least.value} or more.")
