"""Merge by one call: a config, a mapping or a spec in, a new model folder out.

What `merger merge` does, without a word printed. A merge without an OUT makes and drops every
block, for sizes that no disk at hand can hold. The check of lineage reads a sample of each tensor
and only warns: a merge of strangers may be meant.
"""

import os
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from merger.api.limits import Count, check_least
from merger.errors import UsageError
from merger.screen import QUIET, Screen

if TYPE_CHECKING:
    from merger.engine import Opened
    from merger.plan import Plan
    from merger.spec import MergeSpec

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?)(?P<binary>i?)b?", re.IGNORECASE)
_SAMPLE = 16_384  # entries per tensor that the check of lineage reads


class Merged(NamedTuple):
    """What `merger.merge` returns, and `merger merge --json` shows a part of.

    `out` is the whole folder (the null device, where nothing was kept); `notes` say what was
    dropped, copied or cast; `lineage` holds a sentence for each expert that does not look like a
    child of the base; `models` tells where each model of the spec lies.
    """

    out: Path
    notes: list[str]
    plan: "Plan"
    lineage: list[str]
    models: dict[str, str]


def read_spec(config: "str | PathLike[str] | Mapping[str, Any] | MergeSpec") -> "MergeSpec":
    """Return a spec from a YAML file's path, the same as a mapping, or a spec.

    Raises:
        SpecError: a key, a value or the file is wrong.
        UnknownNameError: no such operator or key; the remedy names the nearest.
    """
    from merger.spec import MergeSpec, load_spec, spec_from_mapping

    if isinstance(config, MergeSpec):
        return config
    return spec_from_mapping(config) if isinstance(config, Mapping) else load_spec(str(config))


def size(given: str | int, option: str) -> int:
    """Read a size in bytes: `5GB`, `512MiB`, `1000`; a UsageError for anything else."""
    found = _SIZE.fullmatch(str(given).strip())
    if not found or float(found["number"]) <= 0:
        raise UsageError(f"{option} is {given!r}", "Give a size such as 500MB, 1GB or 5GiB.")
    power = " kmgt".index(found["unit"].lower() or " ")
    return int(float(found["number"]) * (1024 if found["binary"] else 1000) ** power)


def merge(
    config: "str | PathLike[str] | Mapping[str, Any] | MergeSpec",
    out: "str | PathLike[str] | None",
    *,
    shard_size: str | int = "5GB",
    memory: str | int | None = None,
    device: str = "cpu",
    threads: Count = None,
    family: str | None = None,
    resume: bool = False,
    force: bool = False,
    allow_nan: bool = False,
    screen: "Screen" = QUIET,
) -> Merged:
    """Merge models into a new folder, block by block, within a memory budget.

    Args:
        config: mergekit's YAML as a path, the same as a mapping, or a `MergeSpec`.
        out: the folder to make; it has its name only when it is whole. None keeps nothing.
        shard_size: Largest file of weights.
        memory: Memory the whole process may hold (1GB; half of one more than it holds already).
        device: Where the arithmetic runs: cpu, cuda.
        threads: Tensors made at a time (as many as cores); the result does not depend on it.
        family: Family whose aliases are used (tiny).
        resume: Go on with a killed run of the same inputs.
        force: Replace an existing model.
        allow_nan: Let NaN and infinities through.
        screen: shows where models were found, doubts, progress; by default nothing.

    Returns:
        The folder, what should be said about it, its plan.

    Raises:
        MergerError: a child for each kind of mistake; nothing is left but OUT.partial.
    """
    check_least(merge, locals())
    from merger.engine import discard, merge_to_folder, opened, run_plan
    from merger.engine.team import Team

    limit = size(memory, "--memory") if memory is not None else None
    walk: dict[str, Any] = {"memory": limit, "threads": threads, "allow_nan": allow_nan}
    shards = size(shard_size, "--shard-size")
    with opened(read_spec(config), family=family) as models:
        team = Team.launched()
        if team.rank:  # the first process does the talking
            screen = QUIET
        for choice in models.choices.values():
            screen.say(choice)
        doubts = [] if team.rank else _doubts(models)
        for doubt in doubts:
            screen.say(f"warning: {doubt}")
        plan, place = models.plan, Path(out or os.devnull).absolute()
        with screen.progress(f"merge ({plan.spec.method})", len(plan.steps)) as bar:
            walk |= {"device": device, "progress": lambda step: bar.step(note=step.name)}
            if out is None:
                run_plan(plan, models.checkpoints, discard, raw=discard, **walk)
                notes = models.notes
            else:
                how: dict[str, Any] = {"shard_size": shards, "resume": resume, "force": force}
                notes = merge_to_folder(models, place, team=team, **how, **walk)
        return Merged(place, notes, plan, doubts, places(models))


def places(models: "Opened") -> dict[str, str]:
    """Return where each model lies."""
    return {name: str(one.path) for name, one in models.checkpoints.items()}


def _doubts(models: "Opened") -> list[str]:
    """Say which experts do not look like descendants of the base, from a sample of their rows."""
    base = models.plan.spec.base
    experts = {m: c for m, c in models.checkpoints.items() if m != base}
    if base is None or not experts:
        return []
    from merger.geometry import lineage, measure

    sampled = measure(models.checkpoints[base], experts, base_name=base, sample=_SAMPLE)
    return [verdict.text for verdict in lineage(sampled) if not verdict.ok]


def explain(
    config: "str | PathLike[str] | Mapping[str, Any] | MergeSpec", *, family: str | None = None
) -> "Plan":
    """Return what a merge would do, tensor by tensor, from the headers of its models alone."""
    from merger.engine import opened

    with opened(read_spec(config), family=family) as models:
        return models.plan
