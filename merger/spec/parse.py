"""From mergekit's YAML to a spec, strictly: a key that nobody reads is an error, never ignored.

Every error names file, line and key, and what was probably meant. Keys of mergekit's schema that we
do not support are refused by name.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from merger.errors import SpecError
from merger.lines import Node, read_yaml
from merger.operators import OPERATORS, Knob
from merger.registry import unknown
from merger.spec.check import check_spec
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
    return _Parser(read_yaml(Path(path))).spec()


def spec_from_mapping(document: Any) -> MergeSpec:
    """Build a spec from plain data, as YAML gives it; raises a SpecError with the place.

    What Python has beside it counts as what it stands for: tuples, paths, numbers of numpy.
    """
    return _Parser(Node(json.loads(json.dumps(document, default=str)))).spec()


def merge_spec(
    method: str,
    weights: Mapping[str, float | Mapping[str, Any] | None],
    *,
    base: str | None = None,
    knobs: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    out_dtype: str | None = None,
) -> MergeSpec:
    """Build a spec from plain arguments: what flags, a search and Python code use instead of YAML.

    Args:
        method: a registered operator.
        weights: model -> its weight, or its knobs by name, or None for a model without any.
        base: the model the experts started from.
        knobs: knobs of the whole merge; a knob that is one per expert holds for all of them.
        dtype: as in mergekit, the written dtype unless `out_dtype` says otherwise.
        out_dtype: dtype of the written tensors.

    Raises:
        SpecError: for anything that the same YAML would be refused for.
    """
    own = {m: w if isinstance(w, Mapping | None) else {"weight": w} for m, w in weights.items()}
    models = [{"model": m} | ({"parameters": dict(w)} if w else {}) for m, w in own.items()]
    told: dict[str, Any] = {"merge_method": method, "models": models}
    rest = {"base_model": base, "parameters": knobs or None, "dtype": dtype, "out_dtype": out_dtype}
    return spec_from_mapping(told | {k: v for k, v in rest.items() if v is not None})


def dtype_of(name: str, place: str) -> str:
    """Return the full name of a dtype to write (`bf16` -> `bfloat16`)."""
    if name.lower() in DTYPES:
        return DTYPES[name.lower()]
    error = unknown("dtype", name, DTYPES)
    raise SpecError(f"{place}: {error.law}", error.remedy)


class _Parser:
    """The border between plain data and the spec; knows the operator, and collects notes."""

    def __init__(self, top: Node) -> None:
        self.top, self.notes = _table(top, *_TOP), list[str]()
        method = top["merge_method"]
        if not method.text():
            raise top.error("merge_method is missing", f"One of {', '.join(OPERATORS)}.")
        with method.placed():
            self.operator = OPERATORS[method.value]

    def spec(self) -> MergeSpec:
        top, kind = self.top, _one_of(self.top, "models", "slices", "modules")
        read = {"models": self.whole, "slices": self.slices, "modules": self.modules}[kind]
        source = _table(top["tokenizer"], "source")["source"].text() if "tokenizer" in top else None
        template = top["chat_template"].text()
        if template == "auto":
            self.notes.append("chat_template auto: the donor's is kept")
        spec = MergeSpec(
            method=self.operator.name,
            parts=read(top[kind]),
            base=top["base_model"].text(),
            knobs=self.knobs(top["parameters"]),
            dtype=_dtype(top["dtype"]),
            out_dtype=_dtype(top["out_dtype"]),
            tokenizer_source=source or top["tokenizer_source"].text(),
            chat_template=None if template == "auto" else template,
            notes=tuple(self.notes),
            text=json.dumps({k: v for k, v in top.value.items() if k != "provenance"}),
            provenance=_table(top["provenance"]).value if top["provenance"].value else None,
        )
        check_spec(spec, top)
        return spec

    def whole(self, node: Node) -> tuple[PartSpec, ...]:
        return (PartSpec(self.sources(node)),)

    def modules(self, node: Node) -> tuple[PartSpec, ...]:
        made: list[PartSpec] = []
        for name in _table(node).value:
            module = _table(node[name], "models", "slices", "parameters")
            knobs = self.knobs(module["parameters"])
            if _one_of(module, "models", "slices") == "slices":
                made += self.slices(module["slices"], str(name), knobs)
            else:
                made.append(PartSpec(self.sources(module["models"]), None, knobs, str(name)))
        return tuple(made)

    def slices(
        self, node: Node, module: str = "", shared: Knobs | None = None
    ) -> tuple[PartSpec, ...]:
        made = []
        for entry in node.entries():
            part = _table(entry, "sources", "base_model", "parameters")
            knobs = dict(self.knobs(part["parameters"]))
            for name, setting in (shared or {}).items():  # asked where the slice's own are silent
                own = knobs[name].rules if name in knobs else ()
                knobs[name] = Setting((*own, *setting.rules))
            sources = self.sources(part["sources"], "layer_range")
            made.append(PartSpec(sources, part["base_model"].text(), knobs, module))
        if not made:
            raise node.error("the list is empty", "Name at least one slice.")
        return tuple(made)

    def sources(self, node: Node, *layered: str) -> tuple[ExpertSpec, ...]:
        made = []
        for entry in node.entries():
            source = _table(entry, "model", *layered, "parameters")
            if not (name := source["model"].text()):
                raise source.error("an entry names no model", "Add `model: NAME`.")
            layers = source["layer_range"].value
            if layered and not _is_range(layers):
                remedy = "Give [first, last): two growing whole numbers."
                raise source.error(f"layer_range is {layers!r}", remedy)
            knobs = self.knobs(source["parameters"], each=True)
            made.append(ExpertSpec(name, knobs, (layers[0], layers[1]) if layers else None))
        return tuple(made)

    def knobs(self, node: Node, *, each: bool = False) -> Knobs:
        if node.value is None:
            return {}
        known = self.operator.knobs
        stated = node.value if isinstance(node.value, Mapping) else {}
        found = {}
        for name in _table(node, *known, *_WITHOUT_EFFECT.intersection(stated)).value:
            if name in _WITHOUT_EFFECT:
                self.notes.append(f"{node[name]}: {name} has no effect on the result")
            elif each and not known[name].each:
                law = f"{name} of {self.operator.name} is one value for the whole merge"
                raise node[name].error(law, "Move it to the top `parameters`.")
            else:
                found[name] = _setting(node[name], name, known[name])
        return found


def _setting(node: Node, name: str, knob: Knob) -> Setting:
    """Read a value, a gradient, or a list of either with filters."""
    listed = isinstance(node.value, list)
    if not any(isinstance(e, Mapping) for e in (node.value if listed else [node.value])):
        return Setting((Rule(_values(node, name, knob)),))
    rules = []
    for entry in node.entries() if listed else [node]:
        if not isinstance(entry.value, Mapping):
            rules.append(Rule(_values(entry, name, knob)))
        elif "value" not in _table(entry, "filter", "value"):
            raise entry.error("a filter has no value", "Add `value: NUMBER`.")
        else:
            rules.append(Rule(_values(entry["value"], name, knob), entry["filter"].text()))
    return Setting(tuple(rules))


def _values(node: Node, name: str, knob: Knob) -> tuple[Value, ...]:
    many = node.value if isinstance(node.value, list) else [node.value]
    if len(many) != 1 and (knob.choices or knob.kind is bool or not many):
        raise node.error(f"{name} is {node.value!r}", "Give a single value.")
    with node.placed():
        return tuple(knob.checked(name, _number(v)) for v in many)


def _number(value: Any) -> Any:
    # YAML 1.1 takes `1e-5` for text, because it has no dot.
    with suppress(ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def _table(node: Node, *keys: str) -> Node:
    """Check that a node holds keys, and no other than these; any, where there are none."""
    for key in node.value if isinstance(node.value, Mapping) else ():
        if key in _REFUSED:
            raise node[key].error(f"{key!r} is not supported", _REFUSED[key])
        if keys and key not in keys and (place := _place(str(key), node)):
            raise node[key].error(f"no key named {key!r}", place)
    return node.table(*keys)


def _place(key: str, node: Node) -> str:
    """Say where a key belongs that stands in the wrong place; nothing for one unknown anywhere."""
    if key in _TOP:
        return f"{key} belongs at the top of the config."
    if node.path[-1:] != ("parameters",) and any(key in OPERATORS[n].knobs for n in OPERATORS):
        return f"{key} belongs under `parameters`."
    return "layer_range belongs to a source of a slice." if key == "layer_range" else ""


def _one_of(node: Node, *kinds: str) -> str:
    found = [kind for kind in kinds if kind in node]
    if len(found) == 1:
        return found[0]
    law = f"{' and '.join(found)} stand together" if found else f"no {' or '.join(kinds)}"
    raise (node[found[1]] if found else node).error(law, "Keep one of these keys.")


def _dtype(node: Node) -> str | None:
    name = node.text()
    return dtype_of(name, str(node)) if name else None


def _is_range(value: Any) -> bool:
    whole = isinstance(value, list) and [type(v) for v in value] == [int, int]
    return whole and 0 <= value[0] < value[1]
