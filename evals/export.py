"""Our tasks for plain lm-eval: a folder of YAML, written from the table of tasks.

`lm_eval --include_path FOLDER --tasks merger_deduction --apply_chat_template` asks the same prompts
and scores by the same code as `merger eval`; the YAML points into this module, which lm-eval calls
back. Items are drawn when lm-eval loads a task, nothing is downloaded.
"""

from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from evals.asking import Ask
from evals.generate import Answerer, Settings
from evals.itemfile import item_at
from evals.kept import cache_folder
from evals.task import TASKS, Task, get_task, items

_METRICS = {"correct": True, "format": True, "no_answer": False}
_CALLBACKS = {"custom_dataset": "dataset", "doc_to_text": "prompt", "process_results": "score"}


def write_folder(
    out: Path | None = None,
    *,
    n: int = 200,
    split: str = "test",
    seed: int = 0,
    levels: tuple[int, ...] | None = None,
    budget: int | None = None,
) -> Path:
    """Write one YAML a task and one group of all; return the folder, absolute.

    Without a folder, one in the user's cache that is named by the arguments. `budget` is the token
    budget; lm-eval wants it smaller than the model's context.
    """
    import evals.tasks  # noqa: F401  the folder fills the table

    for known in TASKS:  # a split or level that is not there is said now, not by lm-eval
        items(TASKS[known], n=len(levels or ()) or 1, split=split, seed=seed, levels=levels)
    asked = {"n": n, "split": split, "seed": seed, "levels": list(levels) if levels else None}
    asked["budget"] = budget
    name = sha256(repr((asked, version("merger"))).encode()).hexdigest()[:12]
    folder = (out or cache_folder() / f"tasks-{name}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for task in (TASKS[name] for name in TASKS):
        text = _yaml_of(task, asked)
        (folder / f"merger_{task.name}.yaml").write_text(text, encoding="utf-8")
    group = {"group": "merger", "task": [f"merger_{name}" for name in TASKS]}
    (folder / "merger.yaml").write_text(yaml.safe_dump(group, sort_keys=False), encoding="utf-8")
    return folder


def _yaml_of(task: Task, asked: dict[str, Any]) -> str:
    """Return one task's YAML; `!function` lines are added as text, YAML's own dumper has none."""
    metrics = [
        {"metric": m, "aggregation": "mean", "higher_is_better": up} for m, up in _METRICS.items()
    ]
    config = {
        "task": f"merger_{task.name}",
        "dataset_kwargs": {"task": task.name, **asked},
        "output_type": "generate_until",
        "test_split": "test",
        "description": task.system,  # the system message, with --apply_chat_template
        "doc_to_target": "answer",
        "gen_prefix": task.prefill,
        "target_delimiter": "",
        "num_fewshot": 0,
        "generation_kwargs": {
            "until": [],
            "do_sample": False,
            "max_gen_toks": asked["budget"] or task.max_new_tokens,
        },
        "metric_list": metrics,
        "metadata": {"version": task.version},
    }
    calls = [f"{key}: !function evals.export.{name}" for key, name in _CALLBACKS.items()]
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True) + "\n".join(calls) + "\n"


def ask_exported(answerer: Answerer, config: Any, doc: dict[str, Any]) -> Ask | None:
    """Return what a document of an exported task asks of a live model; None of other tasks.

    As `merger eval` asks it: the same prompt without a chat template or where the template opens
    the reasoning itself, the model's own token budget where none was exported.
    """
    if config.custom_dataset is not dataset:
        return None
    item = item_at(doc["id"])
    task = get_task(item.task)
    budget = answerer.voice.budget(
        Settings(config.dataset_kwargs.get("budget")), task.max_new_tokens
    )
    return Ask(answerer.prompt(task, item), Settings(budget), (), whole=True)


def dataset(task: str = "", **options: Any) -> Any:
    """Return the items as a `datasets.DatasetDict` with the one split `test`.

    Called by lm-eval with the YAML's arguments and with metadata, which is not ours to read.
    """
    from datasets import Dataset, DatasetDict

    asked: dict[str, Any] = {name: options[name] for name in ("n", "split", "seed")}
    drawn = items(get_task(task), levels=tuple(options.get("levels") or ()) or None, **asked)
    rows = [{"id": i.id, "prompt": i.prompt, "answer": i.answer} for i in drawn]
    return DatasetDict({"test": Dataset.from_list(rows)})


def prompt(doc: dict[str, Any]) -> str:
    """Return the user's message of a document."""
    return str(doc["prompt"])


def score(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Score a completion by the task's own verifier."""
    item = item_at(doc["id"])
    said = get_task(item.task).check(results[0], item)
    told = {"correct": said.correct, "format": said.format, "no_answer": not said.parsed}
    return {metric: float(value) for metric, value in told.items()}
