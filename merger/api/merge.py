"""Merge by one call: a config, a mapping or a spec in, a new model folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from merger.engine import Merged, merge_to_folder, opened
from merger.plan import Plan, Step
from merger.spec import MergeSpec, load_spec, spec_from_mapping

Config = str | PathLike[str] | Mapping[str, Any] | MergeSpec


def read_spec(config: Config) -> MergeSpec:
    """Return a spec from a YAML file's path, the same as a mapping, or a spec.

    Raises:
        SpecError: a key, a value or the file is wrong.
        UnknownNameError: no such operator or key; the remedy names the nearest.
    """
    if isinstance(config, MergeSpec):
        return config
    return spec_from_mapping(config) if isinstance(config, Mapping) else load_spec(str(config))


def merge(
    config: Config,
    out: str | PathLike[str],
    *,
    family: str | None = None,
    memory: int | None = None,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    force: bool = False,
    allow_nan: bool = False,
    progress: Callable[[Step], None] | None = None,
) -> Merged:
    """Merge models into a new folder, block by block, within a memory budget.

    Args:
        config: mergekit's YAML as a path, the same as a mapping, or a `MergeSpec`.
        out: the folder to make; it has its name only when it is whole.
        family: bundled family whose aliases are tried first.
        memory: bytes that the process may hold; by default a gigabyte, and half a one more than a
            process that holds much already.
        device: where the arithmetic runs (float32; float64 where a law needs it).
        threads: torch threads; the result does not depend on them.
        resume: go on with what a killed merge of the same inputs has left.
        force: replace an existing model folder.
        allow_nan: let NaN and infinities through.
        progress: called with each finished step.

    Returns:
        The folder and the notes: what was dropped, copied or cast.

    Raises:
        MergerError: a child for each kind of mistake; nothing is left but OUT.partial.
    """
    with opened(read_spec(config), family=family) as models:
        walk: dict[str, Any] = {"memory": memory, "threads": threads, "allow_nan": allow_nan}
        how: dict[str, Any] = {"resume": resume, "force": force, "progress": progress}
        return merge_to_folder(models, Path(out), device=device, **how, **walk)


def explain(config: Config, *, family: str | None = None) -> Plan:
    """Return what a merge would do, tensor by tensor, from the headers of its models alone."""
    with opened(read_spec(config), family=family) as models:
        return models.plan
