"""One row of the learning curve per step, from the trainer's metrics, and one line to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Column of the curve -> name among the trainer's metrics.
METRICS = {
    "reward": "rewards/reward/mean",
    "correct": "rewards/correct/mean",
    "format": "rewards/format/mean",
    "worked": "rewards/worked/mean",
    "kl": "kl",
    "entropy": "entropy",
    "length": "completions/mean_length",
    "truncated": "completions/clipped_ratio",
    "grad_norm": "grad_norm",
}


def make_row(step: int, metrics: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return a row: the step, what the caller adds, and the metrics that there are.

    `length` is in tokens, `entropy` in nats per token; `worked` is the share of answers that wrote
    anything before `</think>`.
    """
    values = {
        short: metrics[name] for short, name in METRICS.items() if metrics.get(name) is not None
    }
    return {"step": step, **more, **{key: round(float(v), 6) for key, v in values.items()}}


def line(row: Mapping[str, Any], steps: int) -> str:
    """Say a step in one line."""
    return (
        f"step {row['step']}/{steps}  level {row['level']}  reward {row['reward']:+.2f}  "
        f"correct {row['correct']:.0%}  worked {row['worked']:.0%}  length {row['length']:.0f}  "
        f"{row['seconds']:.1f} s"
    )
