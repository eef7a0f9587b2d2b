"""What a reinforcement-learning stage is told: one flat record, two presets, checked before torch.

`STAGE_A` are the paper's settings for aligning one ability (arXiv 2505.10554 with the values of its
published scripts); `STAGE_C` are SimpleRL-Zoo's for domain RL (arXiv 2503.18892), which the paper
uses from there on. A step is one batch of answers and the `updates` of the policy made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from merger.errors import RecipeError
from merger.registry import unknown

ALGORITHMS = ("reinforce++", "grpo")


@dataclass(frozen=True)
class Settings:
    """The knobs of one run of RL; lengths are in tokens, `seed` decides items and samples.

    `levels` are trained in the order given (empty: all of the task's), a level being left when the
    share of right answers over `window` steps reaches `promote_at` or its part of the steps is
    spent; `replay` of the prompts come from levels already left. `micro_batch` answers go through
    the model at once (0: all of an update's). `lora` is a rank; 0 trains all weights. `threads` is
    for CPUs: two torch threads on busy cores were measured some twenty times slower than one.
    """

    task: str
    algorithm: str = "reinforce++"
    reward: str = "paper"
    levels: tuple[int, ...] = ()
    steps: int = 200
    prompts_per_step: int = 32
    group: int = 4
    updates: int = 1
    lr: float = 5e-7
    temperature: float = 0.7
    max_new_tokens: int = 8192
    max_prompt_tokens: int = 512
    beta: float = 1e-3
    entropy: float = 1e-3
    clip: float = 0.2
    promote_at: float = 0.8
    window: int = 5
    replay: float = 0.1
    micro_batch: int = 0
    save_every: int = 20
    lora: int = 0
    vllm: bool = False
    threads: int = 1
    seed: int = 0

    @property
    def answers(self) -> int:
        """Answers per step, on all processes together."""
        return self.prompts_per_step * self.group


STAGE_A = Settings(task="")
STAGE_C = Settings(
    task="",
    algorithm="grpo",
    reward="binary",
    steps=100,
    prompts_per_step=1024,
    group=8,
    updates=4,
    temperature=1.0,
    max_prompt_tokens=1024,
    beta=1e-4,
    save_every=5,
)


def make_settings(preset: Settings, options: Mapping[str, Any]) -> Settings:
    """Lay options over a preset; raises when a key is unknown or a value cannot be meant."""
    known = {field.name for field in fields(Settings)}
    for key in options:
        if key not in known:
            raise unknown("RL setting", key, known)
    values = {key: _typed(key, value, getattr(preset, key)) for key, value in options.items()}
    settings = replace(preset, **values)
    for broken, law in _laws(settings):
        if broken:
            raise RecipeError(law, "See `merger align --help` for what each setting means.")
    return settings


def as_record(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data, for JSON and for model cards."""
    return {**asdict(settings), "levels": list(settings.levels)}


def _typed(key: str, value: Any, example: Any) -> Any:
    if isinstance(example, tuple):
        values = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(level, int) for level in values):
            return tuple(values)
    elif isinstance(example, float) and isinstance(value, (int, float)):
        return float(value)
    elif type(value) is type(example):
        return value
    kind = "list of whole numbers" if isinstance(example, tuple) else type(example).__name__
    raise RecipeError(f"{key} is {value!r}, not a {kind}", f"The default is {example!r}.")


def _laws(s: Settings) -> list[tuple[bool, str]]:
    """Pair each law with whether it is broken."""
    counts = ("steps", "prompts_per_step", "updates", "max_new_tokens", "window", "save_every")
    shares = ("promote_at", "replay")
    per_update = s.answers // s.updates if s.updates > 0 else 0
    return [
        (s.algorithm not in ALGORITHMS, f"algorithm {s.algorithm!r} is not one of {ALGORITHMS}"),
        *((getattr(s, k) < 1, f"{k} is {getattr(s, k)}, below 1") for k in counts),
        *((not 0 <= getattr(s, k) <= 1, f"{k} is {getattr(s, k)}, no share") for k in shares),
        (s.group < 2, f"group is {s.group}: a group needs 2 answers to differ"),
        (s.lr <= 0, f"lr is {s.lr}, not above 0"),
        (s.temperature <= 0, f"temperature is {s.temperature}: RL samples, so it is above 0"),
        (s.updates > 0 and s.answers % s.updates != 0, f"{s.answers} answers, {s.updates} updates"),
        (
            s.micro_batch > 0 and per_update % s.micro_batch != 0,
            f"micro_batch {s.micro_batch} does not divide the {per_update} answers of an update",
        ),
    ]
