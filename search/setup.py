"""Make a run folder, or open one: everything a search, a worker or an ablation stands on.

The manifest names models by the fingerprint of their weights: a run that is opened again, by
whichever command, either finds the same weights or says which have changed. Experts that do not
look like children of the base stop a search before it costs anything.
"""

import secrets
import sys
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from evals.command import score_by_command
from merger.errors import MismatchError, SearchError, UsageError
from merger.screen import Screen
from search import live
from search.ask import at_least, objective_of
from search.prepare import plan
from search.protocol import Search
from search.run import Options, Run
from search.scorers import deal
from search.study import Study


def create(
    path: Path,
    options: Options,
    screen: Screen,
    *,
    allow_lineage: bool = False,
    merge: dict[str, str] | None = None,
) -> Run:
    """Resolve the models, say which were chosen, and write the manifest of a new run.

    With `merge`, a config that is to be taken apart, the run makes no trials.
    """
    run = Run(path)
    run.check_free()  # said now, not when all models are read
    if merge is None:
        plan(options, screen)
    models = live.find_models(options)
    for choice in models.choices:
        screen.say(choice)
    if options.objective_cmd:
        options = _ask_command(options, models, screen)
    elif not options.levels:
        options = replace(options, levels=live.default_levels(options))
        for task, levels in options.levels.items():
            screen.say(
                f"{task}: level {', '.join(map(str, levels))}, which the family was trained on"
            )
    norms, doubts, dtype = live.survey(models)
    for doubt in doubts:
        screen.say(f"lineage: {doubt}")
    if doubts and not allow_lineage:
        remedy = "Name the right base, or search anyway with --allow-lineage."
        raise MismatchError(doubts[0], remedy)
    options = replace(options, dtype=options.dtype or dtype)
    facts = {
        "models": {n: str(folder) for n, folder in models.folders.items()},
        "fingerprints": models.fingerprints(),
        "norms": norms,
        "lineage": doubts,
        "study": f"{run.path.name} {secrets.token_hex(3)}",  # several runs may share a database
        "versions": {p: version(p) for p in ("merger", "torch", "transformers", "optuna")},
        "command": sys.argv,
    }
    run.create(options, facts if merge is None else facts | {"merge": merge})
    screen.say(f"run: {run.path} (seed {options.seed}, confirm seed {options.confirm_seed})")
    return run


def extend(run: Run, trials: int | None, seconds: float | None) -> None:
    """Give a run that is not frozen yet more trials or more time."""
    at_least(1, trials=trials)
    if trials is None and seconds is None:
        return
    if run.read("frozen.json") is not None:
        raise UsageError(f"{run.path}: its winner is frozen", "Begin another run for more trials.")
    options = run.options
    changed = replace(options, trials=trials or options.trials, seconds=seconds or options.seconds)
    run.note(options=changed.to_mapping())


def _ask_command(options: Options, models: live.Models, screen: Screen) -> Options:
    """Run the user's command once, on the base, to learn its items."""
    screen.say(f"objective: {options.objective_cmd} is run on {options.base} for its items")
    rows = score_by_command(options.objective_cmd or "", models.folders[options.base])
    found = replace(options, command_items=tuple(row.item for row in rows))
    task = live.tasks_of(found)[0]
    deal(task.items, options.sizes, "the command's output")
    return found


def open_search(run: Run, screen: Screen, *, worker: str = "") -> Search:
    """Open models, items, ledger and study of a run; refuse models that have changed."""
    options, stated = run.options, run.manifest["fingerprints"]
    models = live.find_models(options)
    changed = [name for name, mark in models.fingerprints().items() if stated.get(name) != mark]
    if changed:
        law = f"{', '.join(changed)}: not the weights that {run.path} began with"
        raise SearchError(law, "Put the models back, or begin another run.")
    world = live.open_world(run, models)
    goal = objective_of(options.objective, world.tasks)

    study = partial(
        Study,
        run.storage,
        directions=goal.directions,
        sampler=options.sampler,
        seed=options.seed,
        worker=worker,
        owner=run.manifest.get("study", "") if options.storage else "",
    )
    return Search(run, world, study, goal, screen, guards=live.guards_of(options, world))
