"""A merge of the same experts that is no point of the search space: any operator, or parts undone.

A variant is a merge config, then two edits of what came out: `scale` moves the model along the way
from the base (1 leaves it, 0 is the base, 2 doubles the change), `reset` puts a band of layers or a
kind of module back to the base. It has what a world asks of a candidate: a key and a description.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from merger.names import layer_of, module_of
from search.candidate import Candidate

AT_BASE = "@base"  # stands for the base where a config names models


@dataclass(frozen=True)
class Variant:
    """A config as JSON, with experts by short name and the base as `@base`, and the two edits."""

    label: str
    config: str
    scale: float = 1.0
    reset: str = ""

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that take part, in their order."""
        return tuple(m["model"] for m in self.told()["models"] if m["model"] != AT_BASE)

    @property
    def key(self) -> str:
        """Twelve hex digits that two variants share if they are the same merge by definition."""
        facts = asdict(self) | {"label": ""}
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]

    def told(self) -> dict[str, Any]:
        """Return the config as plain data."""
        return dict(json.loads(self.config))

    def describe(self) -> str:
        """Return a short name for tables."""
        return f"{self.label} s{self.scale:g}" if self.scale != 1 else self.label

    def named(self, models: Mapping[str, str], base: str, dtype: str | None) -> dict[str, Any]:
        """Return the config that `merger merge` would run, before the edits."""
        places, config = {**models, AT_BASE: base}, self.told()
        config["models"] = [m | {"model": places[m["model"]]} for m in config["models"]]
        if "base_model" in config:
            config["base_model"] = base
        stated = {"dtype", "out_dtype"} & config.keys()
        return config | ({"dtype": "float32", "out_dtype": dtype} if dtype and not stated else {})

    def factor(self, name: str) -> float:
        """Return how much of a tensor's change stays: `scale`, or 0 where it is reset."""
        return 0.0 if self.reset and inside(self.reset, name) else self.scale


Merge = Candidate | Variant


def inside(part: str, name: str) -> bool:
    """Say whether a tensor belongs to a part: `layers 0-3` or a kind of module such as `attn`."""
    kind, _, band = part.partition(" ")
    if kind != "layers":
        return module_of(name) == kind
    first, _, last = band.partition("-")
    layer = layer_of(name)
    return layer is not None and int(first) <= layer.number <= int(last or first)
