"""YAML as plain data, with the line on which each key stands.

Only plain data: no Python tags. A key that stands twice is an error (YAML would silently take the
last), and so is a file that grows by aliases beyond any sensible config.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from merger.errors import MergerError, SpecError, UsageError
from merger.registry import unknown

Keys = tuple[str | int, ...]
_MOST_NODES = 100_000


@dataclass(frozen=True)
class Node:
    """A piece of a config: what stands there, and where: `merge.yml, line 7 (models[0].model)`."""

    value: Any
    file: str = ""
    lines: dict[Keys, int] = field(default_factory=dict)  # of all keys of the file
    path: Keys = ()

    def __contains__(self, key: object) -> bool:
        return key in self.value

    def __getitem__(self, key: Any) -> Node:
        """Return what stands under a key of a mapping, or None in its place."""
        return self.below(key, self.value.get(key))

    def __str__(self) -> str:
        """Return the place; the nearest parent's line where it has none of its own."""
        parents = (self.path[:n] for n in range(len(self.path), 0, -1))
        line = next((f"line {self.lines[p]}" for p in parents if p in self.lines), "")
        dots = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path).lstrip(".")
        place = ", ".join(part for part in (self.file, line) if part)
        return f"{place} ({dots})" if place and dots else place or dots or "the config"

    def below(self, key: str | int, value: Any) -> Node:
        """Return the node of a value under a key."""
        return replace(self, value=value, path=(*self.path, key))

    def entries(self) -> list[Node]:
        """Return the entries of a list."""
        if not isinstance(self.value, list):
            raise self.error(f"{self.value!r} is no list", "Begin each entry with a dash.")
        return [self.below(i, value) for i, value in enumerate(self.value)]

    def table(self, *keys: str) -> Node:
        """Return the node if it holds keys, and no other than these; any, where none are named."""
        if not isinstance(self.value, Mapping):
            held = "nothing" if self.value is None else f"{self.value!r:.60}"
            told = f"Known keys: {', '.join(keys)}." if keys else "Write `KEY: VALUE` on each line."
            raise self.error(f"{held} stands where keys were expected", told)
        for key in self.value if keys else ():
            if key not in keys:
                with self[key].placed():
                    raise unknown("key", str(key), keys)
        return self

    def text(self) -> str | None:
        """Return a name, or None where there is none."""
        if self.value is None or isinstance(self.value, str):
            return self.value or None
        raise self.error(f"{self.path[-1]} is {self.value!r}", "Give a name.")

    def error(self, law: str, remedy: str = "") -> SpecError:
        """Build an error at this place."""
        return SpecError(f"{self}: {law}", remedy)

    @contextmanager
    def placed(self) -> Iterator[None]:
        """Give the errors of a block this place."""
        try:
            yield
        except MergerError as error:
            raise self.error(error.law, error.remedy) from error


def read_yaml(file: Path) -> Node:
    """Return the data of a YAML file and where its keys stand; a SpecError names file and line."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise SpecError(f"{file} cannot be read: {reason}", "Check the path.") from error
    top = Node(None, file.name)
    try:
        if (tree := yaml.compose(text, Loader=yaml.SafeLoader)) is not None:
            _number(tree, top, [0])
        return replace(top, value=yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError(f"{file.name}{line}: {problem}", "Mend the YAML.") from error
    except RecursionError as error:
        raise SpecError(f"{file.name} is nested too deeply", "Mend the YAML.") from error
    except ValueError as error:  # a date that is none, a number of thousands of digits
        law = f"{file.name} holds a value that cannot be read: {error}"
        raise SpecError(law, "Mend it.") from error


def read_setting(text: str) -> tuple[str, Any]:
    """Read KEY=VALUE, the value in YAML; a UsageError for what is neither."""
    key, sign, value = text.partition("=")
    try:
        if sign and key.strip():
            return key.strip(), yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError, ValueError):
        pass
    raise UsageError(f"--set is {text!r:.60}", "Write --set KEY=VALUE, the value in YAML.")


def _number(tree: yaml.Node, at: Node, seen: list[int]) -> None:
    """Note the line of every key and entry below a place."""
    seen[0] += 1
    if seen[0] > _MOST_NODES:
        raise SpecError(f"{at.file}: the file grows too large by its aliases", "Write it out.")
    if isinstance(tree, yaml.MappingNode):
        for key, value in tree.value:
            here = at.below(key.value, None)
            if here.path in at.lines and key.value != "<<":
                law = f"{key.value!r} stands twice, first on line {at.lines[here.path]}"
                raise at.error(law, f"Keep one; the other is on line {_line(key)}.")
            at.lines[here.path] = _line(key)
            _number(value, here, seen)
    elif isinstance(tree, yaml.SequenceNode):
        for i, value in enumerate(tree.value):
            here = at.below(i, None)
            at.lines[here.path] = _line(value)
            _number(value, here, seen)


def _line(tree: yaml.Node) -> int:
    return int(tree.start_mark.line) + 1
