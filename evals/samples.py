"""Sample files that lm-eval writes with `--log_samples`, read as rows.

One line a document and filter. A document is known by its number and hash, so that files of two
harness runs can be paired. The score is the first metric the line names that is a number, under the
filter that comes first.
"""

import json
import re
from pathlib import Path
from typing import Any

from evals.jsonl import read_objects
from evals.ledger import Row
from merger.errors import EvalError

_TASK = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d\d-\d\d")


def read_samples(path: Path) -> tuple[str, list[Row], dict[str, dict[str, Any]]]:
    """Return the task of a file, its rows, and prompt and answer by item."""
    match = _TASK.match(path.name)
    rows: dict[str, Row] = {}
    asked: dict[str, dict[str, Any]] = {}
    for where, facts in read_objects(path, "samples of lm-eval"):
        try:
            row = sample_row(facts, metric_of(facts))
        except (KeyError, TypeError) as error:
            remedy = "Write the file with `lm_eval --log_samples --output_path DIR`."
            raise EvalError(f"{where}: no sample of lm-eval ({error})", remedy) from error
        rows.setdefault(row.item, row)
        asked[row.item] = asked_of(facts)
    return match["task"] if match else "samples", list(rows.values()), asked


def sample_row(sample: dict[str, Any], score: float) -> Row:
    """Return a sample as a row; what lm-eval does not tell (tokens, finish) is 0 and ""."""
    answers = sample.get("resps") or [[""]]
    first = answers[0][0]
    text = first if isinstance(first, str) else json.dumps(answers, default=str)
    answered = not any("[invalid]" in str(r) for r in sample.get("filtered_resps", ()))
    answered &= not sample.get("no_answer")  # of our exported tasks
    item = f"{sample['doc_id']}#{sample.get('doc_hash', '')[:12]}"
    return Row(item, 0, text, "", 0, bool(sample.get("format", 1)), answered, score, "lm_eval")


def asked_of(sample: dict[str, Any]) -> dict[str, Any]:
    """Return prompt and answer; a request has either of the two shapes that lm-eval writes."""
    asked = sample.get("arguments") or [""]
    first = asked.get("gen_args_0", {}).get("arg_0") if isinstance(asked, dict) else asked[0]
    prompt = first[0] if isinstance(first, list | tuple) else first
    return {"prompt": str(prompt), "answer": str(sample.get("target", ""))}


def metric_of(sample: dict[str, Any], name: str | None = None) -> float:
    """Return the metric of this name, or the first one that is a number."""
    names = [name] if name else list(sample.get("metrics") or ())
    for metric in names:
        value = sample.get(metric)
        if isinstance(value, int | float):
            return float(value)
    raise KeyError(name or "metrics")
