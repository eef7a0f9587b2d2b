"""A plan as rows of a table and as one JSON document: the words of `explain` and `--dry-run`."""

from __future__ import annotations

from typing import Any

from merger.plan.model import Plan, Step

COLUMNS = ("tensor", "knobs of each expert", "dtype", ">bytes")
_UNITS = ("B", "kB", "MB", "GB", "TB")


def plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    """Return one row of COLUMNS per output tensor."""
    return [(s.name, knobs_text(s), s.dtype, bytes_text(s.nbytes)) for s in plan.steps]


def knobs_text(step: Step) -> str:
    """Say the knobs of each expert, in the experts' order, or where a copy is from."""
    if not step.operator:
        return f"copy of {step.sources[0].model}"
    each = {n: v for n, v in step.knobs.items() if isinstance(v, tuple)}
    return "  ".join(f"{name} {_value(value)}" for name, value in each.items()) or step.operator


def shared_text(plan: Plan) -> str:
    """Say the operator and the knobs of the whole merge; where tensors differ, first … last."""
    told = [plan.spec.method]
    for name, knob in plan.spec.operator.knobs.items():
        if knob.each or not plan.merged:
            continue
        ends = dict.fromkeys((plan.merged[0].knobs[name], plan.merged[-1].knobs[name]))
        told.append(f"{name} {' … '.join(map(_value, ends))}")
    return ", ".join(told)


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
