"""Which attempt gave each item, kept on disk: a pool of a tenth of all instances takes ten draws.

Only numbers are kept, never items: an item is drawn anew from its address and its attempt, and one
whose bucket is not its split's is looked for as if nothing had been kept. A file belongs to one
(task, version, split, seed) and to the very text of the generators, so no change of theirs, meant
or not, meets numbers of another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

Attempts = dict[str, list[int]]  # by level, in the order of the items' indices


def cache_folder() -> Path:
    """Return our folder in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "merger"


@contextmanager
def remembered(draw: Callable[..., Any], address: str) -> Iterator[Attempts]:
    """Give what is known of a pool; what the block adds is kept (where the disk lets, for ours)."""
    ours = getattr(draw, "__module__", "").startswith("evals.tasks.")
    name = sha256(f"{address}\n{_generators()}".encode()).hexdigest()[:24]
    file = cache_folder() / "items" / f"{name}.json"
    known = _read(file) if ours else {}
    before = sum(map(len, known.values()))
    yield known
    if ours and sum(map(len, known.values())) > before:
        text = json.dumps(known)
        partial = file.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(f"{_sum(text)}\n{text}")
            partial.replace(file)


def _read(file: Path) -> Attempts:
    """Read a file that is whole; any other is as good as none."""
    with suppress(OSError, ValueError):
        check, _, text = file.read_text().partition("\n")
        if check == _sum(text):
            return dict(json.loads(text))
    return {}


def _sum(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@cache
def _generators() -> str:
    """Return a digest of everything that items are drawn by."""
    here = Path(__file__).parent
    files = [here / "task.py", *sorted((here / "tasks").glob("*.py"))]
    return sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
