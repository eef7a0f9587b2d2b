"""Options from a table: the fields of a dataclass, annotated with their help, become options.

A command takes them as `**asked`, so that several commands, recipes and Python share one table. A
help text may be a whole `typer.Option` where an option has more to say (another name, a metavar).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import Annotated, get_args, get_type_hints

import typer

Command = Callable[..., None]


def options_of(table: type, order: Iterable[str] = ()) -> Callable[[Command], Command]:
    """Give a command one option for each field of a table, those of `order` last."""

    def give(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        kept = [p for p in own if p.kind is not p.VAR_KEYWORD]
        made = sorted([*_options(table, set(order)), *kept], key=lambda p: p.kind)
        command.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
        return command

    return give


def _options(table: type, last: set[str]) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(table, include_extras=True)
    for field in sorted(fields(table), key=lambda f: f.name in last):
        kind, told = get_args(hints[field.name])
        if isinstance(told, str):
            told = typer.Option(f"--{field.name.replace('_', '-')}", help=told)
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=Annotated[kind, told],
        )
