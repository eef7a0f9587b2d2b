"""Search and ablate by one call each; what they find is also in the run folder.

A run folder is made, or with `resume` gone on with; of a finished one nothing is scored again.
Options beyond those of the signature are the fields of `search.asked.Asked`, so a new one is
written down once.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from merger.errors import OutputError, UsageError
from merger.registry import unknown
from merger.screen import QUIET, Screen

if TYPE_CHECKING:
    from search.protocol import Search
    from search.run import Run

Place = str | PathLike[str]


class Found(NamedTuple):
    """What a search has found: its folder, the confirm document, the report."""

    run: "Run"
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
    screen: "Screen" = QUIET,
    helpers: Callable[[], AbstractContextManager[object]] = nullcontext,
    **asked: Any,
) -> Found:
    """Search the weights of a merge of experts and confirm the winner on fresh items.

    Args:
        experts: folders, aliases or Hub ids; with commas or as a list.
        out: the run folder.
        resume: continue the run in that folder; of the options trials and time alone are read.
        trials: trials in all, warm starts included (60).
        time: time in all, as 90s, 10m, 1h30m.
        save: write the model that stands into this new folder.
        allow_lineage: take experts that do not look like children of the base.
        screen: shows lines, progress and trials; by default nothing.
        helpers: entered while trials are taken: other workers may live inside it.
        asked: the other options of `merger search`, by name (fields of `search.asked.Asked`):
            base, family, tasks, items, levels, objective, sampler, seed, dtype, device, ….

    Returns:
        `confirmed["verdict"]` is better, worse, same or not distinguishable; `confirmed["winner"]`
        holds the weights that stand. The folder holds winner.yaml, ready for `merge`.

    Raises:
        UsageError, UnknownNameError: an option is wrong; said before a model is opened.
        MismatchError: the experts do not descend from the base, or have changed since.
        OutputError: the folder holds a run already, or `save` exists.
    """
    from search.ask import options_of, seconds_of
    from search.asked import Asked
    from search.run import Run
    from search.setup import create, extend, open_search

    if save and Path(save).exists():  # said now, not after an hour
        raise OutputError(f"--save: {save} exists already", "Name a new folder.")
    if out is None:
        raise UsageError("no run folder is named", "Name one, such as runs/first.")
    run = Run(Path(out))
    names = experts if experts is None or isinstance(experts, str) else ",".join(experts)
    read = _read(Asked, asked | {"experts": names})
    if resume:
        again = [f"--{n}" for n, v in vars(read).items() if v != getattr(Asked, n)]
        if again:
            told = ", ".join(again).replace("_", "-")
            screen.say(f"The run keeps the options it began with; not read again: {told}")
        extend(run, trials, seconds_of(time) if time else None)
    else:
        options = options_of(replace(read, trials=trials, time=time))
        create(run.path, options, screen, allow_lineage=allow_lineage)
    return _found(open_search(run, screen), helpers, Path(save) if save else None)


def _found(opened: "Search", helpers: Callable[[], Any], save: Path | None) -> Found:
    from search.report import search_report
    from search.winner import save_model, write_winner

    opened.helpers = helpers
    confirmed = opened.go()
    write_winner(opened, confirmed)
    report = search_report(opened, confirmed)
    for note in save_model(opened, confirmed, save) if save else []:
        opened.screen.say(note)
    return Found(opened.run, confirmed, report)


def _read(table: Any, given: dict[str, Any]) -> Any:
    """Return a table of options with what is given; an error for a name that it does not have."""
    known = table.__match_args__
    if foreign := sorted(given.keys() - set(known)):
        raise unknown("option", foreign[0], known)
    return table(**given)


def ablate(run: Place, *, screen: "Screen" = QUIET, **asked: Any) -> dict[str, Any]:
    """Take a finished search, or a merge config, apart: where a gain comes from, how sure that is.

    Args:
        run: the folder of the search, or a merge config (mergekit YAML).
        screen: shows the cost and progress; by default nothing.
        asked: the options of `merger ablate`, by name (fields of `search.asked.Wanted`):
            sections, quick, samples, temperature, margin, max_evals, plan, seed, device, ….

    Returns:
        The report, as in report.json: sections by name; scores from 0 to 1. With `plan`, what each
        section would cost.

    Raises:
        SearchError: the folder holds no search that has ended.
        UsageError: the config is no merge of whole models on one base.
    """
    from search.ablation_run import ablate as taken_apart
    from search.asked import Wanted

    return taken_apart(Path(run), _read(Wanted, asked), screen)
