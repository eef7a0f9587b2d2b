"""The kinds of stages: one short function each, which checks its options and returns a job.

A new kind is a function here with `@kind("name")`; its keyword options, annotated, are what a
recipe may write, and `seed` is the recipe's unless the stage has its own. What is heavy is imported
when a job runs, so that checking a recipe is quick.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evals.suite import V0
from merger.engine import merge_to_folder, opened
from merger.registry import unknown
from merger.spec import spec_from_mapping
from recipes.job import Facts, Here, Job, kind
from recipes.needs import Needs, training_needs
from recipes.options import overlay
from recipes.rl.align import align as train
from recipes.rl.curve import tell
from recipes.rl.feed import is_file
from recipes.rl.settings import STAGE_A, STAGE_C, Settings, as_record, make_settings
from recipes.scoring import Questions, score
from recipes.story import write_story


@kind("coldstart")
def coldstart(*, seed: int, **settings: Any) -> Job:
    """Train the embedded family's base on solver-written traces."""
    from recipes.tiny.coldstart import train as teach
    from recipes.tiny.examples import Settings as Own

    chosen = overlay(Own(), {"seed": seed, **settings})

    def run(here: Here) -> Facts:
        if not here.out.exists():
            if not (here.partial / "coldstart.json").exists():  # written when training is over
                teach(here.partial, chosen, log=here.say)
            here.partial.replace(here.out)
        return {"steps": chosen.steps}

    w = chosen.width  # of 512 tokens, and blocks of four square and three wide matrices
    size = 513 * w + chosen.layers * (4 * w * w + 3 * w * chosen.hidden + 2 * w)
    needs = Needs(disk=4, scratch=12, memory=16)
    return Job((), asdict(chosen), run, model=".", needs=needs, parameters=size)


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
    chosen = make_settings(preset, {**settings, "task": task}, unseen=True)

    def run(here: Here) -> Facts:
        held = here.models[reference] if reference else None
        if not here.out.exists():
            train(here.models[model], here.out, chosen, reference=held, log=here.say)
        return tell(here.out)

    models = (model, reference) if reference else (model,)
    data = (task,) if is_file(task) else ()
    kept: dict[str, Any] = {"needs": training_needs(chosen), "data": data}
    return Job(models=models, record=as_record(chosen), run=run, model=".", **kept)


@kind("merge")
def merge(*, seed: int, **config: Any) -> Job:
    """Merge models; the options are a merge config as `merger merge` reads it."""
    spec = spec_from_mapping(config)

    def run(here: Here) -> Facts:
        if not here.out.exists():
            placed = spec_from_mapping(_placed(config, here))
            with opened(placed) as models:
                notes = merge_to_folder(models, here.out, resume=here.partial.exists())
            for note in notes:
                here.say(note)
        return {"method": spec.method}

    size = 2 if config.get("out_dtype", config.get("dtype")) in ("bfloat16", "float16") else 4
    return Job(models=spec.models, record=config, run=run, model=".", needs=Needs(disk=size))


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
    *, experts: list[str], tasks: list[str], seed: int, base: str = "base", **options: Any
) -> Job:
    """Search the weights of a merge, confirm the winner, and write the model that stands."""
    from search.ask import options_of
    from search.asked import Asked

    asked = Asked(experts=",".join(experts), tasks=",".join(tasks), base=base, seed=seed)
    asked = overlay(asked, options)
    # A recipe may be checked where its device is not: the device is looked for when the stage runs.
    chosen = replace(options_of(replace(asked, device="cpu")), device=asked.device)

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
    size, gpu = (4 if chosen.dtype in (None, "float32") else 2), chosen.device != "cpu"
    needs = Needs(disk=size, memory=size * (2 + len(experts)), gpu=gpu)  # experts, base, the model
    return Job(models=(base, *experts), record=record, run=run, model="model", needs=needs)


@kind("ablate")
def ablate(*, of: str, seed: int, sections: list[str] | None = None, quick: bool = False) -> Job:
    """Take a finished search apart: which expert gave what; its report is copied here."""
    from search.ablation import section_names

    names = section_names(",".join(sections) if sections else None)

    def run(here: Here) -> Facts:
        from search.ablation_run import ablate as taken_apart
        from search.asked import Wanted

        found = here.run / of
        taken_apart(found, Wanted(",".join(names), quick=quick, seed=seed), here.screen)
        here.out.mkdir(parents=True, exist_ok=True)
        for file in ("report.json", "report.md", "report.html"):
            shutil.copyfile(found / file, here.out / file)
        shutil.copytree(found / "figures", here.out / "figures", dirs_exist_ok=True)
        return {"sections": names}

    return Job(models=(), record={"sections": names, "quick": quick}, run=run, stages=(of,))


@kind("eval")
def evaluate(*, models: list[str], tasks: list[str], seed: int, **options: Any) -> Job:
    """Score models on tasks, the others paired with the first; writes scores.json."""
    asked = overlay(Questions(tasks=tuple(tasks), seed=seed), options)
    data = tuple(task.removeprefix(V0) for task in tasks if is_file(task))
    here = tuple(t for t in tasks if not is_file(t) or Path(t.removeprefix(V0)).exists())
    if here:
        replace(asked, tasks=here, n=5).entries()  # raises for names and levels that are not there
    for name in asked.oracle:
        if name not in models:
            raise unknown("model of an oracle", name, models)

    def run(here: Here) -> Facts:
        return score({name: here.models[name] for name in models}, asked, here)

    needs = Needs(memory=2 if (gpu := asked.device != "cpu") else 4, gpu=gpu)
    record = {**asdict(asked), "models": models}
    return Job(models=tuple(models), record=record, run=run, needs=needs, data=data)


@kind("report")
def report(*, seed: int) -> Job:
    """Tell the run: what each stage gave, in report.md and report.json."""

    def run(here: Here) -> Facts:
        return write_story(here)

    return Job(models=(), record={}, run=run, stages=None)
