"""A candidate as a merge config: exact in our own words, and in mergekit's where it has the words.

Ours is what was scored, bit for bit. mergekit's is exact for a plain average (`linear`) and equal
to rounding for a scaled one (`task_arithmetic`); for a cut or elected change its nearest methods
are `ties` and `ram`, which differ, and the file says so.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from merger.names import MODULES
from merger.operators import OPERATORS
from search.candidate import OWN, Candidate
from search.space import PARTS

Config = dict[str, Any]
DEPTHS = 9  # at which a bent share is stated


def merge_config(
    candidate: Candidate, models: Mapping[str, str], base: str, dtype: str | None = None
) -> Config:
    """Return the config that `merger merge` runs; `models` maps experts to what names them there.

    `dtype` is the one written (the base's own by default); arithmetic is float32 or wider anyway.
    """
    if not candidate.weights:
        config: Config = {"merge_method": "linear", "models": [_model(base, 1.0)]}
    elif candidate.plain and min(candidate.shares.values()) < 0:
        config = _summed(candidate, models, base)
    else:
        plain = candidate.plain and candidate.scale == 1
        config = {"merge_method": "linear" if plain else candidate.method, "base_model": base}
        along = _along(candidate)
        config["models"] = [_model(models[n], along.get(n, w)) for n, w in candidate.weights]
        config["parameters"] = {"normalize": True} if plain else _parameters(candidate)
        if "weight" not in OPERATORS[config["merge_method"]].knobs:
            config["models"] = [{"model": m["model"]} for m in config["models"]]
    return config | written_as(dtype)


def written_as(dtype: str | None) -> Config:
    """Return the keys that say in what is computed, and what is written if not the base's."""
    return {"dtype": "float32"} | ({"out_dtype": dtype} if dtype else {})


def _parameters(candidate: Candidate) -> Config:
    """Return the parameters that all experts share."""
    if candidate.method != OWN:
        return dict(candidate.knobs)
    factors, scale = dict(candidate.knobs), candidate.scale
    rules: Any = [
        {"filter": part, "value": round(scale * float(factors[kind]), 6)}
        for kind in PARTS
        if kind in factors
        for part in MODULES[kind]
    ]
    return {
        "scale": [*rules, {"value": scale}] if rules else scale,
        "density": candidate.density,
        "consensus": candidate.consensus,
    }


def _along(candidate: Candidate) -> dict[str, list[float]]:
    """Return the shares of each expert at evenly spread depths, where they are bent.

    log pᵢ(z) = log pᵢ + aᵢ·P₁(z) + bᵢ·P₂(z) + const by Legendre's polynomials, z from -1 to
    1; what lies between two depths is linear.
    """
    knobs = dict(candidate.knobs)
    if candidate.method != OWN or not any(":" in name for name in knobs):
        return {}
    z, grown = np.linspace(-1, 1, DEPTHS), {}
    for name, p in candidate.shares.items():
        slope, bend = (float(knobs.get(f"{letter}:{name}", 0.0)) for letter in "ab")
        grown[name] = p * np.exp(slope * z + bend * (1.5 * z**2 - 0.5))
    total = sum(grown.values())
    return {name: np.round(g / total, 6).tolist() for name, g in grown.items()}


def _summed(candidate: Candidate, models: Mapping[str, str], base: str) -> Config:
    """Return the literal sum of a plain candidate's changes."""
    scaled = [_model(models[n], candidate.scale * p) for n, p in candidate.shares.items()]
    head = {"merge_method": "task_arithmetic", "base_model": base}
    return head | {"models": scaled, "parameters": {"normalize": False}}


def mergekit_config(
    candidate: Candidate, models: Mapping[str, str], base: str, dtype: str | None = None
) -> tuple[Config, str]:
    """Return mergekit's nearest config and a sentence on how near it is."""
    if not candidate.weights or (candidate.plain and candidate.scale == 1):
        return merge_config(candidate, models, base, dtype), "exact"
    if candidate.method != OWN:
        return merge_config(candidate, models, base, dtype), "the method of the same name, near"
    if candidate.plain:
        return _summed(candidate, models, base) | written_as(dtype), "equal up to rounding"
    shares, along = candidate.shares, _along(candidate)
    if candidate.consensus == "ram":
        config: Config = {"merge_method": "ram", "base_model": base}
        config["models"] = [{"model": models[name]} for name in shares]
        why = "mergekit's ram has no shares, scale or density"
    else:
        config = {"merge_method": "ties", "base_model": base}
        config["models"] = [
            _model(models[name], along.get(name, p), density=candidate.density)
            for name, p in shares.items()
        ]
        config["parameters"] = {"normalize": True, "lambda": _parameters(candidate)["scale"]}
        elects = ", and elects a sign" if candidate.consensus == "mean" else ""
        why = f"mergekit cuts all entries, not the changed ones{elects}"
    return config | written_as(dtype), f"not the same: {why}"


def to_yaml(config: Config, *notes: str) -> str:
    """Return a config as YAML under comment lines."""
    head = "".join(f"# {line}\n" for note in notes for line in note.splitlines())
    return head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)


def _model(name: str, weight: float | list[float], **knobs: float) -> Config:
    return {"model": name, "parameters": {"weight": weight, **knobs}}
