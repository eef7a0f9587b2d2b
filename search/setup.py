"""Make a run folder, or open one: everything a search, a worker or an ablation stands on."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from evals.command import score_by_command
from merger.errors import MismatchError, UsageError
from search.ask import objective_of
from search.live import (
    Models,
    Survey,
    check_same,
    default_levels,
    find_models,
    fingerprints,
    guards_of,
    open_world,
    survey,
    tasks_of,
)
from search.prepare import plan
from search.protocol import Search
from search.run import Options, Run
from search.screen import Screen
from search.space import Space
from search.study import Study
from search.tasks import deal


def create(path: Path, options: Options, screen: Screen, *, allow_lineage: bool = False) -> Run:
    """Resolve the models, say which were chosen, and write the manifest of a new run."""
    plan(options, screen)
    models = find_models(options)
    for choice in models.choices:
        screen.say(choice)
    if options.objective_cmd:
        options = _ask_command(options, models, screen)
    elif not options.levels:
        options = replace(options, levels=default_levels(options))
        for task, levels in options.levels.items():
            screen.say(
                f"{task}: level {', '.join(map(str, levels))}, which the family was trained on"
            )
    found = survey(models)
    _check_lineage(found, screen, allowed=allow_lineage)
    options = replace(options, dtype=options.dtype or found.dtype)
    run = Run(path)
    facts = {
        "models": {n: str(folder) for n, folder in models.folders.items()},
        "fingerprints": found.fingerprints,
        "norms": found.norms,
        "lineage": list(found.doubts),
        "versions": {p: version(p) for p in ("merger", "torch", "transformers", "optuna")},
        "command": sys.argv,
    }
    run.create(options, facts)
    screen.say(f"run: {run.path} (seed {options.seed}, confirm seed {options.confirm_seed})")
    return run


def _check_lineage(found: Survey, screen: Screen, *, allowed: bool) -> None:
    """Refuse experts that do not descend from the base: their task vectors mean nothing."""
    for doubt in found.doubts:
        screen.say(f"lineage: {doubt}")
    if found.doubts and not allowed:
        raise MismatchError(
            f"{found.doubts[0]}", "Name the right base, or search anyway with --allow-lineage."
        )


def extend(run: Run, trials: int | None, seconds: float | None) -> None:
    """Give a run that is not frozen yet more trials or more time."""
    if trials is None and seconds is None:
        return
    if run.read("frozen.json") is not None:
        raise UsageError(f"{run.path}: its winner is frozen", "Begin another run for more trials.")
    options = run.options
    changed = replace(options, trials=trials or options.trials, seconds=seconds or options.seconds)
    run.note(options=changed.to_mapping())


def _ask_command(options: Options, models: Models, screen: Screen) -> Options:
    """Run the user's command once, on the base, to learn its items."""
    screen.say(f"objective: {options.objective_cmd} is run on {options.base} for its items")
    rows = score_by_command(options.objective_cmd or "", models.folders[options.base])
    found = replace(options, command_items=tuple(row.item for row in rows))
    task = tasks_of(found)[0]
    deal(task.items, options.sizes, "the command's output")
    return found


def open_search(run: Run, screen: Screen, *, worker: str = "") -> Search:
    """Open models, items, ledger and study of a run; refuse models that have changed."""
    models = find_models(run.options)
    check_same(run.manifest["fingerprints"], fingerprints(models), run)
    return _opened(run, models, screen, worker)


def _opened(run: Run, models: Models, screen: Screen, worker: str) -> Search:
    options = run.options
    objective = objective_of(options.objective, [one.task for one in tasks_of(options)])

    def study(name: str, space: Space, trials: int) -> Study:
        return Study(
            run.storage,
            space,
            directions=objective.directions,
            sampler=options.sampler,
            trials=trials,
            seed=options.seed,
            worker=worker,
            name=name,
        )

    world = open_world(run, models)
    search = Search(run, world, study, objective, screen, run.manifest["norms"])
    search.guards = guards_of(options, world)
    return search
