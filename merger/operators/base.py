"""What an operator is: a pure function of aligned blocks whose signature declares its knobs.

An operator sees numbers only: `experts` of shape (k, rows, cols) and `base` of shape (rows, cols),
float32 (float64 where a source is, bfloat16 where it asks for it), a block of whole rows of the
tensor's last axis. Whatever it has to know about the whole tensor first is gathered by its survey
(see survey.py) and arrives as `facts`; where the block lies arrives as `place`. It returns new
memory of any float dtype, which the engine rounds, and writes to none of its inputs. An operator
that is a weighted sum says so by its coefficients (see `line`): the engine then needs no tensor.

Use plain `mul` and `add`, or `weighted_sum`: fused kernels (`add(alpha=)`, `addcmul`, `lerp`) round
differently at the tail of a vector, and then the bytes would depend on the size of a block.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from merger.errors import SpecError
from merger.late import Tensor
from merger.operators.changes import weighted_sum
from merger.operators.survey import Place, Size, Survey
from merger.registry import Registry, unknown

BaseRule = Literal["required", "optional", "unused"]
Value = float | int | bool | str
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Knob:
    """One parameter: sensible range, hard limits and default; read by spec, search, help and docs.

    `low`..`high` is where a search looks; `least`..`most` is what is accepted at all. A default of
    None means that the value must be given. `each` marks one value per expert.
    """

    low: float = 0.0
    high: float = 1.0
    default: Value | None = None
    each: bool = False
    least: float = -inf
    most: float = inf
    log: bool = False
    help: str = ""
    kind: type = float
    choices: tuple[str, ...] = ()

    def checked(self, name: str, value: Any) -> Value:
        """Return the value in the knob's own type, or say which law it breaks."""
        number = isinstance(value, int | float) and (self.kind is bool) == isinstance(value, bool)
        if self.choices:
            if value not in self.choices:
                raise unknown(f"choice for {name}", str(value), self.choices)
        elif not number or (self.kind is int and value % 1):
            raise SpecError(f"{name} is {value!r}", f"Give {_KINDS[self.kind]}.")
        elif not (self.least <= value <= self.most and isfinite(value)):
            span = f"of {self.least:g} or more" if isfinite(self.least) else "that is finite"
            span = f"from {self.least:g} to {self.most:g}" if isfinite(self.most) else span
            remedy = f"Give a number {span}."
            raise SpecError(f"{name} is {value}", remedy)
        return self.kind(value)  # type: ignore[no-any-return]


# Knobs that several operators share, under the names and defaults of mergekit's YAML.
Weight = Annotated[
    Sequence[float], Knob(0.0, 1.5, help="coefficient of each expert; may be negative")
]
Density = Annotated[
    Sequence[float],
    Knob(0.05, 1.0, default=1.0, least=0.0, most=1.0, log=True, help="share of entries kept"),
]
Lambda = Annotated[float, Knob(0.3, 1.6, default=1.0, help="scale of the summed change")]
Normalize = Annotated[bool, Knob(default=True, help="divide by the sum of the weights")]


class Laws(NamedTuple):
    """Which laws beyond the general ones hold; engine and tests read them from here.

    `elementwise`: an entry depends on its own position alone (and on nothing surveyed).
    `random`: draws from the counter-based stream.
    `rowwise`: whether, with these knobs, the entries of one row of the last axis need each other;
    if not, a row too long for memory is cut.
    `stored`: takes bfloat16 as it is stored, with the result it has for the same in float32.
    """

    elementwise: bool = False
    random: bool = False
    rowwise: Callable[[Mapping[str, Any]], bool] = lambda knobs: False
    stored: bool = False


