"""What a reinforcement-learning stage is told: one flat record, two presets, checked before torch.

`STAGE_A` are the paper's settings for aligning one ability (arXiv 2505.10554 with the values of its
published scripts); `STAGE_C` are SimpleRL-Zoo's for domain RL (arXiv 2503.18892), which the paper
uses from there on. A step is one batch of answers and the `updates` of the policy made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from evals.rewards import REWARDS
from merger.errors import RecipeError
from merger.registry import unknown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
ALGORITHMS = ("reinforce++", "grpo")


@dataclass(frozen=True)
class Settings:
    """The knobs of one run of RL; lengths are in tokens, `seed` decides items and samples.

    `task` is one of ours or a JSONL file, whose answers `check` compares (see evals/own.py).
    `levels` are trained in the order given (empty: all there are), a level being left when the
    share of right answers over `window` steps reaches `promote_at` or its part of the steps is
    spent; `replay` of the prompts come from levels already left. `micro_batch` answers go through
    the model at once (0: all of an update's; 16 or so on a CPU). `lora` is a rank; 0 trains all
    weights. `device` is auto (a GPU where there is one), cpu or cuda. `threads` is for CPUs: two
    torch threads on busy cores were measured some twenty times slower than one.
    """

    task: str
    algorithm: str = "reinforce++"
    reward: str = "paper"
    check: str = "exact"
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
    device: str = "auto"
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
    settings = overlay(preset, options)
    REWARDS[settings.reward]  # raises with the nearest name
    for broken, law in _laws(settings):
        if broken:
            raise RecipeError(law, "See docs/rl.md for what each setting means.")
    return settings


def overlay(preset: T, options: Mapping[str, Any]) -> T:
    """Return a flat record with options laid over it, each of the type that stands there."""
    known = {field.name for field in fields(preset)}
    for key in options:
        if key not in known:
            raise unknown("setting", key, known)
    values = {key: _typed(key, value, getattr(preset, key)) for key, value in options.items()}
    return replace(preset, **values)


def as_record(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data, with a hash of the items where a file holds them."""
    record = {**asdict(settings), "levels": list(settings.levels)}
    if (file := Path(settings.task)).is_file():
        record["items"] = sha256(file.read_bytes()).hexdigest()[:16]
    return record


def _typed(key: str, value: Any, example: Any) -> Any:
    """Return a value from YAML as the type of its example: tuples, floats from whole numbers."""
    if isinstance(example, tuple):
        return tuple(_frozen(v) for v in (value if isinstance(value, list | tuple) else [value]))
    if isinstance(example, float) and (number := _number(value)) is not None:
        return number
    if type(value) is type(example):
        return value
    kind = type(example).__name__
    raise RecipeError(f"{key} is {value!r}, not a {kind}", f"The default is {example!r}.")


def _number(value: Any) -> float | None:
    """Read a float; YAML takes 1e-4 for a text, because it has no point."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _laws(s: Settings) -> list[tuple[bool, str]]:
    """Pair each law with whether it is broken."""
    counts = ("steps", "prompts_per_step", "updates", "max_new_tokens", "window", "save_every")
    shares = ("promote_at", "replay")
    per_update = s.answers // s.updates if s.updates > 0 else 0
    levels = all(isinstance(level, int) for level in s.levels)
    return [
        (not levels, f"levels are {list(s.levels)}, not whole numbers"),
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
