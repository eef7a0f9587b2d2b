"""Options as YAML gives them, brought to the types that a dataclass or a signature states.

YAML has no tuples, takes 1e-4 (which has no point) for a text and `levels: 1` for a number where
`1-2` is a text: what can be meant is taken as meant, all else is refused with key and value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from merger.errors import RecipeError
from merger.registry import unknown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
_NOT = object()
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_WORDS |= {list: "a list", tuple: "a list", type(None): "nothing"}


def overlay(preset: T, options: Mapping[str, Any]) -> T:
    """Return a flat record with options laid over it, each of the type that its field states."""
    known, hints = [field.name for field in fields(preset)], get_type_hints(type(preset))
    for key in options:
        if key not in known:
            raise unknown("setting", key, known)
    return replace(preset, **{k: fitted(k, v, hints[k]) for k, v in options.items()})


def fitted(key: str, value: Any, hint: Any) -> Any:
    """Return a value as the annotated type; raises a RecipeError where it cannot be meant."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        if (made := _as(value, kind)) is not _NOT:
            return made
    wanted = " or ".join(_WORDS[get_origin(kind) or kind] for kind in kinds)
    raise RecipeError(f"{key} is {value!r}, not {wanted}", f"Give {wanted}, or leave it out.")


def _as(value: Any, kind: Any) -> Any:
    origin = get_origin(kind) or kind
    if origin is Any or (type(value) is origin and origin is not list):
        return value
    if origin is list:
        inner = get_args(kind)[0]
        fits = isinstance(value, list) and all(_as(v, inner) is not _NOT for v in value)
        return value if fits else _NOT
    if origin is tuple:
        return tuple(map(_frozen, value if isinstance(value, list | tuple) else [value]))
    if origin is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)
        except ValueError:
            return _NOT
    return str(value) if origin is str and type(value) is int else _NOT


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
