"""A candidate as a merge config: exact in our own words, and in mergekit's where it has the words.

Ours is what was scored, bit for bit. mergekit's is exact for a plain average (`linear`) and equal
to rounding for a scaled one (`task_arithmetic`); for a cut or elected change its nearest methods
are `ties` and `ram`, which differ, and the file says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from search.candidate import Candidate

Config = dict[str, Any]


def merge_config(
    candidate: Candidate, models: Mapping[str, str], base: str, dtype: str | None = None
) -> Config:
    """Return the config that `merger merge` runs; `models` maps experts to what names them there.

    `dtype` is the one written (the base's own by default); arithmetic is float32 or wider anyway.
    """
    if not candidate.weights:
        config: Config = {"merge_method": "linear", "models": [_model(base, 1.0)]}
    elif candidate.plain and candidate.scale == 1:
        config = {"merge_method": "linear", "base_model": base}
        config["models"] = [_model(models[name], w) for name, w in candidate.weights]
        config["parameters"] = {"normalize": True}
    else:
        config = {"merge_method": "consensus", "base_model": base}
        config["models"] = [_model(models[name], w) for name, w in candidate.weights]
        config["parameters"] = {
            "scale": candidate.scale,
            "density": candidate.density,
            "consensus": candidate.consensus,
        }
    config["dtype"] = "float32"
    return config | ({"out_dtype": dtype} if dtype else {})


def mergekit_config(
    candidate: Candidate, models: Mapping[str, str], base: str, dtype: str | None = None
) -> tuple[Config, str]:
    """Return mergekit's nearest config and a sentence on how near it is."""
    if not candidate.weights or (candidate.plain and candidate.scale == 1):
        return merge_config(candidate, models, base, dtype), "exact"
    shares = candidate.shares
    rest = {"dtype": "float32"} | ({"out_dtype": dtype} if dtype else {})
    scaled = [_model(models[name], candidate.scale * p) for name, p in shares.items()]
    if candidate.plain:
        config = _head("task_arithmetic", base) | {"models": scaled}
        return config | {"parameters": {"normalize": False}} | rest, "equal up to rounding"
    if candidate.consensus == "ram":
        config = _head("ram", base)
        config["models"] = [{"model": models[name]} for name in shares]
        return config | rest, "not the same: mergekit's ram has no shares, scale or density"
    config = _head("ties", base)
    config["models"] = [
        _model(models[name], p, density=candidate.density) for name, p in shares.items()
    ]
    config["parameters"] = {"normalize": True, "lambda": candidate.scale}
    why = "mergekit cuts all entries, not the changed ones"
    if candidate.consensus == "mean":
        why += ", and elects a sign"
    return config | rest, f"not the same: {why}"


def to_yaml(config: Config, *notes: str) -> str:
    """Return a config as YAML under comment lines."""
    head = "".join(f"# {line}\n" for note in notes for line in note.splitlines())
    return head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)


def _model(name: str, weight: float, **knobs: float) -> Config:
    return {"model": name, "parameters": {"weight": weight, **knobs}}


def _head(method: str, base: str) -> Config:
    return {"merge_method": method, "base_model": base}
