"""The spec: which experts, by which operator, with which knobs; frozen, and equal to its YAML.

Models are named as the user named them (a folder, an alias, a Hub id); whoever opens them resolves
the names. `experts` holds the models as listed, the base among them only if the config lists it.
What mergekit calls slices and modules are parts here: each has experts of its own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from merger.operators import OPERATORS, Operator
from merger.spec.setting import Setting

Knobs = Mapping[str, Setting]


@dataclass(frozen=True)
class ExpertSpec:
    """One model with the knobs that are its own; in a slice, its layers [first, last)."""

    model: str
    knobs: Knobs = field(default_factory=dict)
    layers: tuple[int, int] | None = None


@dataclass(frozen=True)
class PartSpec:
    """Layers of several models laid side by side and merged, or a module of them whole."""

    sources: tuple[ExpertSpec, ...]
    base: str | None = None
    knobs: Knobs = field(default_factory=dict)
    module: str = ""

    @property
    def whole(self) -> bool:
        """Whether the part is a module of its models, with no layers chosen."""
        return all(source.layers is None for source in self.sources)


@dataclass(frozen=True)
class MergeSpec:
    """A whole merge; build one from YAML by `load_spec`, or from weights by `merge_spec`."""

    method: str
    experts: tuple[ExpertSpec, ...] = ()
    base: str | None = None
    knobs: Knobs = field(default_factory=dict)
    parts: tuple[PartSpec, ...] = ()
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    chat_template: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    # What a merger.yaml recorded of the merge it rebuilds: no part of the spec itself.
    provenance: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def operator(self) -> Operator:
        """The registered operator of this merge."""
        return OPERATORS[self.method]

    @property
    def written_dtype(self) -> str | None:
        """The dtype of the written tensors, or None to keep each tensor's own."""
        return self.out_dtype or self.dtype

    @property
    def models(self) -> tuple[str, ...]:
        """Every model named, once, in order: the experts as listed, then the base."""
        listed = [e.model for e in self.experts]
        for part in self.parts:
            listed += [s.model for s in part.sources] + ([part.base] if part.base else [])
        return tuple(dict.fromkeys([*listed, *([self.base] if self.base else [])]))

    @property
    def modules(self) -> dict[str, list[PartSpec]]:
        """The parts by module; those of a merge without modules stand under an empty name."""
        return {m: [p for p in self.parts if p.module == m] for m in (p.module for p in self.parts)}

    @property
    def donor(self) -> str:
        """The model whose config and tokenizer the output takes: the base, else the first."""
        return self.base or self.models[0]

    def to_mapping(self) -> dict[str, Any]:
        """Return the spec as mergekit's YAML states it."""
        told: dict[str, Any] = {"merge_method": self.method}
        told |= {"base_model": self.base} if self.base else {}
        if not self.parts:
            told["models"] = [_source(expert) for expert in self.experts]
        elif "" in self.modules:
            told |= _body(self.parts)
        else:
            told["modules"] = {module: _body(parts) for module, parts in self.modules.items()}
        told |= _parameters(self.knobs)
        rest = ("dtype", "out_dtype", "tokenizer_source", "chat_template")
        return told | {name: getattr(self, name) for name in rest if getattr(self, name)}

    def hash(self) -> str:
        """Return a sha256 of what the spec says."""
        return hashlib.sha256(json.dumps(self.to_mapping()).encode()).hexdigest()


def _parameters(knobs: Knobs) -> dict[str, Any]:
    return {"parameters": {n: s.plain() for n, s in knobs.items()}} if knobs else {}


def _source(expert: ExpertSpec) -> dict[str, Any]:
    layers = {"layer_range": list(expert.layers)} if expert.layers else {}
    return {"model": expert.model, **layers, **_parameters(expert.knobs)}


def _body(parts: Sequence[PartSpec]) -> dict[str, Any]:
    if parts[0].whole:
        return {"models": [_source(s) for s in parts[0].sources], **_parameters(parts[0].knobs)}
    return {"slices": [_slice(part) for part in parts]}


def _slice(part: PartSpec) -> dict[str, Any]:
    base = {"base_model": part.base} if part.base else {}
    return {"sources": [_source(s) for s in part.sources], **base, **_parameters(part.knobs)}
