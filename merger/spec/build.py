"""A spec from plain arguments: what flags, a search and Python code use instead of YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from merger.spec.model import MergeSpec
from merger.spec.parse import spec_from_mapping


def merge_spec(
    method: str,
    weights: Mapping[str, float | Mapping[str, Any] | None],
    *,
    base: str | None = None,
    knobs: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    out_dtype: str | None = None,
) -> MergeSpec:
    """Build a spec for models with one weight each (or a mapping of their own knobs).

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
    models = [
        {"model": m, "parameters": dict(w) if isinstance(w, Mapping) else {"weight": w}}
        if w is not None
        else {"model": m}
        for m, w in weights.items()
    ]
    told: dict[str, Any] = {"merge_method": method, "models": models}
    rest = {"base_model": base, "parameters": knobs or None, "dtype": dtype, "out_dtype": out_dtype}
    return spec_from_mapping(told | {k: v for k, v in rest.items() if v is not None})
