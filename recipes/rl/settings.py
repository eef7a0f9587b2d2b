"""What a reinforcement-learning stage is told: one flat record, two presets, checked before torch.

`STAGE_A` are the paper's settings for aligning one ability (arXiv 2505.10554 with the values of its
published scripts); `STAGE_C` are SimpleRL-Zoo's for domain RL (arXiv 2503.18892), which the paper
uses from there on. A step is one batch of answers and the `updates` of the policy made from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from merger.errors import RecipeError
from recipes.options import overlay
from recipes.rl.feed import full_name, get_reward, is_file, open_source

ALGORITHMS = ("reinforce++", "grpo")
_COUNTS = ["steps", "prompts_per_step", "updates", "max_new_tokens", "window", "save_every"]
_COUNTS += ["vllm_parallel"]


@dataclass(frozen=True)
class Settings:
    """The knobs of one run of RL; lengths are in tokens, `seed` decides items and samples.

    `task` is one of ours, several joined by + (prompts in turn), or a file of items, whose answers
    `check` compares (see evals/own.py).
    `levels` are trained in the order given (empty: all there are), a level being left when the
    share of right answers over `window` steps reaches `promote_at` or its part of the steps is
    spent; `replay` of the prompts come from levels already left. `micro_batch` answers go through
    the model at once (0: all of an update's; 16 or so on a CPU). `lora` is a rank; 0 trains all
    weights. `vllm` answers by vLLM on the same GPUs, which it shares: `vllm_memory` is its part of
    each, `vllm_parallel` how many hold one copy. `device` is auto (a GPU where there is one), cpu
    or cuda. `threads` is for CPUs: two torch threads on busy cores were measured some twenty times
    slower than one.
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
    vllm_memory: float = 0.3
    vllm_parallel: int = 1
    threads: int = 1
    seed: int = 0

    @property
    def answers(self) -> int:
        """Answers per step, on all processes together."""
        return self.prompts_per_step * self.group

    @property
    def on_gpu(self) -> bool:
        """Whether the run is to be on a GPU."""
        from torch import cuda

        return self.device == "cuda" or (self.device == "auto" and cuda.is_available())


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


def make_settings(
    preset: Settings, options: Mapping[str, Any], *, unseen: bool = False
) -> Settings:
    """Lay options over a preset; raises when a key is unknown or a value cannot be meant.

    `unseen` lets a file of items be missing for now.
    """
    settings = overlay(preset, {**options, "task": full_name(options["task"])})
    get_reward(settings.reward)  # raises with the nearest name
    for law in _laws(settings):
        raise RecipeError(law, "See docs/rl.md for what each setting means.")
    if not (unseen and is_file(settings.task) and not Path(settings.task).exists()):
        open_source(settings)  # raises for a file or a level that is not there
    return settings


def as_record(settings: Settings) -> dict[str, Any]:
    """Return the settings as plain data, with a hash of the items where a file holds them."""
    record = {**asdict(settings), "levels": list(settings.levels)}
    if (file := Path(settings.task)).is_file():
        record["items"] = sha256(file.read_bytes()).hexdigest()[:16]
    return record


def _laws(s: Settings) -> Iterator[str]:
    """Yield the laws that are broken."""
    for key in _COUNTS:
        if getattr(s, key) < 1:
            yield f"{key} is {getattr(s, key)}, below 1"
    for key in ("promote_at", "replay", "vllm_memory"):
        if not 0 <= getattr(s, key) <= 1:
            yield f"{key} is {getattr(s, key)}, no share"
    per_update, rows = s.answers // max(1, s.updates), s.micro_batch
    broken = {
        f"levels are {list(s.levels)}, not whole numbers": {*map(type, s.levels)} - {int},
        f"algorithm {s.algorithm!r} is not one of {ALGORITHMS}": s.algorithm not in ALGORITHMS,
        f"group is {s.group}: a group needs 2 answers to differ": s.group < 2,
        f"lr is {s.lr}, no number above 0": not 0 < s.lr < float("inf"),
        f"steps is {s.steps}, more than ten million": s.steps > 10_000_000,
        f"temperature is {s.temperature}: RL samples, so it is above 0": s.temperature <= 0,
        f"{s.answers} answers a step do not divide into {s.updates} updates": s.answers
        % max(1, s.updates),
        f"micro_batch {rows} does not divide the {per_update} answers of an update": rows > 0
        and per_update % rows,
    }
    yield from (law for law, found in broken.items() if found)
