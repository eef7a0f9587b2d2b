"""Words of the command line turned into values: sizes in bytes, and a spec without a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from merger.errors import UsageError

if TYPE_CHECKING:
    from merger.spec import MergeSpec

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?)(?P<binary>i?)b?", re.IGNORECASE)


def size(text: str, option: str) -> int:
    """Read a size in bytes: `5GB`, `512MiB`, `1000`; a UsageError for anything else."""
    found = _SIZE.fullmatch(text.strip())
    if not found or float(found["number"]) <= 0:
        raise UsageError(f"{option} is {text!r}", "Give a size such as 500MB, 1GB or 5GiB.")
    power = " kmgt".index(found["unit"].lower() or " ")
    return int(float(found["number"]) * (1024 if found["binary"] else 1000) ** power)


def spec_from_flags(
    method: str, base: str | None, experts: Sequence[str], settings: Sequence[str]
) -> MergeSpec:
    """Build a spec from `--method --base --expert NAME=WEIGHT --set knob=value`.

    A setting may speak of one expert: `--set ded.density=0.5`. Values are read as YAML, so a list
    is a gradient. Raises what the same YAML would be refused for.
    """
    from merger.spec import merge_spec

    models: dict[str, dict[str, Any]] = {}
    for given in experts:
        name, weight = _expert(given)
        if name in models:
            raise UsageError(f"--expert names {name} twice", "Give each expert once.")
        models[name] = {} if weight is None else {"weight": weight}
    shared: dict[str, Any] = {}
    for given in settings:
        name, found, value = given.partition("=")
        if not found:
            raise UsageError(f"--set is {given!r}", "Write --set knob=value.")
        owner, _, knob = name.rpartition(".")
        if owner and owner not in models:
            known = ", ".join(models) or "none"
            raise UsageError(f"--set speaks of {owner!r}", f"Experts given: {known}.")
        (models[owner] if owner else shared)[knob] = _plain(value, given)
    return merge_spec(method, models, base=base, knobs=shared)


def _expert(given: str) -> tuple[str, float | None]:
    name, found, weight = given.rpartition("=")
    if not found:
        return given, None
    try:
        return name, float(weight)
    except ValueError as error:
        law = f"--expert is {given!r}, and {weight!r} is no number"
        raise UsageError(law, "Write --expert NAME=WEIGHT.") from error


def _plain(text: str, given: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set is {given!r}", "Write --set knob=value.") from error
