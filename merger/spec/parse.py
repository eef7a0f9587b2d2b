"""From mergekit's YAML to a spec, strictly: a key that nobody reads is an error, never ignored.

Every error names file, line and key, and what was probably meant. Keys of mergekit's schema that we
do not support are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from merger.errors import MergerError, SpecError, UnknownNameError
from merger.operators import OPERATORS, Operator
from merger.registry import unknown
from merger.spec.check import check_spec
from merger.spec.lines import Path_, Where, read_yaml
from merger.spec.model import ExpertSpec, Knobs, MergeSpec, SliceSpec, SourceSpec
from merger.spec.setting import Rule, Setting, Value

_TOP = (
    *("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template", "provenance"),
)
_REFUSED = {
    "modules": "Merge each module's checkpoint by its own config.",
    "tokens": "Name a tokenizer_source instead.",
    "pad_to_multiple_of": "The padding of the donor's embeddings is kept as it is.",
}
DTYPES = {
    "bfloat16": "bfloat16", "bf16": "bfloat16",
    "float16": "float16", "fp16": "float16", "f16": "float16",
    "float32": "float32", "fp32": "float32", "f32": "float32",
    "float64": "float64", "fp64": "float64", "f64": "float64",
}  # fmt: skip
# Read by mergekit without any effect on the result of the methods that take them.
_WITHOUT_EFFECT = {"int8_mask"}


def load_spec(path: str | Path) -> MergeSpec:
    """Read a merge config (mergekit YAML) and check all of it that needs no checkpoint."""
    document, where = read_yaml(Path(path))
    return spec_from_mapping(document, where)


def spec_from_mapping(document: Any, where: Where | None = None) -> MergeSpec:
    """Build a spec from plain data, as YAML gives it; raises a SpecError with the place."""
    return _Parser(where or Where()).spec(document)


def dtype_of(name: str, place: str) -> str:
    """Return the full name of a dtype to write (`bf16` -> `bfloat16`)."""
    if name.lower() in DTYPES:
        return DTYPES[name.lower()]
    error = unknown("dtype", name, DTYPES)
    raise SpecError(f"{place}: {error.law}", error.remedy)


class _Parser:
    """The border between plain data and the spec; holds only where things stand."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.notes: list[str] = []

    def spec(self, document: Any) -> MergeSpec:
        top = self.mapping(document, (), _TOP)
        method = self.text(top, "merge_method", ()) or ""
        if not method:
            raise self.where.error((), "merge_method is missing", f"One of {_listed(OPERATORS)}.")
        operator = self.known(("merge_method",), method)
        if ("models" in top) == ("slices" in top):
            law = "a merge has either models or slices"
            raise self.where.error((), law, "Keep one of the two keys.")
        spec = MergeSpec(
            method=method,
            experts=self.experts(top.get("models", []), operator),
            base=self.text(top, "base_model", ()),
            knobs=self.knobs(top.get("parameters"), ("parameters",), operator),
            slices=self.slices(top.get("slices", []), operator),
            dtype=self.dtype(top, "dtype"),
            out_dtype=self.dtype(top, "out_dtype"),
            tokenizer_source=self.tokenizer(top),
            chat_template=self.text(top, "chat_template", ()),
            notes=tuple(self.notes),
            provenance=self.provenance(top),
        )
        check_spec(spec, self.where)
        return spec

    def known(self, path: Path_, method: str) -> Operator:
        try:
            return OPERATORS[method]
        except UnknownNameError as error:
            raise self.where.error(path, error.law, error.remedy) from error

    def mapping(self, value: Any, path: Path_, keys: Iterable[str]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            law = f"a {type(value).__name__} stands where keys were expected"
            raise self.where.error(path, law, f"Known keys: {', '.join(keys)}.")
        for key in value:
            if key in _REFUSED:
                raise self.where.error((*path, key), f"{key!r} is not supported", _REFUSED[key])
            if key not in keys:
                error = unknown("key", str(key), keys)
                raise self.where.error((*path, key), error.law, error.remedy)
        return value

    def listed(self, value: Any, path: Path_) -> list[Any]:
        if not isinstance(value, list):
            raise self.where.error(path, f"{value!r} is no list", "Begin each entry with a dash.")
        return value

    def text(self, table: Mapping[str, Any], key: str, path: Path_) -> str | None:
        value = table.get(key)
        if value is None or isinstance(value, str):
            return value or None
        raise self.where.error((*path, key), f"{key} is {value!r}", "Give a name.")

    def model(self, table: Mapping[str, Any], path: Path_) -> str:
        name = self.text(table, "model", path)
        if not name:
            raise self.where.error(path, "an entry names no model", "Add `model: NAME`.")
        return name

    def dtype(self, top: Mapping[str, Any], key: str) -> str | None:
        name = self.text(top, key, ())
        return dtype_of(name, self.where(key)) if name else None

    def tokenizer(self, top: Mapping[str, Any]) -> str | None:
        source = self.text(top, "tokenizer_source", ())
        if "tokenizer" not in top:
            return source
        table = self.mapping(top["tokenizer"], ("tokenizer",), ("source",))
        return self.text(table, "source", ("tokenizer",)) or source

    def provenance(self, top: Mapping[str, Any]) -> Mapping[str, Any] | None:
        value = top.get("provenance")
        if value is None or isinstance(value, Mapping):
            return value
        raise self.where.error(("provenance",), "provenance is no mapping", "Remove the key.")

    def experts(self, value: Any, operator: Operator) -> tuple[ExpertSpec, ...]:
        made = []
        for i, entry in enumerate(self.listed(value, ("models",))):
            path = ("models", i)
            table = self.mapping(entry, path, ("model", "parameters"))
            knobs = self.knobs(table.get("parameters"), (*path, "parameters"), operator, each=True)
            made.append(ExpertSpec(self.model(table, path), knobs))
        return tuple(made)

    def slices(self, value: Any, operator: Operator) -> tuple[SliceSpec, ...]:
        made = []
        for i, entry in enumerate(self.listed(value, ("slices",))):
            path = ("slices", i)
            table = self.mapping(entry, path, ("sources", "base_model", "parameters"))
            made.append(
                SliceSpec(
                    self.sources(table.get("sources"), (*path, "sources"), operator),
                    self.text(table, "base_model", path),
                    self.knobs(table.get("parameters"), (*path, "parameters"), operator),
                )
            )
        return tuple(made)

    def sources(self, value: Any, path: Path_, operator: Operator) -> tuple[SourceSpec, ...]:
        made = []
        for i, entry in enumerate(self.listed(value, path)):
            here = (*path, i)
            table = self.mapping(entry, here, ("model", "layer_range", "parameters"))
            layers: Any = table.get("layer_range")
            if not _is_range(layers):
                law = f"layer_range is {layers!r}"
                raise self.where.error(here, law, "Give [first, last): two growing whole numbers.")
            knobs = self.knobs(table.get("parameters"), (*here, "parameters"), operator, each=True)
            made.append(SourceSpec(self.model(table, here), knobs, (layers[0], layers[1])))
        return tuple(made)

    def knobs(self, value: Any, path: Path_, operator: Operator, *, each: bool = False) -> Knobs:
        if value is None:
            return {}
        quiet = _WITHOUT_EFFECT - set(operator.knobs)
        table = self.mapping(value, path, [*operator.knobs, *quiet])
        for name in table:
            if name in quiet:
                self.notes.append(f"{self.where(*path, name)}: {name} has no effect on the result")
            elif each and not operator.knobs[name].each:
                law = f"{name} of {operator.name} is one value for the whole merge"
                raise self.where.error((*path, name), law, "Move it to the top `parameters`.")
        return {
            n: self.setting(v, (*path, n), operator) for n, v in table.items() if n not in quiet
        }

    def setting(self, value: Any, path: Path_, operator: Operator) -> Setting:
        by_filter = isinstance(value, Mapping) or (
            isinstance(value, list) and any(isinstance(v, Mapping) for v in value)
        )
        if not by_filter:
            return Setting((Rule(self.values(value, path, operator)),))
        entries = value if isinstance(value, list) else [value]
        rules = []
        for i, entry in enumerate(entries):
            here = (*path, i) if isinstance(value, list) else path
            if not isinstance(entry, Mapping):
                entry = {"value": entry}
            table = self.mapping(entry, here, ("filter", "value"))
            if "value" not in table:
                raise self.where.error(here, "a filter has no value", "Add `value: NUMBER`.")
            values = self.values(table["value"], path, operator)
            rules.append(Rule(values, self.text(table, "filter", here)))
        return Setting(tuple(rules))

    def values(self, value: Any, path: Path_, operator: Operator) -> tuple[Value, ...]:
        many = value if isinstance(value, list) else [value]
        knob, name = operator.knobs[str(path[-1])], str(path[-1])
        if len(many) != 1 and (knob.choices or knob.kind is bool or not many):
            raise self.where.error(path, f"{name} is {value!r}", "Give a single value.")
        try:
            return tuple(knob.checked(name, _number(v)) for v in many)
        except MergerError as error:
            raise self.where.error(path, error.law, error.remedy) from error


def _number(value: Any) -> Any:
    # YAML 1.1 takes `1e-5` for text, because it has no dot.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _is_range(value: Any) -> bool:
    whole = isinstance(value, list) and [type(v) for v in value] == [int, int]
    return whole and 0 <= value[0] < value[1]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
