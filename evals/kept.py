"""What need not be made again: JSON in the user's cache, one file a name, with its own checksum.

Nothing depends on it. A file that is not whole is as good as none, and a disk that takes none is no
error; whoever keeps something puts into its name all that it follows from.
"""

import json
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Return our folder in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "merger"


def name_of(*facts: object) -> str:
    """Return a file's name for what follows from these facts."""
    return sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()[:24]


def kept(name: str) -> Any:
    """Return what was kept under a name, or None."""
    with suppress(OSError, ValueError):
        check, _, text = _file(name).read_text().partition("\n")
        return json.loads(text) if check == sha256(text.encode()).hexdigest() else None
    return None


def keep(name: str, value: Any) -> None:
    """Keep a value of JSON under a name, whole or not at all."""
    text, file = json.dumps(value), _file(name)
    partial = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(f"{sha256(text.encode()).hexdigest()}\n{text}")
        partial.replace(file)


def _file(name: str) -> Path:
    return cache_folder() / f"{name}.json"
