"""A merge of the same experts that is no point of the search space: any operator, or parts undone.

A variant is a merge config, then two edits of what came out: `scale` moves the model along the way
from the base (1 leaves it, 0 is the base, 2 doubles the change), `reset` puts a band of layers or a
kind of module back to the base. It has what a world asks of a candidate: a key and a description.

Below stand the merges that an ablation designs. Dropping an expert has two readings. *Drop to
base*: the expert is replaced by the base, the others' coefficients stay (so with `mean` the scale
shrinks by its share; with `sign` and `ram`, where only experts that count at an entry are averaged,
the scale stays). *Renormalise*: the others' shares are scaled up to 1 and the scale stays. For
`sign` and `ram` the two are one.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from merger.names import layer_of, module_of
from merger.operators import OPERATORS
from search.candidate import BASE, OWN, Candidate
from search.export import merge_config
from search.starts import average

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
M = TypeVar("M", Candidate, Merge)


def inside(part: str, name: str) -> bool:
    """Say whether a tensor belongs to a part: `layers 0-3` or a kind of module such as `attn`."""
    kind, _, band = part.partition(" ")
    if kind != "layers":
        return module_of(name) == kind
    first, _, last = band.partition("-")
    layer = layer_of(name)
    return layer is not None and int(first) <= layer.number <= int(last or first)


def variant(merge: Merge) -> Variant:
    """Return the same merge as a variant, whose edits can be changed."""
    if isinstance(merge, Variant):
        return merge
    config = merge_config(merge, {n: n for n in merge.experts}, AT_BASE)
    return Variant(merge.describe(), json.dumps(config))


def distinct(table: dict[str, M]) -> dict[str, M]:
    """Return each merge once, under the first of its names."""
    names = {merge.key: name for name, merge in reversed(table.items())}
    return {name: merge for name, merge in table.items() if names[merge.key] == name}


def coalition(winner: Merge, members: Collection[str]) -> Merge:
    """Return the winner with every expert outside `members` replaced by the base."""
    if not set(members) & set(winner.experts):
        return BASE
    if set(winner.experts) <= set(members):
        return winner
    if isinstance(winner, Variant):
        return _changed(winner, [n for n in winner.experts if n not in members], keep=True)
    shares = {name: w for name, w in winner.shares.items() if name in members}
    left = sum(map(abs, shares.values())) if winner.consensus == "mean" else 1.0
    return winner.having(shares, winner.scale * left)


def without(winner: Merge, dropped: str) -> Merge:
    """Return the winner with one expert replaced by the base."""
    return coalition(winner, [name for name in winner.experts if name != dropped])


def renormalised(winner: Merge, dropped: str) -> Merge:
    """Return the winner without an expert, its share given to the others in proportion."""
    if isinstance(winner, Variant):
        return _changed(winner, [dropped], keep=False)
    weights = {name: w for name, w in winner.weights if name != dropped}
    return winner.having(weights)


def renormalises(winner: Merge) -> bool:
    """Say whether the two readings of an expert's absence differ."""
    if isinstance(winner, Variant):
        fewest = max(1, OPERATORS[winner.told()["merge_method"]].experts[0])
        return len(winner.experts) > fewest
    return winner.method == OWN and winner.consensus == "mean" and len(winner.experts) > 1


def scaled(merge: Merge, factor: float) -> Merge:
    """Return the merge with its whole change from the base times a factor."""
    if factor == 1 or not merge.experts:
        return merge
    if isinstance(merge, Candidate) and merge.method == OWN:
        return merge.having(dict(merge.weights), round(merge.scale * factor, 12))
    whole = variant(merge)
    return replace(whole, scale=whole.scale * factor) if factor else BASE


def averages(
    sets: Iterable[frozenset[str]], experts: tuple[str, ...]
) -> dict[frozenset[str], Merge]:
    """Return the plain average of each set of experts: the warm starts of a search."""
    return {s: average(sorted(s, key=experts.index)) if s else BASE for s in sets}


def by_operator(experts: tuple[str, ...], only: Collection[str] = ()) -> dict[str, Merge]:
    """Return every operator that takes these experts with nothing but equal weights, by name.

    Operators with a density keep half: at 1 most of them are the plain average.
    """
    table: dict[str, Merge] = {}
    for name in OPERATORS:
        fewest, most = OPERATORS[name].experts
        knobs = OPERATORS[name].knobs
        asked = {n for n, k in knobs.items() if k.default is None} - {"weight"}
        fits = fewest <= len(experts) <= (most or len(experts))
        if asked or not fits or name == "consensus" or (only and name not in only):
            continue
        own = {"weight": 1 / len(experts)} if "weight" in knobs else {}
        kept = {n: 0.5 for n in ("density", "select_topk") if n in knobs}
        config: dict[str, object] = {"merge_method": name}
        config |= {"base_model": AT_BASE} if OPERATORS[name].base != "unused" else {}
        config["models"] = [{"model": e, "parameters": own} for e in experts]
        table[name] = Variant(name, json.dumps(config | ({"parameters": kept} if kept else {})))
    return table


def _changed(winner: Variant, dropped: Collection[str], *, keep: bool) -> Variant:
    """Put the base in the place of experts, or take them out of the list."""
    config = winner.told()
    config["models"] = [
        m | {"model": AT_BASE} if m["model"] in dropped else m
        for m in config["models"]
        if keep or m["model"] not in dropped
    ]
    how = "base for" if keep else "without"
    return replace(winner, label=f"{how} {', '.join(dropped)}", config=json.dumps(config))
