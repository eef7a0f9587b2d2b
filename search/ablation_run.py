"""An ablation from a folder to a report: of a finished search, or of a merge config alone.

A config gets a run folder of its own, made like a search's (models checked, items drawn, A/A noise
and speed measured) but without trials. What was paid for stays in the folder's ledger, so a
stopped ablation continues where it was, and more sections later cost only what they add.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from merger.engine import opened
from merger.engine.budget import Budget, resident_bytes
from merger.errors import OutputError, SearchError, UsageError
from merger.geometry import Geometry, measure
from merger.geometry.sums import Sums, flat_sums
from merger.screen import Screen, clock
from merger.spec import load_spec, spec_from_mapping
from search.ablation import Ablation, Cost, Facts, affordable, section_names
from search.ablation_items import read_curve
from search.ask import at_least, options_of, short_names
from search.asked import Asked, Wanted
from search.candidate import BASE, Candidate
from search.likelihood import Likelihood
from search.prepare import prepare
from search.protocol import Search
from search.report import method_facts, write
from search.run import Run
from search.scorers import Scorer
from search.setup import create, open_search
from search.starts import references
from search.variant import AT_BASE, Merge, Variant

READING = 0.2  # of the time of an answer that reading one takes


def ablate(place: Path, wanted: Wanted, screen: Screen) -> dict[str, Any]:
    """Take the winner of a run, or a config, apart; return the report, or the plan if that is all.

    Raises:
        SearchError: the folder holds no search that has ended, or not 2 to 8 experts.
        UsageError: the config is no merge of whole models on one base.
    """
    names, logs = section_names(wanted.sections), _logs(wanted.log or ())
    at_least(0, max_evals=wanted.max_evals, samples=wanted.samples, margin=wanted.margin)
    at_least(1, items=wanted.items)
    folder = wanted.folder(place)
    run = Run(folder) if folder == place else run_of_config(place, folder, wanted, screen)
    merge, experts = _winner(run), run.options.experts
    if not 2 <= len(experts) <= 8:
        law = f"{len(experts)} experts ({', '.join(experts)})"
        raise SearchError(law, "An ablation takes 2 to 8 experts.")
    if wanted.device and wanted.device != run.options.device:
        run.note(options=replace(run.options, device=wanted.device).to_mapping())
    search = open_search(run, screen)
    search.world.pools.sealed.clear()
    parts = _opened(search, merge, wanted, logs)
    kept = affordable(parts, names, wanted.max_evals)
    for name in names:
        if name not in kept:
            screen.say(f"{name}: left out, --max-evals is {wanted.max_evals}")
    planned = _announce(search, parts, kept)
    if wanted.plan:
        return {"run": run.path.name, "plan": planned}
    _pay(search, parts, kept)
    return write(run, search.world, search.objective, {name: parts.section(name) for name in kept})


def run_of_config(config: Path, folder: Path, wanted: Wanted, screen: Screen) -> Run:
    """Make a run folder for a merge config; one that is there for the same config is opened."""
    spec = load_spec(config)
    base = spec.base or (wanted.base if wanted.base != "base" else None)
    if not spec.experts or base is None:
        law = f"{config} " + ("names no base" if spec.experts else "is made of parts")
        raise UsageError(law, "An ablation takes whole models: name the base with --base.")
    told, models = spec.to_mapping(), [e.model for e in spec.experts if e.model != base]
    _, *names = short_names((base, *models))
    short = {base: AT_BASE} | dict(zip(models, names, strict=True))
    told["models"] = [m | {"model": short[m["model"]]} for m in told["models"]]
    stated, run = {"label": config.stem, "config": json.dumps(told)}, Run(folder)
    if run.read("manifest.json") is not None:
        if run.manifest.get("merge") != stated:
            raise OutputError(f"{folder} holds another run", "Name a new folder with --out.")
        return run
    alike = ("family", "tasks", "include_path", "levels", "seed")
    asked = Asked(
        experts=",".join(models),
        base=base,
        warm="none",
        items=f"{wanted.items}+1+{wanted.items}",  # nothing is selected
        device=wanted.device or "cpu",
        allow_benchmark=True,
        **{name: getattr(wanted, name) for name in alike},
    )
    # What a merge takes with a warning may be explained with one.
    return create(folder, options_of(asked), screen, allow_lineage=True, merge=stated)


def _winner(run: Run) -> Merge:
    """Return the merge that is taken apart: the config's, or the one that stands."""
    if stated := run.manifest.get("merge"):
        return Variant(**stated)
    confirmed = run.read("confirm.json")
    if confirmed is None:
        law = f"{run.path} has no confirm.json: its search has not ended"
        raise SearchError(law, f"merger search --resume {run.path}")
    return Candidate.from_mapping(confirmed["winner"])


