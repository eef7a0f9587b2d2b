"""The model card of a checkpoint that RL made: where it came from, with what, how it went."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.rl.curve import ENDS, mean
from recipes.rl.settings import STAGE_A, STAGE_C, Settings, as_record

_STAGES = {
    "reinforce++": ("align", STAGE_A, "REINFORCE++ (rewards whitened over the batch's tokens)"),
    "grpo": ("domain", STAGE_C, "GRPO (a baseline per group of answers)"),
}


def make_card(model: Path, settings: Settings, curve: Sequence[dict[str, Any]]) -> str:
    """Return the text of README.md: origin, the command that makes it, first and last steps."""
    verb, preset, method = _STAGES[settings.algorithm]
    usual, words = as_record(preset) | {"task": settings.task}, []
    for key, value in as_record(settings).items():
        if key in usual and value != usual[key]:
            words += ["--set", shlex.quote(f"{key}={value}")]
    first, last = mean(curve[:ENDS]), mean(curve[-ENDS:])
    told = ", ".join(f"{key} {first[key]:.3g} → {last[key]:.3g}" for key in first)
    return f"""---
library_name: transformers
tags: [merger, reinforcement-learning]
---
# {model.name}, trained on {settings.task}

{method} from `{model.name}`, on items of the task `{settings.task}` (split `train` where we draw
them: none of them is ever asked in a search or an evaluation).

    merger {verb} {model.name} --task {settings.task} {" ".join(words)} --out OUT

{len(curve)} steps; means over the first and the last {ENDS}: {told}.

`settings.json` holds every setting and the hash of the input, `curve.jsonl` a row for every step,
`completions/` every prompt and answer.
"""
