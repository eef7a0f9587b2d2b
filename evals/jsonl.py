"""Files and output of one JSON object a line (or parquet rows), read with the place of mistakes.

Lines end at a line feed only: other separators that Unicode knows may stand inside a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from merger.errors import EvalError


def parse_objects(text: str, where: str, shape: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) for each line that is not blank.

    `shape` is what a line should look like; the `EvalError` for one that holds no object says it.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                facts = json.loads(line)
            except (ValueError, RecursionError):
                facts = None
            if not isinstance(facts, dict):
                law = f"{where}:{number}: {line[:60]!r} is no JSON object"
                raise EvalError(law, f"Write {shape} on each line and nothing else.")
            yield f"{where}:{number}", facts


def read_objects(path: Path, shape: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) for each line, or row of a .parquet; `EvalError` if it cannot."""
    try:
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_table  # type: ignore[import-untyped]

            rows = read_table(path).to_pylist()
            return ((f"{path}:{number}", row) for number, row in enumerate(rows, 1))
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError, ImportError) as error:  # also a file that is not UTF-8
        raise EvalError(f"{path} cannot be read: {error}", f"Name a file of {shape}.") from error
    return parse_objects(text, str(path), shape)
