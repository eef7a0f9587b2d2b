"""Which attempt gave each item, kept on disk: a pool of a tenth of all instances takes ten draws.

Only numbers are kept, never items: an item is drawn anew from its address and its attempt, and one
whose bucket is not its split's is looked for as if nothing had been kept. A file belongs to one
(task, version, split, seed) and to the very text of the generators, so no change of theirs, meant
or not, meets numbers of another.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from evals.kept import keep, kept, name_of

Attempts = dict[str, list[int]]  # by level, in the order of the items' indices


@contextmanager
def remembered(draw: Callable[..., Any], address: str) -> Iterator[Attempts]:
    """Give what is known of a pool; what the block adds is kept, where the generator is ours."""
    if not getattr(draw, "__module__", "").startswith("evals.tasks."):
        yield {}
        return
    name = f"items/{name_of(address, _generators())}"
    known: Attempts = dict(kept(name) or {})
    before = sum(map(len, known.values()))
    yield known
    if sum(map(len, known.values())) > before:
        keep(name, known)


@cache
def _generators() -> str:
    """Return a digest of everything that items are drawn by."""
    here = Path(__file__).parent
    files = [here / "task.py", *sorted((here / "tasks").glob("*.py"))]
    return sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
