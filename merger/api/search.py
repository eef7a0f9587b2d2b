"""Search and ablate by one call each; what they find is also in the run folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from merger.api.quiet import QUIET
from merger.errors import OutputError, UsageError
from search.ablation_run import Wanted
from search.ablation_run import ablate as ablate_run
from search.ask import options_of, seconds_of
from search.asked import Asked
from search.report import search_report
from search.run import Run
from search.screen import Screen
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


def ablate(run: Place, *, screen: Screen = QUIET, **asked: Any) -> dict[str, Any]:
    """Take a finished search apart: where its gain comes from, and how sure that is.

    Args:
        run: the folder of the search (or one that `merger ablate CONFIG.yaml` made).
        screen: shows the cost and progress; by default nothing.
        asked: the options of `merger ablate`, by name (fields of `search.ablation_run.Wanted`):
            sections, quick, samples, temperature, margin, max_evals, plan, seed, device, logs.

    Returns:
        The report, as in report.json: sections by name; scores from 0 to 1. With `plan`, what each
        section would cost.

    Raises:
        SearchError: the folder holds no search that has ended.
    """
    known = [f.name for f in fields(Wanted)]
    if foreign := sorted(asked.keys() - set(known)):
        raise UsageError(f"ablate has no option {foreign[0]!r}", f"Known: {', '.join(known)}.")
    return ablate_run(Path(run), Wanted(**asked), screen)
