"""merger merge: make one model out of several, from a config file or from flags."""

from __future__ import annotations

import shlex
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app
from merger.cli.options import options_of
from merger.errors import UsageError

if TYPE_CHECKING:
    from merger.engine.folder import Merged
    from merger.engine.models import Opened
    from merger.spec import MergeSpec

Places = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[CONFIG.yaml] OUT", help="A merge config (mergekit YAML), a new folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@dataclass(frozen=True)
class Asked:
    """What a merge and its explanation are asked for, beside the config."""

    method: Annotated[str | None, "Operator, instead of a config file."] = None
    base: Annotated[str | None, "Model the experts started from."] = None
    expert: Annotated[
        list[str] | None, typer.Option("--expert", metavar="NAME=W", help="A model, its weight.")
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KNOB=VALUE", help="A knob; NAME.KNOB=VALUE for one expert."),
    ] = None
    dtype: Annotated[str | None, "Dtype to write: bf16, fp16, fp32."] = None
    memory: Annotated[str | None, "Memory the whole process may hold (1GB)."] = None
    family: Annotated[str | None, "Family whose aliases are used first."] = None
    vocab: Annotated[str, "Tokenizers that differ: error, base (by token) or union."] = "error"
    seed: Annotated[int | None, "Seed of operators that draw at random."] = None
    device: Annotated[str, "Where the arithmetic runs: cpu, cuda."] = "cpu"


_SAMPLE = 16_384  # entries per tensor that the check of lineage reads


@app.command("merge")
@options_of(Asked)
def merge(
    places: Places = None,
    *,
    shard_size: Annotated[str, typer.Option(help="Largest file of weights.")] = "5GB",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan, write nothing.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Merge, and keep nothing: no OUT.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a killed run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing model.")] = False,
    allow_nan: Annotated[bool, typer.Option("--allow-nan", help="Let NaN through.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Tensors made at a time; by default, all cores.")
    ] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Name every tensor.")] = False,
    as_json: Json = False,
    **flags: Any,
) -> None:
    """Merge models into a new folder: from a config, or by --method, --base and --expert."""
    from merger.cli.explain import show
    from merger.cli.flags import size
    from merger.engine.models import opened

    asked = Asked(**flags)
    config, out = _places(places or [], asked.method, optional=dry_run or discard)
    spec = spec_of(config, asked)
    limit = size(asked.memory, "--memory") if asked.memory else None
    shards = size(shard_size, "--shard-size")
    with opened(spec, family=asked.family) as models:
        if dry_run:
            show(models, limit, as_json=as_json, device=asked.device)
            return
        options: dict[str, Any] = {"memory": limit, "device": asked.device, "threads": threads}
        options["allow_nan"] = allow_nan
        if not discard:
            options |= {"shard_size": shards, "resume": resume, "force": force}
        _write(models, None if discard else out, options, verbose=verbose, as_json=as_json)


def _places(
    places: list[str], method: str | None, *, optional: bool
) -> tuple[str | None, Path | None]:
    """Tell the config from the output: with --method there is no config."""
    wanted = 1 if method else 2
    fewest = wanted - 1 if optional else wanted
    if not fewest <= len(places) <= wanted:
        asked = "OUT" if method else "CONFIG.yaml OUT"
        given = " ".join(places) or "nothing"
        raise UsageError(f"the command takes {asked}, and {given} is given", "merger merge --help")
    config = None if method else places[0]
    out = Path(places[-1]) if len(places) == wanted else None
    return config, out


def spec_of(config: str | None, asked: Asked) -> MergeSpec:
    """Build the spec from a config file or from flags; --dtype, --seed, --vocab hold for both."""
    from merger.cli.flags import spec_from_flags
    from merger.spec import Setting, load_spec
    from merger.spec.parse import dtype_of

    if config is not None:
        own = {"--base": asked.base, "--expert": asked.expert, "--set": asked.settings}
        if given := [name for name, value in own.items() if value]:
            law = f"{config} and {', '.join(given)} are given together"
            raise UsageError(law, "Change the config, or use --method instead of it.")
        spec = load_spec(config)
    else:
        flags = asked.expert or [], asked.settings or []
        spec = spec_from_flags(asked.method or "", asked.base, *flags)
    if asked.vocab not in ("error", "base", "union"):
        raise UsageError(f"--vocab is {asked.vocab!r}", "One of error, base, union.")
    changes: dict[str, Any] = {}
    if asked.vocab != "error":
        changes["tokenizer_source"] = asked.vocab
    if asked.seed is not None and "seed" in spec.operator.knobs:
        changes["knobs"] = {**spec.knobs, "seed": Setting.of(asked.seed)}
    if asked.dtype:
        changes["out_dtype"] = dtype_of(asked.dtype, "--dtype")
    return replace(spec, **changes)


def _write(
    models: Opened,
    out: Path | None,
    options: dict[str, Any],
    *,
    verbose: bool,
    as_json: bool,
) -> None:
    from merger.cli.console import progress, say
    from merger.cli.pausing import pausing
    from merger.engine.folder import merge_to_folder, merge_to_nothing
    from merger.engine.team import Team

    team = Team.launched()
    if team.rank and out is not None:  # the first process does the talking
        merge_to_folder(models, out, team=team, **options)
        return
    for choice in models.choices.values():
        say(choice)
    doubts = _doubts(models)
    for doubt in doubts:
        say(f"warning: {doubt}")
    words = [*(word for word in sys.argv[1:] if word != "--resume"), "--resume"]
    kept = pausing(f"merger {shlex.join(words)}", "what is finished") if out else nullcontext()
    with kept, progress(f"merge ({models.plan.spec.method})", len(models.plan.steps)) as bar:
        options["progress"] = lambda step: bar.step(note=step.name if verbose else "")
        work = partial(merge_to_folder, out=out, team=team) if out else merge_to_nothing
        merged = work(models, **options)
    _report(models, merged, doubts, as_json=as_json)


def _doubts(models: Opened) -> list[str]:
    """Say which experts do not look like descendants of the base, from a sample of their rows."""
    from merger.geometry import lineage, measure

    base = models.plan.spec.base
    experts = {m: c for m, c in models.checkpoints.items() if m != base}
    if base is None or not experts:
        return []
    sampled = measure(models.checkpoints[base], experts, base_name=base, sample=_SAMPLE)
    return [verdict.text for verdict in lineage(sampled) if not verdict.ok]


def _report(models: Opened, merged: Merged, doubts: list[str], *, as_json: bool) -> None:
    from merger.cli.console import data, say
    from merger.plan.text import conservation, drops_text

    plan = models.plan
    if as_json:
        told = {"out": str(merged.out), "bytes": plan.nbytes, "inputs": dict(plan.fates)}
        told |= {"merged": len(plan.merged), "copied": len(plan.copied)}
        told |= {"dropped": [vars(d) for d in plan.dropped], "notes": merged.notes}
        found = {m: str(c.path) for m, c in models.checkpoints.items()}
        data(told | {"lineage": doubts, "models": found})
        return
    for line in (*drops_text(plan), *merged.notes):
        say(line)
    say(f"{conservation(plan)}, {plan.nbytes:,} bytes")
    say(str(merged.out))
