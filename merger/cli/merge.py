"""merger merge, explain, extract-lora: models from a config or from flags, and back to an adapter.

The work is done by merger/api/merge.py; here words become a spec, and what was made a text.
"""

import gc
import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.api.limits import Least
from merger.api.merge import merge as merge_by_call
from merger.cli.app import pausing
from merger.cli.options import Family, Json, Verbose, command, taken
from merger.errors import UsageError

if TYPE_CHECKING:
    from merger.spec import MergeSpec

# New objects between two looks for garbage: torch brings a million that stay, and to look among
# them every 700 takes a seventh of its loading.
_GARBAGE = 100_000


def spec_of(
    config: "str | None",
    *,
    method: str | None = None,
    base: str | None = None,
    expert: Annotated[list[str] | None, typer.Option(metavar="NAME=W")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KNOB=VALUE")] = None,
    dtype: str | None = None,
    vocab: str = "error",
    seed: int | None = None,
) -> "MergeSpec":
    """Build the spec from a config file or from flags; --dtype, --seed, --vocab hold for both.

    Args:
        config: a merge config, or None where `method` is given.
        method: Operator, instead of a config file.
        base: Model the experts started from.
        expert: A model, its weight.
        settings: A knob; NAME.KNOB=VALUE for one expert.
        dtype: Dtype to write: bf16, fp16, fp32.
        vocab: Tokenizers that differ: error, base (by token) or union.
        seed: Seed of operators that draw at random.
    """
    from dataclasses import replace

    from merger.spec import load_spec, spec_from_mapping
    from merger.spec.parse import dtype_of

    if config is None:
        spec = _spec_of_flags(method or "", base, expert or [], settings or [])
    else:
        own = {"--base": base, "--expert": expert, "--set": settings}
        if given := [name for name, value in own.items() if value]:
            law = f"{config} and {', '.join(given)} are given together"
            raise UsageError(law, "Change the config, or use --method instead of it.")
        spec = load_spec(config)
    if vocab not in ("error", "base", "union"):
        raise UsageError(f"--vocab is {vocab!r}", "One of error, base, union.")
    told = spec.to_mapping()
    if vocab != "error":
        told.pop("tokenizer", None)
        told["tokenizer_source"] = vocab
    if seed is not None and "seed" in spec.operator.knobs:
        told["parameters"] = (told.get("parameters") or {}) | {"seed": seed}
    if dtype:
        told["out_dtype"] = dtype_of(dtype, "--dtype")
    return replace(spec_from_mapping(told), notes=spec.notes, provenance=spec.provenance)


def _spec_of_flags(
    method: str, base: str | None, experts: list[str], settings: list[str]
) -> "MergeSpec":
    """Build a spec without a file; values are read as YAML, so that a list is a gradient."""
    from merger.lines import read_setting
    from merger.spec import merge_spec

    models: dict[str, dict[str, Any]] = {}
    for given in experts:
        name, found, weight = given.rpartition("=")
        if (name := name if found else given) in models:
            raise UsageError(f"--expert names {name} twice", "Give each expert once.")
        try:
            models[name] = {"weight": float(weight)} if found else {}
        except ValueError as error:
            law = f"--expert is {given!r}, and {weight!r} is no number"
            raise UsageError(law, "Write --expert NAME=WEIGHT.") from error
    shared: dict[str, Any] = {}
    for given in settings:
        name, value = read_setting(given)
        owner, _, knob = name.rpartition(".")
        if owner and owner not in models:
            known = ", ".join(models) or "none"
            raise UsageError(f"--set speaks of {owner!r}", f"Experts given: {known}.")
        (models[owner] if owner else shared)[knob] = value
    return merge_spec(method, models, base=base, knobs=shared)


@command("merge", spec_of, merge_by_call)
def merge(
    places: Annotated[list[str] | None, typer.Argument(metavar="[CONFIG.yaml] OUT")] = None,
    *,
    dry_run: bool = False,
    discard: bool = False,
    verbose: Verbose = False,
    as_json: Json = False,
    **asked: Any,
) -> None:
    """Merge models into a new folder: from a config, or by --method, --base and --expert.

    Example: merger merge config.yaml merged

    Without a file: merger merge --method linear --expert ded=1 --expert ind=0.2 merged

    Args:
        places: A merge config (mergekit YAML), a new folder.
        dry_run: Show the plan, write nothing.
        discard: Merge, and keep nothing: no OUT.
        verbose: Name every tensor.
    """
    from merger.cli.console import data, say
    from merger.cli.screen import Terminal
    from merger.plan import plan_document
    from merger.plan.text import conservation, drops_text

    config, out = _places(places or [], asked["method"], optional=dry_run or discard)
    gc.set_threshold(_GARBAGE)
    spec = spec_of(config, **taken(spec_of, asked))
    if dry_run:
        shown = {name: asked[name] for name in ("memory", "family", "device")}
        _show(spec, as_json=as_json, **shown)
        return
    words = [*(word for word in sys.argv[1:] if word != "--resume"), "--resume"]
    kept = nullcontext() if discard else pausing(f"merger {shlex.join(words)}", "what is finished")
    with kept:
        made = merge_by_call(
            spec, None if discard else out, screen=Terminal(every=verbose), **asked
        )
    plan = made.plan
    if os.environ.get("RANK", "0") != "0":  # of several processes, the first one tells
        return
    if as_json:
        told = {key: value for key, value in plan_document(plan).items() if key != "steps"}
        told |= {"out": str(made.out), "notes": made.notes}
        data(told | {"lineage": made.lineage, "models": made.models})
        return
    for line in (*drops_text(plan), *made.notes):
        say(line)
    say(f"{conservation(plan)}, {plan.nbytes:,} bytes")
    say(str(made.out))


def _places(
    places: list[str], method: str | None, *, optional: bool
) -> tuple[str | None, Path | None]:
    """Tell the config from the output: with --method there is no config."""
    wanted = 1 if method else 2
    if not wanted - optional <= len(places) <= wanted:
        asked = "OUT" if method else "CONFIG.yaml OUT"
        given = " ".join(places) or "nothing"
        raise UsageError(f"the command takes {asked}, and {given} is given", "merger merge --help")
    return None if method else places[0], Path(places[-1]) if len(places) == wanted else None


@command("explain", spec_of)
def explain(
    config: Annotated[str | None, typer.Argument()] = None,
    *,
    memory: str | None = None,
    family: Family = None,
    device: str = "cpu",
    as_json: Json = False,
    **asked: Any,
) -> None:
    """Show every output tensor with its operator, resolved knobs, dtype, bytes; and the cost.

    Example: merger explain config.yaml

    Args:
        config: A merge config (mergekit YAML).
        memory: Memory the whole process may hold (1GB).
        device: Where the arithmetic runs: cpu, cuda.
    """
    if (config is None) == (asked["method"] is None):
        raise UsageError("give either a config or --method", "merger explain --help")
    _show(spec_of(config, **asked), memory, family, device, as_json=as_json)


def _show(
    spec: "MergeSpec", memory: str | None, family: str | None, device: str, *, as_json: bool
) -> None:
    """Print a plan: table and totals for people, or one JSON document."""
    from merger.api.merge import places, size
    from merger.cli.console import data, out, say, table
    from merger.engine import Budget, opened
    from merger.engine.budget import step_bytes
    from merger.engine.run import straight_steps
    from merger.plan import plan_document
    from merger.plan.text import bytes_text, conservation, drops_text, plan_table, shared_text

    limit = size(memory, "--memory") if memory is not None else None
    with opened(spec, family=family) as models:
        plan = models.plan
        straight = len(straight_steps(plan, models.checkpoints, device)) == len(plan.steps)
        peak = Budget.of(limit, plan, device=device, straight=straight).peak(plan)
        # At a disk's 1 GB/s: every input read, the output written once.
        seconds = (sum(map(step_bytes, plan.steps)) + plan.nbytes) / 1e9
        if as_json:
            cost = {"peak_memory": peak, "seconds": seconds}
            data(plan_document(plan) | {"models": places(models)} | cost)
            return
        for choice in models.choices.values():
            say(choice)
        table(shared_text(plan), *plan_table(plan))
        for line in (*drops_text(plan), *plan.notes):
            out(line)
        out(f"{conservation(plan)}, {bytes_text(plan.nbytes)} to write")
        cost_text = f"about {max(1, round(seconds))} s where a disk moves 1 GB/s"
        out(f"{cost_text}; peak memory {bytes_text(peak)}")


@command("extract-lora")
def extract(
    base: str,
    model: str,
    out: Path,
    *,
    rank: Annotated[int, Least(1)] = 32,
    family: Family = None,
    force: bool = False,
    as_json: Json = False,
) -> None:
    """Extract a LoRA adapter that `merger` and PEFT read; say how much of the change it keeps.

    Example: merger extract-lora base ded ded-lora --rank 16

    Args:
        base: The base: folder, alias or Hub id.
        model: A model trained from it.
        out: A new folder.
        rank: Rank of the factors at most.
        force: Replace an existing adapter.
    """
    from merger.checkpoint import open_checkpoint
    from merger.checkpoint.place import check_apart, check_place
    from merger.cli.console import data, progress, say
    from merger.engine.extract import extract_lora, save_adapter
    from merger.experts import resolve
    from merger.provenance import hub_id

    for note in check_place(out, force=force, resume=True):
        say(note)
    places = [resolve(name, family=family) for name in (base, model)]
    check_apart(out, (place.path for place in places))
    ground, trained = (open_checkpoint(place.path) for place in places)
    with progress("extract-lora", len(ground.tensors)) as bar:
        made = extract_lora(ground, trained, rank, progress=lambda name: bar.step(1, name[-24:]))
    # PEFT knows no aliases, and no id@revision.
    found = hub_id(places[0].path).partition("@")[0] or str(places[0].path.absolute())
    save_adapter(made, out, found, force=force)
    kept = made.kept / made.change if made.change else 1.0
    if as_json:
        data({"out": str(out), "ranks": made.ranks, "kept": kept, "whole": made.whole})
        return
    for place in places:
        say(place.choice)
    share = f"{len(made.ranks)} matrices at rank {rank} keep {kept:.2%} of the squared change"
    say(f"{out}: {share}; {len(made.whole)} tensors saved whole")