@dataclass(frozen=True)
class Operator:
    """A registered operator and what may be asked of it."""

    name: str
    combine: Callable[..., Tensor]
    knobs: Mapping[str, Knob]
    survey: Callable[..., Survey] | None
    survey_knobs: tuple[str, ...]
    reserved: frozenset[str]  # which of facts and place combine asks for
    base: BaseRule
    experts: tuple[int, int | None]  # fewest and most; None: any number
    laws: Laws
    line: Callable[..., Sequence[float]] | None
    paper: str
    doc: str

    def __call__(
        self,
        experts: Tensor,
        base: Tensor | None,
        *,
        knobs: Mapping[str, Any],
        facts: Any = None,
        place: Place | None = None,
    ) -> Tensor:
        """Merge one block; `knobs` under their public names, all of them given."""
        told = {"facts": facts, "place": place}
        given = {_parameter(name): value for name, value in knobs.items()}
        return self.combine(experts, base, **given, **{n: told[n] for n in self.reserved})

    def coefficients(self, knobs: Mapping[str, Any]) -> Sequence[float]:
        """Return what a weighted sum multiplies the base with, if it has part, and the experts."""
        return self.line(**{_parameter(n): v for n, v in knobs.items()}) if self.line else ()

    def surveyed(self, size: Size, knobs: Mapping[str, Any]) -> Survey | None:
        """Start the survey of one tensor, or return None where the operator has none."""
        if self.survey is None:
            return None
        return self.survey(size, **{_parameter(n): knobs[n] for n in self.survey_knobs})


_RESERVED = frozenset({"facts", "place"})
OPERATORS: Registry[Operator] = Registry("operator")


def operator(
    name: str,
    *,
    paper: str,
    base: BaseRule = "required",
    survey: Callable[..., Survey] | None = None,
    experts: tuple[int, int | None] = (1, None),
    laws: Laws = Laws(),  # noqa: B008 - an immutable default
    also: Callable[..., Any] | None = None,
    defaults: Mapping[str, Value] | None = None,
    line: Callable[..., Sequence[float]] | None = None,
) -> Callable[[Callable[..., Tensor]], Operator]:
    """Register a combine function; its keyword-only parameters must carry a Knob.

    Two keywords are reserved: `facts` (what the survey returned) and `place` (of the block).
    A parameter named like a Python word ends in an underscore: `lambda_` is the knob `lambda`.
    `also` is a function whose keyword-only parameters are knobs too; combine and survey get those
    it has beyond theirs as `**own`. `defaults` replace those of the annotations.
    """

    def register(combine: Callable[..., Tensor]) -> Operator:
        hints = _keywords(combine)
        own = {n: h for n, h in _keywords(also).items() if n not in hints} if also else {}
        knobs = {n.rstrip("_"): _knob(h) for n, h in (hints | own).items() if n not in _RESERVED}
        knobs |= {n: replace(knobs[n], default=value) for n, value in (defaults or {}).items()}
        asked = [n for n in inspect.signature(survey).parameters if n != "own"] if survey else []
        made = Operator(
            name=name,
            combine=combine,
            knobs=knobs,
            survey=survey,
            survey_knobs=tuple(n.rstrip("_") for n in (*asked[1:], *own)),
            reserved=_RESERVED & hints.keys(),
            base=base,
            experts=experts,
            laws=laws,
            line=line,
            paper=paper,
            doc=inspect.getdoc(combine) or "",
        )
        return OPERATORS.add(name, made)

    return register


def line(
    name: str, *, paper: str, base: BaseRule = "required"
) -> Callable[[Callable[..., Sequence[float]]], Operator]:
    """Register a weighted sum by the function that makes its knobs into coefficients.

    The first is the base's, unless that has no part; they are added in this order.
    """

    def register(coefficients: Callable[..., Sequence[float]]) -> Operator:
        def combine(experts: Tensor, ground: Tensor, **own: Any) -> Tensor:
            tensors = experts if base == "unused" else [ground, *experts]
            return weighted_sum(tensors, coefficients(**own))

        combine.__doc__ = coefficients.__doc__
        told: dict[str, Any] = {"also": coefficients, "line": coefficients}
        return operator(name, paper=paper, base=base, laws=Laws(elementwise=True), **told)(combine)

    return register


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's keyword-only parameters."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: hints[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}


def _parameter(knob: str) -> str:
    return f"{knob}_" if knob == "lambda" else knob


def _knob(hint: Any) -> Knob:
    """Read a knob out of its annotation: the type beside it gives kind and choices."""
    kind, knob = get_args(hint)[0], next(m for m in get_args(hint) if isinstance(m, Knob))
    if get_origin(kind) is Literal:
        return replace(knob, kind=str, choices=get_args(kind))
    inner = get_args(kind)[0] if get_args(kind) else kind
    return replace(knob, kind=inner, each=bool(get_args(kind)))
