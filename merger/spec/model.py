"""The spec: which experts, by which operator, with which knobs; frozen, and equal to its YAML.

Models are named as the user named them (a folder, an alias, a Hub id); whoever opens them resolves
the names. What mergekit calls slices and modules are parts here: each has sources of its own, the
base among them only if the config lists it.
"""

import hashlib
import json
from collections.abc import Mapping
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
    """A whole merge; build one from YAML by `load_spec`, or from weights by `merge_spec`.

    `parts` is never empty: a merge of whole models is a single part without a module.
    """

    method: str
    parts: tuple[PartSpec, ...]
    base: str | None = None
    knobs: Knobs = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    chat_template: str | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)
    text: str = field(default="{}", compare=False, repr=False)  # what it was read from, as JSON
    # What a merger.yaml recorded of the merge it rebuilds: no part of the spec itself.
    provenance: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def operator(self) -> Operator:
        """The registered operator of this merge."""
        return OPERATORS[self.method]

    @property
    def experts(self) -> tuple[ExpertSpec, ...]:
        """The models listed, where whole models are merged; none where parts of them are."""
        plain = self.parts[0].whole and not self.parts[0].module
        return self.parts[0].sources if plain else ()

    @property
    def written_dtype(self) -> str | None:
        """The dtype of the written tensors, or None to keep each tensor's own."""
        return self.out_dtype or self.dtype

    @property
    def models(self) -> tuple[str, ...]:
        """Every model named, once, in order: the experts as listed, then the base."""
        named = [m for p in self.parts for m in (*(s.model for s in p.sources), p.base)]
        return tuple(m for m in dict.fromkeys([*named, self.base]) if m)

    @property
    def modules(self) -> dict[str, list[PartSpec]]:
        """The parts by module; those of a merge without modules stand under an empty name."""
        return {m: [p for p in self.parts if p.module == m] for m in (p.module for p in self.parts)}

    @property
    def donor(self) -> str:
        """The model whose config and tokenizer the output takes: the base, else the first."""
        return self.base or self.models[0]

    def ground(self, part: PartSpec) -> str | None:
        """Return the base of a part, or of the whole merge."""
        return part.base or self.base

    def active(self, part: PartSpec) -> tuple[ExpertSpec, ...]:
        """Return the models that are merged: those listed, less the base where it is the ground.

        An operator that starts from the base does not count it among its experts, even if the
        config lists it; one without a base takes every model listed.
        """
        ground = None if self.operator.base == "unused" else self.ground(part)
        return tuple(e for e in part.sources if e.model != ground)

    def settings(self, part: PartSpec, expert: ExpertSpec | None, knob: str) -> list[Setting]:
        """Return the settings of a knob in the order they are asked: expert, part, whole merge."""
        tables = [expert.knobs if expert else {}, part.knobs, self.knobs]
        return [table[knob] for table in tables if knob in table]

    def to_mapping(self) -> dict[str, Any]:
        """Return the merge as mergekit's YAML states it, without a record of where it was made."""
        told: dict[str, Any] = json.loads(self.text)
        return told

    def hash(self) -> str:
        """Return a sha256 of what the spec says."""
        return hashlib.sha256(self.text.encode()).hexdigest()
