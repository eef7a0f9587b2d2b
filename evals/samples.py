"""Sample files that lm-eval writes with `--log_samples`, read as scores by item.

One line a document and filter. A document is known by its number and hash, so that files of two
harness runs can be paired. The score is the first metric the line names that is a number, under the
filter that comes first.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from merger.errors import EvalError

_TASK = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d\d-\d\d")


def read_samples(path: Path) -> dict[str, dict[str, float]]:
    """Return {task: {item: score}} of one file; `EvalError` names the line that is wrong."""
    match = _TASK.match(path.name)
    task = match["task"] if match else "samples"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise EvalError(
            f"{path} cannot be read: {error}", "Name a samples_*.jsonl file."
        ) from error
    scores: dict[str, float] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            item, score = _read(f"{path}:{number}", line)
            scores.setdefault(item, score)
    return {task: scores}


def _read(where: str, line: str) -> tuple[str, float]:
    try:
        facts: dict[str, Any] = json.loads(line)
        item = f"{facts['doc_id']}#{facts.get('doc_hash', '')[:12]}"
        score = metric_of(facts)
    except (ValueError, KeyError, TypeError) as error:
        raise EvalError(
            f"{where}: no sample of lm-eval ({error})",
            "Write the file with `lm_eval --log_samples --output_path DIR`.",
        ) from error
    return item, score


def metric_of(sample: dict[str, Any], name: str | None = None) -> float:
    """Return the metric of this name, or the first one that is a number."""
    names = [name] if name else list(sample.get("metrics") or ())
    for metric in names:
        value = sample.get(metric)
        if isinstance(value, int | float):
            return float(value)
    raise KeyError(name or "metrics")
