"""An ablation from a folder to a report: of a finished search, or of a merge config alone.

A config gets a run folder of its own, made like a search's (models checked, items drawn, A/A noise
and speed measured) but without trials. What was paid for stays in the folder's ledger, so a
stopped ablation continues where it was, and more sections later cost only what they add.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from merger.checkpoint import open_checkpoint
from merger.errors import OutputError, SearchError, UsageError
from merger.geometry import measure
from merger.spec import load_spec
from search.ablation import (
    FULL,
    QUICK,
    Ablation,
    Facts,
    affordable,
    check_experts,
    section_names,
)
from search.ask import options_of, short_names
from search.asked import Asked
from search.candidate import Candidate
from search.likelihood import Likelihood
from search.live import find_models
from search.prepare import clock, prepare
from search.protocol import Search
from search.report import method_facts, write
from search.run import Run
from search.scorers import Scorer
from search.screen import Screen
from search.setup import create, open_search
from search.starts import references
from search.variant import AT_BASE, Merge, Variant

READING = 0.2  # of the time of an answer that reading one takes


@dataclass(frozen=True)
class Wanted:
    """What is asked of an ablation; `margin` in points, `logs` as NAME=curve.jsonl[,…]."""

    sections: str | None = None
    quick: bool = False
    samples: int | None = None
    temperature: float = 0.7
    margin: float = 2.0
    max_evals: int | None = None
    plan: bool = False
    seed: int = 0
    device: str | None = None
    logs: Sequence[str] = field(default_factory=tuple)


def ablate(folder: Path, wanted: Wanted, screen: Screen) -> dict[str, Any]:
    """Take the winner of a run apart; return the report, or the plan where that is asked for."""
    names, logs = section_names(wanted.sections), _logs(wanted.logs)
    run = Run(folder)
    merge, experts = _winner(run), run.options.experts
    check_experts(experts)
    if wanted.device and wanted.device != run.options.device:
        run.note(options=replace(run.options, device=wanted.device).to_mapping())
    search = open_search(run, screen)
    search.world.pools.sealed.clear()
    parts = _opened(search, merge, wanted, logs)
    kept = affordable(parts, names, wanted.max_evals)
    for name in names:
        if name not in kept:
            screen.say(f"{name}: left out, --max-evals is {wanted.max_evals}")
    planned = _announce(search, parts, kept, everything=wanted.plan)
    if wanted.plan:
        return {"run": run.path.name, "plan": planned}
    _pay(search, parts, kept)
    return write(run, search.world, search.objective, {name: parts.section(name) for name in kept})


def run_of_config(config: Path, folder: Path, asked: Asked, screen: Screen) -> Run:
    """Make a run folder for a merge config; one that is there for the same config is opened."""
    spec = load_spec(config)
    base = spec.base or (asked.base if asked.base != "base" else None)
    if spec.parts or base is None:
        law = f"{config} " + ("is made of parts" if spec.parts else "names no base")
        raise UsageError(law, "An ablation takes whole models: name the base with --base.")
    told, models = spec.to_mapping(), [e.model for e in spec.experts if e.model != base]
    sources = short_names((base, *models))
    short = dict(zip((base, *models), (AT_BASE, *list(sources)[1:]), strict=True))
    told["models"] = [m | {"model": short[m["model"]]} for m in told["models"]]
    stated = {"label": config.stem, "config": json.dumps(told)}
    run = Run(folder)
    if run.read("manifest.json") is not None:
        if run.manifest.get("merge") != stated:
            raise OutputError(f"{folder} holds another run", "Name a new folder with --out.")
        return run
    asked = replace(asked, experts=",".join(models), base=base, warm="none")
    run = create(folder, options_of(asked), screen)
    run.note(merge=stated)
    return run


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
    search: Search, merge: Merge, wanted: Wanted, logs: Mapping[str, list[str]]
) -> Ablation:
    run, experts = search.run, search.options.experts
    of_search = isinstance(merge, Candidate)
    if not run.manifest.get("prepared"):
        reference = next(iter(references(experts).values()))
        run.note(prepared=prepare(search.world, search.options, reference, search.screen))
    models = find_models(search.options)
    base = open_checkpoint(models.folders[search.options.base])
    effort = QUICK if wanted.quick else FULL
    facts = Facts(
        trials=search.study.trials() if of_search else (),
        geometry=partial(_geometry, search),
        tensors=tuple(base.tensors),
        logs=logs,
        run=method_facts(run, search.world, search.study.sampler_name if of_search else ""),
    )
    base.close()
    ours = not any(isinstance(t, Scorer) for t in search.world.tasks)
    return Ablation(
        search.world,
        merge,
        experts,
        search.objective,
        replace(effort, samples=wanted.samples),
        margin=wanted.margin / 100,
        temperature=wanted.temperature,
        seed=wanted.seed,
        facts=facts,
        likelihoods=Likelihood(search.world, experts, run) if ours else None,
    )


def _geometry(search: Search) -> Any:
    """Measure the experts against the base, layer by layer."""
    models, o = find_models(search.options), search.options
    opened = {name: open_checkpoint(models.folders[name]) for name in (o.base, *o.experts)}
    try:
        experts = {name: opened[name] for name in o.experts}
        return measure(opened[o.base], experts, base_name=o.base)
    finally:
        for checkpoint in opened.values():
            checkpoint.close()


def _announce(
    search: Search, parts: Ablation, names: Sequence[str], *, everything: bool
) -> dict[str, Any]:
    """Say what each section still costs, and all of them together."""
    pace = search.run.manifest["prepared"]["seconds_per_answer"]
    planned = {}
    for i, name in enumerate(names):
        before, after = parts.cost(names[:i]), parts.cost(names[: i + 1])
        adds = [now - then for now, then in zip(after, before, strict=True)]
        of = {n.merge.key for n in parts.needs([name])}
        planned[name] = {"merges": adds[0], "answers": adds[1], "readings": adds[2]}
        if everything:
            search.screen.say(f"{name:<16} {adds[0]:>4} new of {len(of):>3} merges, "
                              f"{adds[1]:>6} answers, {adds[2]:>5} readings")  # fmt: skip
    merges, answers, readings = parts.cost(names)
    search.screen.say(
        f"Cost: {merges} merges, {answers} answers, {readings} readings: about "
        f"{clock((answers + READING * readings) * pace)}; all else is in the ledger."
    )
    return planned


def _pay(search: Search, parts: Ablation, names: Sequence[str]) -> None:
    """Score what is missing, with progress."""
    cost = parts.cost(names)
    if not cost.answers + cost.readings:
        return
    with search.screen.progress("ablate", cost.answers + cost.readings) as steps:
        for need in parts.needs(names):
            if missing := parts.missing(need):
                about = need.merge.describe()
                search.world.ledger.name(search.world.fingerprint(need.merge), about)
                parts.answers(need)
                steps.step(missing, about)


def _logs(texts: Sequence[str]) -> dict[str, list[str]]:
    """Read NAME=curve.jsonl, with commas between the seeds of one start."""
    table = {}
    for text in texts:
        name, found, paths = text.partition("=")
        if not found or not paths:
            raise UsageError(f"--log is {text!r}", "Write --log NAME=curve.jsonl.")
        table[name] = paths.split(",")
    return table
