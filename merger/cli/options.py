"""Commands from signatures: what must be given by place is an argument, all else an option.

The help of each stands where Python's readers look for it too: in `Args:` of a function's
docstring, in the annotations of a table. A command may be `like` functions or tables: it has their
options as well, under the same names, defaults and texts, and takes them as `**asked`. What is
annotated in quotes is for Python alone. A flag has no --no- form.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from copy import copy
from types import UnionType
from typing import Annotated, Any, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from merger.api.limits import Least
from merger.cli.app import app

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Family = Annotated[str | None, typer.Option(help="Family whose aliases are used (tiny).")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose")]

Command = Callable[..., None]
_ARGS = re.compile(r"^Args:\n((?:(?: .*)?\n?)*)", re.MULTILINE)
_ARG = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def command(
    name: str, *like: Callable[..., Any], group: typer.Typer = app
) -> Callable[[Command], Command]:
    """Make a function a command, with its own options and those of what it is like."""

    def give(function: Command) -> Command:
        own = {p.name: p for p in _parameters(function)}
        lent = [p for source in like for p in _parameters(source) if p.name not in own]
        made = sorted([*lent, *own.values()], key=lambda p: p.kind)
        function.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
        about = inspect.cleandoc(function.__doc__ or "").partition("\n\nArgs:")[0]
        lines = (" ".join(paragraph.split()) for paragraph in about.split("\n\n"))
        group.command(name, help="\n\n".join(lines))(function)
        return function

    return give


def taken(function: Callable[..., Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return, and remove from what was asked, the options of a function."""
    return {name: asked.pop(name) for name in function.__kwdefaults__ or ()}


def _parameters(source: Callable[..., Any]) -> Iterator[inspect.Parameter]:
    """Yield the parameters that a command has of a function or a table, what is inherited last."""
    table = inspect.isclass(source)
    hints = get_type_hints(source, include_extras=True) if table else source.__annotations__
    section = None if table else _ARGS.search(inspect.getdoc(source) or "")
    texts = dict(_ARG.findall(section[1])) if section else {}
    listed = inspect.signature(source).parameters.values()
    for one in sorted(listed, key=lambda p: p.name not in source.__annotations__):
        if one.kind is one.VAR_KEYWORD or isinstance(hints[one.name], str):
            continue
        by_place = one.kind is one.POSITIONAL_OR_KEYWORD and not table
        yield _parameter(one, hints[one.name], texts.get(one.name, ""), by_place=by_place)


def _parameter(
    one: inspect.Parameter, hint: Any, text: str, *, by_place: bool
) -> inspect.Parameter:
    kind, *more = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
    if isinstance(kind, UnionType) and str in get_args(kind):
        kind = str | None  # what may be a text is one on the command line
    info = typer.Argument() if by_place and one.default is one.empty else typer.Option()
    for told in more:
        match told:
            case ParameterInfo():
                info = copy(told)
            case Least(value):
                info.min = value
            case str():
                text = told
    info.help = info.help or " ".join(text.split())
    named = info.default is not ...  # typer keeps the first name of an option there
    if isinstance(info, OptionInfo) and not named:
        info.param_decls = (f"--{one.name.replace('_', '-')}",)
    place = one.POSITIONAL_OR_KEYWORD if isinstance(info, ArgumentInfo) else one.KEYWORD_ONLY
    return one.replace(kind=place, annotation=Annotated[kind, info])
