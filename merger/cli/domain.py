"""merger domain: domain reinforcement learning from a merged model or a base (Stage C)."""

from __future__ import annotations

from typing import Any

from merger.cli import training as flags
from merger.cli.app import app


@app.command("domain")
def domain(
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
    """Continue a model in a domain by GRPO.

    The preset is SimpleRL-Zoo's: 1,024 prompts × 8 answers a step in 4 updates, reward for right
    answers alone; scale it to your machine with --prompts, --group and --set updates=1.
    """
    from recipes.rl.settings import STAGE_C

    given: dict[str, Any] = {
        "task": task,
        "levels": levels,
        "steps": steps,
        "prompts_per_step": prompts,
    }
    given |= {"group": group, "lr": lr, "max_new_tokens": max_new_tokens}
    given |= {"reward": reward, "device": device, "seed": seed}
    chosen = flags.settings_of(STAGE_C, given, settings or [])
    how = {"dry_run": dry_run, "verl": verl, "as_json": as_json}
    flags.go(model, out, chosen, reference=reference, family=family, **how)
