"""Name -> object tables filled by decorators, answering a typo with the name probably meant.

A module of a folder that is loaded whole registers what it defines, so adding a file adds an
operator, a task or a command. Iteration is alphabetical: nothing depends on the order of imports.
"""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import TypeVar

from merger.errors import UnknownNameError

T = TypeVar("T")
_SHOWN = 60  # names of a table; of a longer one (lm-eval has 14,000) the nearest
_NEAREST = 8


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is in no table, with the nearest known name as remedy."""
    names = sorted(known)
    lower = {one.lower(): one for one in names}
    near = [lower[one] for one in get_close_matches(name.lower(), lower, n=_NEAREST)]
    hint = f"Did you mean {near[0]!r}? " if near else ""
    shown = names if len(names) <= _SHOWN else near or names[:_NEAREST]
    more = f" and {len(names) - len(shown):,} more" if len(names) > _SHOWN else ""
    told = f"{hint}Known: {', '.join(shown)}{more}."
    return UnknownNameError(f"no {kind} named {name!r}", told)


class Registry(dict[str, T]):
    """A table of named objects of one kind; iterates in alphabetical order."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, name: str, item: T) -> T:
        """Put an item under a new name; a name taken is a bug, hence a ValueError."""
        if name in self:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self[name] = item
        return item

    def __missing__(self, name: str) -> T:
        raise unknown(self.kind, name, self)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.keys()))
