"""From a checkpoint to a checkpoint by reinforcement learning on one task: Stage A and Stage C.

settings = make_settings(STAGE_A, {"task": "deduction", "steps": 120})
align(Path("base"), Path("ded"), settings)
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from merger.device import check_device
from merger.errors import RecipeError
from recipes.rl.card import make_card
from recipes.rl.folder import Workplace, fingerprint
from recipes.rl.settings import Settings, as_record


def align(
    model: Path,
    out: Path,
    settings: Settings,
    *,
    reference: Path | None = None,
    resume: bool = True,
    log: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a checkpoint on one task by RL and write a plain checkpoint folder.

    Args:
        model: folder of the policy to start from.
        out: folder to make; raises `OutputError` where it exists.
        settings: see `recipes.rl.settings`: a preset with the task named.
        reference: folder of the frozen model that the KL is taken to; the policy's start if None.
        resume: continue an OUT.partial of the same run that was killed; else refuse it.
        log: takes a line per step.

    Returns:
        `out`, with the weights (float32 on a CPU), tokenizer and template of `model`, a model card,
        `curve.jsonl` (a row per step; `curve.png` with matplotlib) and `completions/` (every prompt
        and answer, parquet); with LoRA also `adapter/`, which merges as an expert of `model`.
    """
    if settings.device != "auto":
        check_device(settings.device)
    place = Workplace(out, _record(model, reference, settings), resume=resume)
    if place.whole:
        place.appear()
        return out
    trainer = _door().make_trainer(model, reference or model, settings, place, log)
    start = place.checkpoint()
    done = int(start.name.split("-")[1]) // settings.updates if start else 0
    curve = place.curve(done)
    trainer.replay(curve)
    if trainer.is_world_process_zero():
        place.open()
        place.write_curve(curve)
    if done:
        log(f"continuing after step {done} of {settings.steps}")
    trainer.run(start)
    trainer.save(place.part)
    if trainer.is_world_process_zero():
        place.finish(model, make_card(model, settings, place.curve(settings.steps)))
    trainer.accelerator.wait_for_everyone()  # OUT is there for every process that goes on
    return out


def _door() -> Any:
    """Import the engine, which takes some ten seconds, or say what to install."""
    try:
        from recipes.rl import engine
    except ModuleNotFoundError as missing:
        raise RecipeError(
            f"reinforcement learning needs the package {missing.name!r}",
            "Install it: pip install 'merger[rl]'",
        ) from missing
    return engine


def _record(model: Path, reference: Path | None, settings: Settings) -> dict[str, Any]:
    """Return what makes a run this run: its settings and the content of its inputs."""
    if settings.lora and reference not in (None, model):
        raise RecipeError(
            "with LoRA the reference is the model itself, not another",
            "Leave the reference out or train all weights (lora: 0).",
        )
    inputs = {"model": model} if reference is None else {"model": model, "reference": reference}
    return {**as_record(settings), **{name: fingerprint(path) for name, path in inputs.items()}}
