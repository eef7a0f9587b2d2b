"""merger align: one ability into one model by reinforcement learning (Stage A)."""

from __future__ import annotations

from typing import Any

from merger.cli import training as flags
from merger.cli.app import app


@app.command("align")
def align(
    model: flags.Model,
    task: flags.Task,
    out: flags.Out,
    reference: flags.Reference = None,
    levels: flags.Levels = None,
    steps: flags.Steps = None,
    prompts: flags.Prompts = None,
    group: flags.Group = None,
    lr: flags.Rate = None,
    max_new_tokens: flags.Tokens = None,
    reward: flags.Reward = None,
    settings: flags.Set = None,
    family: flags.Family = None,
    device: flags.Device = "auto",
    seed: flags.Seed = 0,
    dry_run: flags.DryRun = False,
    verl: flags.Verl = False,
    as_json: flags.Json = False,
) -> None:
    """Align a model to one task by REINFORCE++, easy to hard.

    The preset is the paper's: 32 prompts × 4 answers a step, KL 0.001, reward of format and answer.
    The output is a plain checkpoint with its learning curve; a killed run continues.
    """
    from recipes.rl.settings import STAGE_A

    given: dict[str, Any] = {
        "task": task,
        "levels": levels,
        "steps": steps,
        "prompts_per_step": prompts,
    }
    given |= {"group": group, "lr": lr, "max_new_tokens": max_new_tokens}
    given |= {"reward": reward, "device": device, "seed": seed}
    chosen = flags.settings_of(STAGE_A, given, settings or [])
    how = {"dry_run": dry_run, "verl": verl, "as_json": as_json}
    flags.go(model, out, chosen, reference=reference, family=family, **how)
