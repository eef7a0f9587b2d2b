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
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from merger.errors import RecipeError
from merger.registry import Registry, unknown
from recipes.recipe import Stage

if TYPE_CHECKING:
    from search.protocol import Screen

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
    is where in the stage's folder its checkpoint lies ("." the folder itself, None: it has none).
    """

    models: tuple[str, ...]
    record: Mapping[str, Any]
    run: Callable[[Here], Facts]
    model: str | None = None
    stages: tuple[str, ...] | None = ()


Kind = Callable[..., Job]
KINDS: Registry[Kind] = Registry("kind of stage")


def kind(name: str) -> Callable[[Kind], Kind]:
    """Put a function into the table of stage kinds; every one takes `seed`."""
    return lambda function: KINDS.add(name, function)


def make_job(stage: Stage, seed: int) -> Job:
    """Check a stage's options against its kind's signature and let the kind check the rest."""
    function = KINDS[stage.kind]
    try:
        _check(function, stage)
        return function(**{"seed": seed, **stage.options})
    except RecipeError as broken:
        raise RecipeError(f"stage {stage.name!r}: {broken.law}", broken.remedy) from broken


def _check(function: Kind, stage: Stage) -> None:
    parameters, hints = inspect.signature(function).parameters, get_type_hints(function)
    named = {n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key, value in stage.options.items():
        if key not in named and not open_ended:
            raise unknown(f"option of {stage.kind} (stage {stage.name!r})", str(key), named)
        if key in named and not _fits(value, hints[key]):
            raise RecipeError(f"{key} is {value!r}", f"It should be {_plain(hints[key])}.")
    for name in named - stage.options.keys() - {"seed"}:
        if parameters[name].default is inspect.Parameter.empty:
            raise RecipeError(f"{stage.kind} needs {name}", f"Add {name}: … to its options.")


def _fits(value: Any, hint: Any) -> bool:
    """Say whether a value from YAML is of the annotated type; a whole number is a float too."""
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(v, get_args(hint)[0]) for v in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _plain(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
