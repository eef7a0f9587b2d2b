"""A job is a stage that has been checked: which models it needs, what decides its result, its work.

A stage kind is one function with annotated keyword options (the signature is the schema) that
checks them and returns a Job. Nothing is loaded or computed before every stage of a recipe has
become a job.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from merger.errors import MergerError, RecipeError
from merger.registry import Registry, unknown
from recipes.needs import NOTHING, Needs
from recipes.options import fitted
from recipes.recipe import Stage

if TYPE_CHECKING:
    from merger.screen import Screen

Facts = dict[str, Any]


@dataclass(frozen=True)
class Here:
    """Where a job stands when it runs: its folder, the models it named, those before it."""

    name: str
    out: Path
    run: Path
    models: Mapping[str, Path]
    screen: Screen
    facts: Mapping[str, Facts] = field(default_factory=dict)

    @property
    def partial(self) -> Path:
        """The place for work that is not whole yet; renamed to `out` by whoever makes a model."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def ledger(self) -> str:
        """The ledger that all stages of the run share."""
        return str(self.run / "ledger.sqlite")

    def say(self, text: str) -> None:
        """Show a line of this stage."""
        self.screen.say(f"{self.name}: {text}")


@dataclass(frozen=True)
class Job:
    """A checked stage.

    `models` are the names of models it needs; `stages` the stages whose facts or folders it reads
    (None: all before it); `record` is all that decides its result besides these, in plain data;
    `run` does the work, continues what a killed one left, and returns facts for the report; `model`
    is where in the stage's folder its checkpoint lies ("." the folder itself, None: it has none);
    `needs` what it takes for every parameter of the first of its models, or, where it starts from
    none, of the `parameters` it makes; `data` the local files of items it reads.
    """

    models: tuple[str, ...]
    record: Mapping[str, Any]
    run: Callable[[Here], Facts]
    model: str | None = None
    stages: tuple[str, ...] | None = ()
    needs: Needs = NOTHING
    parameters: int = 0
    data: tuple[str, ...] = ()


Kind = Callable[..., Job]
KINDS: Registry[Kind] = Registry("kind of stage")


def kind(name: str) -> Callable[[Kind], Kind]:
    """Put a function into the table of stage kinds; every one takes `seed`."""
    return lambda function: KINDS.add(name, function)


def make_job(stage: Stage, seed: int) -> Job:
    """Check a stage's options against its kind's signature and let the kind check the rest."""
    try:
        return KINDS[stage.kind](**{"seed": seed, **_checked(KINDS[stage.kind], stage)})
    except MergerError as broken:
        raise type(broken)(f"stage {stage.name!r}: {broken.law}", broken.remedy) from broken


def _checked(function: Kind, stage: Stage) -> dict[str, Any]:
    """Return the options, those that the signature names as the types it states."""
    parameters, hints = inspect.signature(function).parameters, get_type_hints(function)
    named = {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in stage.options:
        if key not in named and not open_ended:
            raise unknown(f"option of {stage.kind}", str(key), named)
    for name in named - stage.options.keys() - {"seed"}:
        if parameters[name].default is inspect.Parameter.empty:
            raise RecipeError(f"{stage.kind} needs {name}", f"Add {name}: … to its options.")
    return {k: fitted(k, v, hints[k]) if k in named else v for k, v in stage.options.items()}
