"""Sample files that lm-eval writes with `--log_samples`, read as scores by item.

One line a document and filter. A document is known by its number and hash, so that files of two
harness runs can be paired. The score is the first metric the line names that is a number, under the
filter that comes first.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from evals.jsonl import read_objects
from merger.errors import EvalError

_TASK = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d\d-\d\d")


def read_samples(path: Path) -> dict[str, dict[str, float]]:
    """Return {task: {item: score}} of one file; `EvalError` names the line that is wrong."""
    match = _TASK.match(path.name)
    task = match["task"] if match else "samples"
    scores: dict[str, float] = {}
    for where, facts in read_objects(path, "samples of lm-eval"):
        try:
            item = f"{facts['doc_id']}#{facts.get('doc_hash', '')[:12]}"
            scores.setdefault(item, metric_of(facts))
        except (KeyError, TypeError) as error:
            raise EvalError(
                f"{where}: no sample of lm-eval ({error})",
                "Write the file with `lm_eval --log_samples --output_path DIR`.",
            ) from error
    return {task: scores}


def metric_of(sample: dict[str, Any], name: str | None = None) -> float:
    """Return the metric of this name, or the first one that is a number."""
    names = [name] if name else list(sample.get("metrics") or ())
    for metric in names:
        value = sample.get(metric)
        if isinstance(value, int | float):
            return float(value)
    raise KeyError(name or "metrics")
