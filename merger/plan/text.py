"""A plan as rows of a table and as one JSON document: the words of `explain` and `--dry-run`.

One row per output tensor with its resolved knobs, the drops with their reasons, and the line of
conservation: as many tensors in as are merged, copied and dropped.
"""

from pathlib import PurePath
from typing import Any

from merger.names import layer_of, placing
from merger.plan.model import Plan, Step

_UNITS = ("B", "kB", "MB", "GB", "TB")


def plan_table(plan: Plan) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return columns and one row per output tensor: what it is made of, format, bytes.

    A knob of each expert is a column of its own, its values in the experts' order, and so is one of
    the whole merge where tensors differ in it.
    """
    each = [name for name in plan.spec.operator.knobs if name not in _shared(plan)]
    laid = ["from"] if not plan.spec.experts or plan.copied else []
    rows = [
        (s.name, *(_from(s) for _ in laid), *_cells(s, each), s.dtype, bytes_text(s.nbytes))
        for s in plan.steps
    ]
    return ("tensor", *laid, *(each or ["operator"]), "dtype", ">bytes"), rows


def _cells(step: Step, each: list[str]) -> list[str]:
    if step.operator:
        return [_value(step.knobs[name]) for name in each] or [step.operator]
    return ["copied", *[""] * (len(each) - 1)]


def _from(step: Step) -> str:
    """Say where the tensors of a slice come from: `ded 3, ind 5`, models and their layers."""
    layers = [(PurePath(s.model).name, layer_of(s.tensor)) for s in step.sources]
    return ", ".join(f"{model} {layer.number}" if layer else model for model, layer in layers)


def drops_text(plan: Plan) -> list[str]:
    """Return the drops as lines, those of one layer (of slices) together."""
    place = placing(drop.tensor for drop in plan.dropped)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for drop in plan.dropped:
        layer = (
            place(drop.tensor) if not plan.spec.experts and layer_of(drop.tensor) else drop.tensor
        )
        groups.setdefault((drop.model, layer, drop.reason), []).append(drop.tensor)
    return [
        f"dropped: {model} {layer}" + (f", {len(n)} tensors" if len(n) > 1 else "") + f" ({reason})"
        for (model, layer, reason), n in groups.items()
    ]


def conservation(plan: Plan) -> str:
    """Say what became of every input tensor, and how many came out."""
    fates = [f"{count} {fate}" for fate, count in plan.fates.items() if count or fate == "dropped"]
    return f"{sum(plan.fates.values())} tensors in: {', '.join(fates)}; {len(plan.steps)} out"


def shared_text(plan: Plan) -> str:
    """Say the operator and the knobs that are one for the whole merge."""
    told = (f"{name} {_value(value)}" for name, value in _shared(plan).items())
    return ", ".join([plan.spec.method, *told])


def _shared(plan: Plan) -> dict[str, Any]:
    """Return the knobs of the whole merge in which no tensor differs from another."""
    values = {
        name: {step.knobs[name] for step in plan.merged}
        for name, knob in plan.spec.operator.knobs.items()
        if not knob.each
    }
    return {name: found.pop() for name, found in values.items() if len(found) == 1}


def bytes_text(count: float) -> str:
    """Say a number of bytes in three digits: 6.14 kB."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(_value(v) for v in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the plan as plain data: what `--json` prints."""
    return {
        "spec": plan.spec.to_mapping(),
        "steps": [_step(s) for s in plan.steps],
        "dropped": [vars(d) for d in plan.dropped],
        "notes": list(plan.notes),
        "bytes": plan.nbytes,
        "merged": len(plan.merged),
        "copied": len(plan.copied),
        "inputs": dict(plan.fates),
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "tensor": step.name,
        "operator": step.operator or "copy",
        "sources": [vars(s) for s in step.sources],
        "base": vars(step.base) if step.base else None,
        "knobs": {n: list(v) if isinstance(v, tuple) else v for n, v in step.knobs.items()},
        "dtype": step.dtype,
        "shape": list(step.shape),
        "bytes": step.nbytes,
    }
