"""The kinds of stages: one short function each, which checks its options and returns a job.

A new kind is a function here with `@kind("name")`; its keyword options, annotated, are what a
recipe may write, and `seed` is the recipe's unless the stage has its own. What is heavy is imported
when a job runs, so that checking a recipe is quick.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from evals.task import get_task
from merger.engine import merge_to_folder, opened
from merger.spec import spec_from_mapping
from recipes.job import Facts, Here, Job, kind
from recipes.rl.align import align as train
from recipes.rl.settings import STAGE_A, STAGE_C, Settings, as_record, make_settings, overlay
from recipes.rl.source import is_file, open_source
from recipes.scoring import Questions, score
from recipes.story import tell, write_story


@kind("coldstart")
def coldstart(*, seed: int, **settings: Any) -> Job:
    """Train the embedded family's base on solver-written traces."""
    from recipes.tiny.coldstart import train as teach
    from recipes.tiny.phases import Settings as Own

    chosen = overlay(Own(), {"seed": seed, **settings})

    def run(here: Here) -> Facts:
        if not here.out.exists():
            if not (here.partial / "coldstart.json").exists():  # written when training is over
                teach(here.partial, chosen, log=here.say)
            here.partial.replace(here.out)
        return {"steps": chosen.steps}

    return Job(models=(), record=asdict(chosen), run=run, model=".")


@kind("align")
def align(*, model: str, task: str, reference: str | None = None, **settings: Any) -> Job:
    """Align a model to one task (Stage A): REINFORCE++ with the paper's settings, unless told."""
    return _trained(STAGE_A, model, task, reference, settings)


@kind("domain")
def domain(*, model: str, task: str, reference: str | None = None, **settings: Any) -> Job:
    """Continue in a domain (Stage C): GRPO with SimpleRL-Zoo's settings, unless told."""
    return _trained(STAGE_C, model, task, reference, settings)


def _trained(
    preset: Settings, model: str, task: str, reference: str | None, settings: Mapping[str, Any]
) -> Job:
    name = task if is_file(task) else get_task(task).name
    chosen = make_settings(preset, {**settings, "task": name})
    open_source(chosen)

    def run(here: Here) -> Facts:
        held = here.models[reference] if reference else None
        if not here.out.exists():
            train(here.models[model], here.out, chosen, reference=held, log=here.say)
        return tell(here.out)

    models = (model, reference) if reference else (model,)
    return Job(models=models, record=as_record(chosen), run=run, model=".")


@kind("merge")
def merge(*, seed: int, **config: Any) -> Job:
    """Merge models; the options are a merge config as `merger merge` reads it."""
    spec = spec_from_mapping(config)

    def run(here: Here) -> Facts:
        if not here.out.exists():
            placed = spec_from_mapping(_placed(config, here))
            with opened(placed) as models:
                notes = merge_to_folder(models, here.out, resume=here.partial.exists()).notes
            for note in notes:
                here.say(note)
        return {"method": spec.method}

    return Job(models=spec.models, record=config, run=run, model=".")


def _placed(part: Any, here: Here) -> Any:
    """Return a config with folders in place of the names of its models."""
    if isinstance(part, list):
        return [_placed(one, here) for one in part]
    if not isinstance(part, dict):
        return part
    names = ("model", "base_model")
    return {
        key: str(here.models[value]) if key in names and value else _placed(value, here)
        for key, value in part.items()
    }


@kind("search")
def search(
    *,
    experts: list[str],
    tasks: list[str],
    seed: int,
    base: str = "base",
    levels: str | int | None = None,
    items: str = "100+200",
    trials: int | None = None,
    time: str | None = None,
    objective: str = "mean",
    sampler: str = "auto",
    racing: str = "sign",
    prefer: str = "simple",
    dtype: str | None = None,
    device: str = "cpu",
    max_new_tokens: int | None = None,
) -> Job:
    """Search the weights of a merge, confirm the winner, and write the model that stands."""
    options = dict(locals()) | {"experts": ",".join(experts), "tasks": ",".join(tasks)}
    options["levels"] = None if levels is None else str(levels)
    from search.ask import Asked, options_of

    chosen = options_of(Asked(**options))

    def run(here: Here) -> Facts:
        from search.report import search_report
        from search.run import Run
        from search.setup import create, open_search
        from search.winner import save_model, write_winner

        found = Run(here.out)
        if found.read("manifest.json") is None:
            placed = {name: str(here.models[name]) for name in (base, *experts)}
            create(here.out, replace(chosen, sources=placed, store=here.ledger), here.screen)
        opened_search = open_search(found, here.screen)
        document = opened_search.go()
        write_winner(opened_search, document)
        search_report(opened_search, document)
        shutil.rmtree(here.out / "model.partial", ignore_errors=True)
        if not (here.out / "model").exists():
            save_model(opened_search, document, here.out / "model")
        kept = ("verdict", "words", "kept", "winner", "confirm")
        return {key: document[key] for key in kept}

    record = {k: v for k, v in chosen.to_mapping().items() if k not in ("store", "sources")}
    return Job(models=(base, *experts), record=record, run=run, model="model")


@kind("ablate")
def ablate(*, of: str, seed: int, sections: list[str] | None = None) -> Job:
    """Take a finished search apart: which expert gave what; its report is copied here."""
    from search.ablation import Ablation, section_names

    names = section_names(",".join(sections) if sections else None)

    def run(here: Here) -> Facts:
        from search.candidate import Candidate
        from search.report import write
        from search.run import Run
        from search.setup import open_search

        found = Run(here.run / of)
        opened_search = open_search(found, here.screen)
        opened_search.world.pools.sealed.clear()
        winner = Candidate.from_mapping(found.read("confirm.json")["winner"])
        options, objective = opened_search.options, opened_search.objective
        parts = Ablation(opened_search.world, winner, options.experts, objective)
        write(found, opened_search, {name: parts.section(name) for name in names})
        here.out.mkdir(parents=True, exist_ok=True)
        for file in ("report.json", "report.md"):
            shutil.copyfile(found.path / file, here.out / file)
        return {"sections": names}

    return Job(models=(), record={"sections": names}, run=run, stages=(of,))


@kind("eval")
def evaluate(
    *,
    models: list[str],
    tasks: list[str],
    seed: int,
    split: str = "test",
    n: int | None = None,
    levels: str | int | None = None,
    samples: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int | None = None,
    device: str = "cpu",
) -> Job:
    """Score models on tasks, the others paired with the first; writes scores.json."""
    asked = Questions(
        tasks=tuple(tasks),
        split=split,
        n=n,
        levels=None if levels is None else str(levels),
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        device=device,
        seed=seed,
    )
    replace(asked, n=5).entries()  # raises for names and levels that are not there

    def run(here: Here) -> Facts:
        return score({name: here.models[name] for name in models}, asked, here)

    return Job(models=tuple(models), record={**asdict(asked), "models": models}, run=run)


@kind("report")
def report(*, seed: int) -> Job:
    """Tell the run: what each stage gave, in report.md and report.json."""

    def run(here: Here) -> Facts:
        return write_story(here)

    return Job(models=(), record={}, run=run, stages=None)
