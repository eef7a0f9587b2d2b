"""A plan as rows of a table and as one JSON document: the words of `explain` and `--dry-run`."""

from __future__ import annotations

from typing import Any

from merger.plan.model import Plan, Step

COLUMNS = ("tensor", "operator", "knobs", "dtype", ">bytes")


def plan_rows(plan: Plan) -> list[tuple[str, ...]]:
    """Return one row of COLUMNS per output tensor."""
    return [
        (s.name, s.operator or "copy", knobs_text(s), s.dtype, f"{s.nbytes:,}") for s in plan.steps
    ]


def knobs_text(step: Step) -> str:
    """Say the resolved knobs of a step: one number per expert where they differ."""
    if not step.operator:
        return f"from {step.sources[0].model}"
    return "  ".join(f"{name} {_value(value)}" for name, value in step.knobs.items())


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        told = [_value(v) for v in value]
        return told[0] if len(set(told)) == 1 else " ".join(told)
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
