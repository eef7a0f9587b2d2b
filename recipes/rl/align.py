"""From a checkpoint to a checkpoint by reinforcement learning on one task: Stage A and Stage C.

settings = make_settings(STAGE_A, {"task": "deduction", "steps": 120})
align(Path("base"), Path("ded"), settings)
"""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from merger.device import check_device
from merger.errors import RecipeError
from recipes.rl.curve import ENDS, mean
from recipes.rl.folder import Workplace, fingerprint
from recipes.rl.settings import STAGE_A, STAGE_C, Settings, as_record

_CARD = """---
library_name: transformers
tags: [merger, reinforcement-learning]
---
# {name}, trained on {task}

{method} from `{name}`, on items of the task `{task}` (split `train` where we draw
them: none of them is ever asked in a search or an evaluation).

    merger {verb} {name} --task {task} {words} --out OUT

{steps} steps; means over the first and the last {ends}: {told}.

`settings.json` holds every setting and the hash of the input, `curve.jsonl` a row for every step,
`completions/` every prompt and answer.
"""
_STAGES = {
    "reinforce++": ("align", STAGE_A, "REINFORCE++ (rewards whitened over the batch's tokens)"),
    "grpo": ("domain", STAGE_C, "GRPO (a baseline per group of answers)"),
}


def align(
    model: Path,
    out: Path,
    settings: Settings,
    *,
    reference: Path | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a checkpoint on one task by RL and write a plain checkpoint folder.

    Args:
        model: folder of the policy to start from.
        out: folder to make; raises `OutputError` where it exists. An OUT.partial that the same run
            left is continued.
        settings: see `recipes.rl.settings`: a preset with the task named.
        reference: folder of the frozen model that the KL is taken to; the policy's start if None.
        log: takes a line per step.

    Returns:
        `out`, with the weights (float32 on a CPU), tokenizer and template of `model`, a model card,
        `curve.jsonl` (a row per step; `curve.png` with matplotlib) and `completions/` (every prompt
        and answer, parquet); with LoRA also `adapter/`, which merges as an expert of `model`.
    """
    if settings.device != "auto":
        check_device(settings.device)
    place = Workplace(out, _record(model, reference, settings))
    if place.whole:
        place.appear()
        return out
    trainer = _door().make_trainer(model, reference or model, settings, place, log)
    start = place.checkpoint()
    done = int(start.name.split("-")[1]) // settings.updates if start else 0
    curve = place.curve(done)
    for row in curve:  # brings the curriculum to where the curve left it
        trainer.feed.curriculum.report(row["level_correct"])
    if trainer.is_world_process_zero():
        place.open(curve)
    if done:
        log(f"continuing after step {done} of {settings.steps}")
    trainer.run(start)
    trainer.save(place.part)
    if trainer.is_world_process_zero():
        place.finish(model, _card(model, settings, place.curve(settings.steps)))
    trainer.accelerator.wait_for_everyone()  # OUT is there for every process that goes on
    return out


def _door() -> Any:
    """Import the engine, which takes some ten seconds, or say what to install."""
    try:
        from recipes.rl import engine
    except ModuleNotFoundError as missing:
        law = f"reinforcement learning needs the package {missing.name!r}"
        raise RecipeError(law, "Install it: pip install 'merger[rl]'") from missing
    return engine


def _record(model: Path, reference: Path | None, settings: Settings) -> dict[str, Any]:
    """Return what makes a run this run: its settings and the content of its inputs."""
    if settings.lora and reference not in (None, model):
        law = "with LoRA the reference is the model itself, not another"
        raise RecipeError(law, "Leave the reference out or train all weights (lora: 0).")
    inputs = {"model": model} | ({"reference": reference} if reference else {})
    return {**as_record(settings), **{name: fingerprint(path) for name, path in inputs.items()}}


def _card(model: Path, settings: Settings, curve: list[dict[str, Any]]) -> str:
    """Return the text of README.md: origin, the command that makes it, first and last steps."""
    verb, preset, method = _STAGES[settings.algorithm]
    usual, words = as_record(preset) | {"task": settings.task}, []
    for key, value in as_record(settings).items():
        if key in usual and value != usual[key]:
            words += ["--set", shlex.quote(f"{key}={value}")]
    first, last = mean(curve[:ENDS]), mean(curve[-ENDS:])
    told = ", ".join(f"{key} {first[key]:.3g} → {last[key]:.3g}" for key in first)
    names = {"name": model.name, "task": settings.task, "verb": verb, "words": " ".join(words)}
    return _CARD.format(method=method, steps=len(curve), ends=ENDS, told=told, **names)
