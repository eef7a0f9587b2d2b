"""From mergekit's YAML to a spec, strictly: a key that nobody reads is an error, never ignored.

Every error names file, line and key, and what was probably meant. Keys of mergekit's schema that we
do not support are refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from merger.errors import SpecError
from merger.operators import OPERATORS
from merger.registry import unknown
from merger.spec.check import check_spec
from merger.spec.lines import Path_, Where, read_yaml
from merger.spec.model import ExpertSpec, Knobs, MergeSpec, PartSpec
from merger.spec.setting import Rule, Setting, Value

_TOP = (
    *("merge_method", "base_model", "models", "slices", "modules", "parameters", "dtype"),
    *("out_dtype", "tokenizer_source", "tokenizer", "chat_template", "provenance"),
)
_REFUSED = {
    "tokens": "Name a tokenizer_source instead.",
    "pad_to_multiple_of": "The padding of the donor's embeddings is kept as it is.",
}
_SHORT = {"bfloat16": ("bf16",)} | {f"float{n}": (f"fp{n}", f"f{n}") for n in (16, 32, 64)}
DTYPES = {short: name for name, shorts in _SHORT.items() for short in (name, *shorts)}
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
    """The border between plain data and the spec; holds where things stand, and the operator."""

    def __init__(self, where: Where) -> None:
        self.where = where
        self.notes: list[str] = []

    def spec(self, document: Any) -> MergeSpec:
        top = self.mapping(document, (), _TOP)
        method = self.text(top, "merge_method", ()) or ""
        if not method:
            known = ", ".join(OPERATORS)
            raise self.where.error((), "merge_method is missing", f"One of {known}.")
        with self.where.at("merge_method"):
            self.operator = OPERATORS[method]
        kind = self.one_of(top, (), ("models", "slices", "modules"))
        kept = top.get("provenance")
        parts = self.modules(top[kind]) if kind == "modules" else ()
        spec = MergeSpec(
            method=method,
            experts=self.sources(top[kind], (kind,)) if kind == "models" else (),
            base=self.text(top, "base_model", ()),
            knobs=self.knobs(top.get("parameters"), ("parameters",)),
            parts=self.slices(top[kind], (kind,)) if kind == "slices" else parts,
            dtype=self.dtype(top, "dtype"),
            out_dtype=self.dtype(top, "out_dtype"),
            tokenizer_source=self.tokenizer(top),
            chat_template=self.template(top),
            notes=tuple(self.notes),
            provenance=self.mapping(kept, ("provenance",), ()) if kept else None,
        )
        check_spec(spec, self.where)
        return spec

    def mapping(self, value: Any, path: Path_, keys: Iterable[str]) -> Mapping[str, Any]:
        """Check that a value holds keys, and no other than these; any, where there are none."""
        if not isinstance(value, Mapping):
            law = f"a {type(value).__name__} stands where keys were expected"
            raise self.where.error(path, law, f"Known keys: {', '.join(keys)}.")
        for key in value:
            if key in _REFUSED:
                raise self.where.error((*path, key), f"{key!r} is not supported", _REFUSED[key])
            if keys and key not in keys:
                error = unknown("key", str(key), keys)
                remedy = _place(str(key), path) or error.remedy
                raise self.where.error((*path, key), error.law, remedy)
        return value

    def one_of(self, table: Mapping[str, Any], path: Path_, kinds: tuple[str, ...]) -> str:
        found = [kind for kind in kinds if kind in table]
        if len(found) == 1:
            return found[0]
        law = f"{' and '.join(found)} stand together" if found else f"no {' or '.join(kinds)}"
        raise self.where.error((*path, *found[1:2]), law, "Keep one of these keys.")

    def listed(self, value: Any, path: Path_, *, empty: bool = True) -> list[Any]:
        if not isinstance(value, list):
            raise self.where.error(path, f"{value!r} is no list", "Begin each entry with a dash.")
        if not value and not empty:
            raise self.where.error(path, "the list is empty", "Name at least one slice.")
        return value

    def text(self, table: Mapping[str, Any], key: str, path: Path_) -> str | None:
        value = table.get(key)
        if value is None or isinstance(value, str):
            return value or None
        raise self.where.error((*path, key), f"{key} is {value!r}", "Give a name.")

    def dtype(self, top: Mapping[str, Any], key: str) -> str | None:
        name = self.text(top, key, ())
        return dtype_of(name, self.where(key)) if name else None

    def tokenizer(self, top: Mapping[str, Any]) -> str | None:
        source = self.text(top, "tokenizer_source", ())
        if "tokenizer" not in top:
            return source
        table = self.mapping(top["tokenizer"], ("tokenizer",), ("source",))
        return self.text(table, "source", ("tokenizer",)) or source

    def template(self, top: Mapping[str, Any]) -> str | None:
        template = self.text(top, "chat_template", ())
        if template == "auto":
            self.notes.append("chat_template auto: the donor's is kept")
            return None
        return template

    def modules(self, value: Any) -> tuple[PartSpec, ...]:
        made: list[PartSpec] = []
        for name, entry in self.mapping(value, ("modules",), ()).items():
            path = ("modules", name)
            table = self.mapping(entry, path, ("models", "slices", "parameters"))
            knobs = self.knobs(table.get("parameters"), (*path, "parameters"))
            kind = self.one_of(table, path, ("models", "slices"))
            if kind == "slices":
                made += self.slices(table[kind], (*path, kind), name, knobs)
            else:
                sources = self.sources(table[kind], (*path, kind))
                made.append(PartSpec(sources, None, knobs, str(name)))
        return tuple(made)

    def slices(
        self, value: Any, path: Path_, module: str = "", shared: Knobs | None = None
    ) -> tuple[PartSpec, ...]:
        made = []
        for i, entry in enumerate(self.listed(value, path, empty=False)):
            here = (*path, i)
            table = self.mapping(entry, here, ("sources", "base_model", "parameters"))
            sources = self.sources(table.get("sources"), (*here, "sources"), layered=True)
            knobs = dict(self.knobs(table.get("parameters"), (*here, "parameters")))
            for name, setting in (shared or {}).items():  # asked where the slice's own are silent
                own = knobs[name].rules if name in knobs else ()
                knobs[name] = Setting((*own, *setting.rules))
            made.append(PartSpec(sources, self.text(table, "base_model", here), knobs, module))
        return tuple(made)

    def sources(self, value: Any, path: Path_, *, layered: bool = False) -> tuple[ExpertSpec, ...]:
        made = []
        for i, entry in enumerate(self.listed(value, path)):
            here = (*path, i)
            keys = ("model", "layer_range", "parameters") if layered else ("model", "parameters")
            table = self.mapping(entry, here, keys)
            if not (name := self.text(table, "model", here)):
                raise self.where.error(here, "an entry names no model", "Add `model: NAME`.")
            knobs = self.knobs(table.get("parameters"), (*here, "parameters"), each=True)
            layers = table.get("layer_range")
            if layered and not _is_range(layers):
                law = f"layer_range is {layers!r}"
                raise self.where.error(here, law, "Give [first, last): two growing whole numbers.")
            made.append(ExpertSpec(name, knobs, (layers[0], layers[1]) if layers else None))
        return tuple(made)

    def knobs(self, value: Any, path: Path_, *, each: bool = False) -> Knobs:
        operator = self.operator
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
        return {n: self.setting(v, (*path, n)) for n, v in table.items() if n not in quiet}

    def setting(self, value: Any, path: Path_) -> Setting:
        entries = value if isinstance(value, list) else [value]
        if not any(isinstance(entry, Mapping) for entry in entries):
            return Setting((Rule(self.values(value, path)),))
        rules = []
        for i, entry in enumerate(entries):
            here = (*path, i) if isinstance(value, list) else path
            if not isinstance(entry, Mapping):
                entry = {"value": entry}
            table = self.mapping(entry, here, ("filter", "value"))
            if "value" not in table:
                raise self.where.error(here, "a filter has no value", "Add `value: NUMBER`.")
            values = self.values(table["value"], path)
            rules.append(Rule(values, self.text(table, "filter", here)))
        return Setting(tuple(rules))

    def values(self, value: Any, path: Path_) -> tuple[Value, ...]:
        many = value if isinstance(value, list) else [value]
        knob, name = self.operator.knobs[str(path[-1])], str(path[-1])
        if len(many) != 1 and (knob.choices or knob.kind is bool or not many):
            raise self.where.error(path, f"{name} is {value!r}", "Give a single value.")
        with self.where.at(*path):
            return tuple(knob.checked(name, _number(v)) for v in many)


def _place(key: str, path: Path_) -> str:
    """Say where a key belongs that stands in the wrong place; nothing for one unknown anywhere."""
    if key in _TOP:
        return f"{key} belongs at the top of the config."
    if path[-1:] != ("parameters",) and any(key in OPERATORS[name].knobs for name in OPERATORS):
        return f"{key} belongs under `parameters`."
    return "layer_range belongs to a source of a slice." if key == "layer_range" else ""


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
