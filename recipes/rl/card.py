"""The model card of a checkpoint that RL made: where it came from, with what, how it went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.rl.curve import ENDS, mean
from recipes.rl.settings import Settings, as_record

_METHODS = {
    "reinforce++": "REINFORCE++ (rewards whitened over the tokens of the batch)",
    "grpo": "GRPO (a baseline per group of answers)",
}


def make_card(model: Path, settings: Settings, curve: Sequence[dict[str, Any]]) -> str:
    """Return the text of README.md: front matter, origin, settings, first and last steps."""
    record = {k: v for k, v in as_record(settings).items() if k != "task"}
    knobs = "\n".join(f"| {key} | {value} |" for key, value in record.items())
    verb = "align" if settings.algorithm == "reinforce++" else "domain"
    return f"""---
library_name: transformers
tags: [merger, reinforcement-learning]
---
# {model.name}, trained on {settings.task}

{_METHODS[settings.algorithm]} from `{model.name}`, on items of the
task `{settings.task}` (split `train` where we draw them: none of them is ever asked in a search or
an evaluation).

    merger {verb} {model.name} --task {settings.task} --seed {settings.seed} --out OUT

{_story(curve)}

| setting | value |
|---|---|
{knobs}

`curve.jsonl` has a row for every step, `completions/` every prompt and answer.
"""


def _story(curve: Sequence[dict[str, Any]]) -> str:
    """Compare the first steps of a run with its last ones."""
    if not curve:
        return "No step was made."
    lines = ["| steps | reward | correct | format | tokens |", "|---|---|---|---|---|"]
    for name, rows in (("first", curve[:ENDS]), ("last", curve[-ENDS:])):
        ends = mean(rows)
        numbers = " | ".join(f"{ends[k]:.3f}" for k in ("reward", "correct", "format", "length"))
        lines.append(f"| {name} {len(rows)} | {numbers} |")
    return "\n".join(lines)
