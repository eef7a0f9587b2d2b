"""Search and ablate by one call each; what they find is also in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from merger.api.quiet import QUIET
from merger.errors import OutputError, SearchError, UsageError
from search.ablation import Ablation, section_names
from search.ask import Asked, options_of, seconds_of
from search.candidate import Candidate
from search.protocol import Screen, Search
from search.report import search_report, write
from search.run import Run
from search.setup import create, extend, open_search
from search.winner import save_model, write_winner

Place = str | PathLike[str]


class Found(NamedTuple):
    """What a search has found: its folder, the confirm document, the report."""

    run: Run
    confirmed: dict[str, Any]
    report: dict[str, Any]


def search(
    experts: str | Sequence[str] | None = None,
    out: Place | None = None,
    *,
    resume: bool = False,
    trials: int | None = None,
    time: str | None = None,
    save: Place | None = None,
    allow_lineage: bool = False,
    screen: Screen = QUIET,
    helpers: Callable[[], AbstractContextManager[object]] = nullcontext,
    **asked: Any,
) -> Found:
    """Search the weights of a merge of experts and confirm the winner on fresh items.

    Args:
        experts: folders, aliases or Hub ids; with commas or as a list.
        out: the run folder.
        resume: continue the run in that folder; trials and time may be raised.
        trials: trials in all, warm starts included (60).
        time: time in all, as 90s, 10m, 1h30m.
        save: write the model that stands into this new folder.
        allow_lineage: take experts that do not look like children of the base.
        screen: shows lines, progress and trials; by default nothing.
        helpers: entered while trials are taken: other workers may live inside it.
        asked: the other options of `merger search`, by name (fields of `search.ask.Asked`):
            base, family, tasks, items, levels, objective, sampler, seed, dtype, device, ….

    Returns:
        `confirmed["verdict"]` is better, worse, same or not distinguishable; `confirmed["winner"]`
        holds the weights that stand. The folder holds winner.yaml, ready for `merge`.

    Raises:
        UsageError, UnknownNameError: an option is wrong; said before a model is opened.
        MismatchError: the experts do not descend from the base, or have changed since.
        OutputError: the folder holds a run already, or `save` exists.
    """
    if save and Path(save).exists():  # said now, not after an hour
        raise OutputError(f"--save: {save} exists already", "Name a new folder.")
    if out is None:
        raise UsageError("no run folder is named", "Name one, such as runs/first.")
    run = Run(Path(out))
    if resume:
        extend(run, trials, seconds_of(time) if time else None)
    else:
        names = experts if experts is None or isinstance(experts, str) else ",".join(experts)
        options = options_of(_asked(asked | {"experts": names, "trials": trials, "time": time}))
        create(run.path, options, screen, allow_lineage=allow_lineage)
    opened = open_search(run, screen)
    opened.helpers = helpers
    confirmed = opened.go()
    write_winner(opened, confirmed)
    report = search_report(opened, confirmed)
    for note in save_model(opened, confirmed, Path(save)) if save else []:
        screen.say(note)
    return Found(run, confirmed, report)


def _asked(given: dict[str, Any]) -> Asked:
    known = {f.name for f in fields(Asked)}
    if foreign := sorted(given.keys() - known):
        raise UsageError(f"search has no option {foreign[0]!r}", f"Known: {', '.join(known)}.")
    return Asked(**given)


def ablate(
    run: Place,
    sections: str | None = None,
    *,
    samples: int = 0,
    temperature: float = 1.0,
    max_evals: int | None = None,
    dry_run: bool = False,
    screen: Screen = QUIET,
) -> dict[str, Any]:
    """Take a finished search apart: leave-one-out, exact Shapley, who solves what, the oracle.

    Args:
        run: the folder of the search.
        sections: names with commas; None for all.
        samples: sampled answers an item, for the oracle (0: none).
        temperature: of these samples.
        max_evals: most merges to score; sections that need more are left out, and said so.
        dry_run: say the cost and stop; the report is then empty.
        screen: shows the cost and progress; by default nothing.

    Returns:
        The report, as in report.json: sections by name; scores from 0 to 1.

    Raises:
        SearchError: the folder holds no search that has ended.
    """
    names, folder = section_names(sections), Run(Path(run))
    confirmed = folder.read("confirm.json")
    if folder.manifest and confirmed is None:
        law = f"{run} has no confirm.json: its search has not ended"
        raise SearchError(law, f"merger search --resume {run}")
    opened = open_search(folder, screen)
    opened.world.pools.sealed.clear()
    winner = Candidate.from_mapping(confirmed["winner"])
    experts, objective = opened.options.experts, opened.objective
    parts = Ablation(opened.world, winner, experts, objective, samples, temperature)
    kept = _affordable(opened, parts, names, max_evals)
    if dry_run:
        return {}
    _pay(opened, parts, kept)
    return write(folder, opened, {name: parts.section(name) for name in kept})


def _affordable(
    search: Search, parts: Ablation, names: Sequence[str], most: int | None
) -> list[str]:
    """Say what each section costs and return those within the limit."""
    rate = search.run.manifest.get("prepared", {}).get("seconds_per_answer", 0.0)
    kept: list[str] = []
    for name in names:
        merges, answers = parts.cost([*kept, name])
        if most is not None and merges > most:
            search.screen.say(
                f"{name}: left out, it needs {merges} merges and --max-evals is {most}"
            )
            continue
        kept.append(name)
    merges, answers = parts.cost(kept)
    search.screen.say(
        f"Cost: {merges} merges to score, {answers} answers, about {answers * rate:.0f} s; "
        "all else is in the ledger."
    )
    return kept


def _pay(search: Search, parts: Ablation, names: Sequence[str]) -> None:
    """Score what is missing, with progress."""
    _, answers = parts.cost(names)
    if not answers:
        return
    with search.screen.progress("ablate", answers) as steps:
        for world, candidate, pool in parts.needs(names):
            if missing := world.missing(candidate, pool):
                world.answers(candidate, pool)
                steps.step(missing, candidate.describe())
