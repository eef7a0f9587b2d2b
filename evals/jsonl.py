"""Tables in files: JSONL and parquet read with the place of every mistake; these and CSV written.

Lines end at a line feed only: other separators that Unicode knows may stand inside a text.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from merger.errors import EvalError, OutputError, UsageError


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
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except (OSError, ValueError, ImportError) as error:  # also a file that is not UTF-8
        why = getattr(error, "strerror", None) or error
        raise EvalError(f"{path} cannot be read: {why}", f"Name a file of {shape}.") from error
    return parse_objects(text, str(path), shape)


def check_table(path: Path | None) -> None:
    """Raise `UsageError` for a file of no kind that can be written, `OutputError` in no folder."""
    if path and path.suffix not in {".csv", ".parquet", ".jsonl"}:
        raise UsageError(f"{path} names no kind of table", "End it with .csv, .parquet or .jsonl.")
    if path and not path.parent.is_dir():
        law = f"{path} cannot be written: there is no folder {path.parent}"
        raise OutputError(law, "Make it, or name another file.")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys: .csv, .parquet or .jsonl; halves of signs become `?`."""
    check_table(path)
    try:
        if path.suffix == ".parquet":
            from pyarrow import Table  # type: ignore[import-untyped]
            from pyarrow.parquet import write_table as write

            write(Table.from_pylist([{k: _plain(v) for k, v in row.items()} for row in rows]), path)
        elif path.suffix == ".csv":
            with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
                table = csv.DictWriter(file, list(rows[0]) if rows else [])
                table.writeheader()
                table.writerows(rows)
        else:
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            path.write_text("".join(lines), "utf-8", "replace")
    except OSError as error:
        law = f"{path} cannot be written: {error.strerror or error}"
        raise OutputError(law, "Name another file.") from error


def _plain(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
