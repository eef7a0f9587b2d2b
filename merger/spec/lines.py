"""YAML as plain data, with the line on which each key stands.

Only plain data: no Python tags. A key that stands twice is an error (YAML would silently take the
last), and so is a file that grows by aliases beyond any sensible config.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from merger.errors import MergerError, SpecError

Path_ = tuple[str | int, ...]
_MOST_NODES = 100_000


class Where:
    """Says where in a config something stands: `merge.yml, line 7 (models[0].parameters)`."""

    def __init__(self, source: str = "", lines: dict[Path_, int] | None = None) -> None:
        self.source = source
        self.lines = lines or {}

    def __call__(self, *path: str | int) -> str:
        """Return the place of a path; the nearest parent's line where it has none of its own."""
        known = next((path[:n] for n in range(len(path), 0, -1) if path[:n] in self.lines), None)
        line = f"line {self.lines[known]}" if known else ""
        dotted = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
        place = ", ".join(part for part in (self.source, line) if part)
        return f"{place} ({dotted})" if place and dotted else place or dotted or "the config"

    def error(self, path: Path_, law: str, remedy: str = "") -> SpecError:
        """Build an error at a path."""
        return SpecError(f"{self(*path)}: {law}", remedy)

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Give the errors of a block the place of a path."""
        try:
            yield
        except MergerError as error:
            raise self.error(path, error.law, error.remedy) from error


@dataclass(frozen=True)
class Node:
    """A piece of a config: what stands there, and where."""

    value: Any
    where: Where
    path: Path_ = ()

    def __contains__(self, key: object) -> bool:
        return key in self.value

    def __getitem__(self, key: Any) -> Node:
        """Return what stands under a key of a mapping, or None in its place."""
        return Node(self.value.get(key), self.where, (*self.path, key))

    def __str__(self) -> str:
        return self.where(*self.path)

    def entries(self) -> list[Node]:
        """Return the entries of a list."""
        if not isinstance(self.value, list):
            raise self.error(f"{self.value!r} is no list", "Begin each entry with a dash.")
        return [Node(v, self.where, (*self.path, i)) for i, v in enumerate(self.value)]

    def text(self) -> str | None:
        """Return a name, or None where there is none."""
        if self.value is None or isinstance(self.value, str):
            return self.value or None
        raise self.error(f"{self.path[-1]} is {self.value!r}", "Give a name.")

    def error(self, law: str, remedy: str = "") -> SpecError:
        """Build an error at this place."""
        return self.where.error(self.path, law, remedy)

    def placed(self) -> AbstractContextManager[None]:
        """Give the errors of a block this place."""
        return self.where.at(*self.path)


def read_yaml(file: Path) -> tuple[Any, Where]:
    """Return the data of a YAML file and where its keys stand; a SpecError names file and line."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise SpecError(f"{file} cannot be read: {reason}", "Check the path.") from error
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        where = Where(file.name)
        if node is not None:
            _number(node, (), where, [0])
        return yaml.safe_load(text), where
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError(f"{file.name}{line}: {problem}", "Mend the YAML.") from error
    except RecursionError as error:
        raise SpecError(f"{file.name} is nested too deeply", "Mend the YAML.") from error


def _number(node: yaml.Node, path: Path_, where: Where, seen: list[int]) -> None:
    seen[0] += 1
    if seen[0] > _MOST_NODES:
        raise where.error((), "the file grows too large by its aliases", "Write it out.")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            if here in where.lines and key.value != "<<":
                law = f"{key.value!r} stands twice, first on line {where.lines[here]}"
                raise where.error(path, law, f"Keep one; the other is on line {_line(key)}.")
            where.lines[here] = _line(key)
            _number(value, here, where, seen)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            where.lines[*path, i] = _line(value)
            _number(value, (*path, i), where, seen)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