def _opened(
    search: Search, merge: Merge, wanted: Wanted, logs: Mapping[str, list[list[float]]]
) -> Ablation:
    run, world, experts = search.run, search.world, search.options.experts
    of_search = isinstance(merge, Candidate)
    if not run.manifest.get("prepared"):
        reference = next(iter(references(experts).values()))
        run.note(prepared=prepare(world, search.options, reference, search.screen))
    with search.models.opened() as models:
        tensors = tuple(models[search.options.base].tensors)
    facts = Facts(
        trials=search.study.trials() if of_search else (),
        geometry=partial(_geometry, search),
        change=partial(_change, search),
        tensors=tensors,
        logs=logs,
        run=method_facts(run, world, search.study.sampler_name if of_search else ""),
    )
    ours = not any(isinstance(t, Scorer) for t in world.tasks)
    read = Likelihood(world, experts, run) if ours else None
    return Ablation(world, merge, experts, search.objective, wanted, facts, read)


def _geometry(search: Search) -> Geometry:
    """Measure the experts against the base, layer by layer."""
    base = search.options.base
    with search.models.opened() as models:
        return measure(models[base], {n: models[n] for n in search.options.experts}, base_name=base)


def _change(search: Search, merge: Merge) -> dict[str, Any]:
    """Return what a merge costs and what a cast to bfloat16 leaves of its change.

    `seconds` in the live model, what was surveyed known; `megabytes` that a merge from files takes
    beyond what the process holds.
    """
    world, options = search.world, search.options
    for held in (merge, BASE):  # what the merge surveys is kept
        world.holder.hold(held)
    begin = time.perf_counter()
    world.holder.hold(merge)
    spent, sums, live = time.perf_counter() - begin, Sums.zero(1), world.answerer.model.state_dict()
    with search.models.opened() as models:
        ground = models[options.base]
        for name, info in ground.tensors.items():
            if info.is_float and name in live:
                made = live[name][: info.shape[0]].float().cpu().numpy().ravel()
                sums += flat_sums(ground.floats(name, 0, info.numel), [made])
    with opened(spec_from_mapping(search.models.config(merge, options.dtype))) as found:
        taken = Budget.of(None, found.plan).peak(found.plan) - resident_bytes()
    told = {key: sums.figures()[key][0] for key in ("relative", "bf16_survive", "bf16_error")}
    return {"seconds": spent, "megabytes": taken / 1e6} | told


def _announce(search: Search, parts: Ablation, names: Sequence[str]) -> dict[str, Any]:
    """Say what each section still costs, and all of them together."""
    pace, say = search.run.manifest["prepared"]["seconds_per_answer"], search.screen.say
    planned = {}
    before = Cost(0, 0, 0)
    for i, name in enumerate(names, 1):
        after = parts.cost(names[:i])
        adds = [now - then for now, then in zip(after, before, strict=True)]
        before = after
        of = len({n.merge.key for n in parts.needs([name])})
        planned[name] = dict(zip(("merges", "answers", "readings"), adds, strict=True))
        if parts.wanted.plan:
            told = f"{name:<16} {adds[0]:>4} new of {of:>3} merges, {adds[1]:>6} answers, "
            say(f"{told}{adds[2]:>5} readings")
    merges, answers, readings = before
    say(
        f"Cost: at most {merges} merges, {answers} answers, {readings} readings: about "
        f"{clock((answers + READING * readings) * pace)}."
    )
    return planned


def _pay(search: Search, parts: Ablation, names: Sequence[str]) -> None:
    """Score what is missing, with progress."""
    cost, world = parts.cost(names), search.world
    if not cost.answers + cost.readings:
        return
    with search.screen.progress("ablate", cost.answers + cost.readings) as steps:
        for need in parts.needs(names):
            if missing := parts.missing(need):
                about = need.merge.describe()
                world.ledger.name(world.fingerprint(need.merge), about)
                parts.answers(need)
                steps.step(missing, about)


def _logs(texts: Sequence[str]) -> dict[str, list[list[float]]]:
    """Read the curves of NAME=curve.jsonl, with commas between the seeds of one start."""
    table = {}
    for text in texts:
        name, found, paths = text.partition("=")
        if not found or not paths:
            raise UsageError(f"--log is {text!r}", "Write --log NAME=curve.jsonl.")
        table[name] = [read_curve(Path(path)) for path in paths.split(",")]
    return table
