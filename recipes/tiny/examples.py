"""The cold start's settings and examples: an item by its address, answered as its phase says.

There are two phases. First almost everything is worked out, so that the traces are learned; then
the habit is taught: short items worked out, long ones offhand (docs/log.md).
Example i of a seed is a function of (seed, i) alone, so a resumed training sees what an
uninterrupted one would have seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evals.task import Item, draw_item, get_task
from recipes.packed import Run, Text, lay
from recipes.tiny.traces import completion, found, size

LONGEST = 208  # tokens of a worked answer; longer ones are given tersely


_SHORT = (("deduction", 3), ("induction", 8), ("abduction", 5), ("arithmetic", 0))
_MIX = ("deduction", 1), ("induction", 1), ("induction", 2), ("abduction", 1), ("arithmetic", 1)


class Phase(NamedTuple):
    """A stretch of the cold start: how much is worked out, of what, and the learning rate.

    `part` is its length relative to the others'; `rate` what both learning rates are multiplied
    with at its first and last step; `shares` of the items, in `mix` order.
    """

    part: int
    worked_short: float
    worked_long: float
    rate: tuple[float, float]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Settings:
    """What decides the base.

    `mix` is (task, level), `short` the largest size that counts as short.
    """

    steps: int = 6300
    batch: int = 32
    width: int = 128
    layers: int = 5
    heads: int = 4
    hidden: int = 352
    muon_lr: float = 0.008
    adam_lr: float = 1.5e-3
    seed: int = 0
    short: tuple[tuple[str, int], ...] = _SHORT
    mix: tuple[tuple[str, int], ...] = _MIX
    phases: tuple[Phase, ...] = (
        Phase(4200, 0.85, 0.85, (1.0, 0.35), (0.27, 0.07, 0.16, 0.42, 0.08)),
        Phase(2100, 0.95, 0.25, (0.35, 0.0), (0.27, 0.07, 0.16, 0.42, 0.08)),
    )

    def at(self, step: int) -> tuple[Phase, float]:
        """Return the phase of a step and the step's learning rate multiplier."""
        phases, start, end = [Phase(*p) for p in self.phases], 0.0, 0.0
        total = sum(phase.part for phase in phases)
        for phase in phases:
            start, end = end, end + self.steps * phase.part / total
            if step < end - 1e-6:
                break
        first, last = phase.rate
        rate = first + (last - first) * (step - start) / (end - start)
        return phase, rate * min(1.0, (step + 1) / 100)


class Batch(NamedTuple):
    """Texts laid out; `sources` are the places that say `wanted`, each of some weight, all (n,)."""

    run: Run
    sources: Tensor
    wanted: Tensor
    weights: Tensor


class Examples(torch.utils.data.IterableDataset[Batch]):
    """Batches of examples, of which the answers are learned, not the prompts."""

    def __init__(self, tokenizer: Any, settings: Settings, first: int) -> None:
        super().__init__()
        self.tokenizer, self.settings, self.first = tokenizer, settings, first

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches from step `first` on."""
        n = self.settings.batch
        for step in range(self.first, self.settings.steps):
            yield _batch([self.example(step * n + i) for i in range(n)])

    def example(self, index: int) -> tuple[list[int], int]:
        """Return the tokens of example `index` and the length of its prompt."""
        s = self.settings
        rng = Random(f"coldstart/{s.seed}/{index}")
        phase, _ = s.at(index // s.batch)
        name, level = rng.choices(s.mix, weights=phase.shares)[0]
        task = get_task(name)
        item = draw_item(task, level=level, split="train", seed=s.seed, index=index)
        short = size(item) <= dict(s.short)[name]
        worked = rng.random() < (phase.worked_short if short else phase.worked_long)
        prompt = self.tokenizer.apply_chat_template(
            task.messages(item), tokenize=False, add_generation_prompt=True
        )
        head = self._encode(prompt + task.prefill)
        tail = self._tail(item, worked and found(item))
        return head + (tail if len(tail) <= LONGEST else self._tail(item, False)), len(head)

    def _tail(self, item: Item, worked: bool) -> list[int]:
        return self._encode(completion(item, worked=worked) + self.tokenizer.eos_token)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


def _batch(rows: list[tuple[list[int], int]]) -> Batch:
    """Lay rows out; an example weighs the square root of its number of learned tokens."""
    run = lay([Text(ids, [*range(len(ids))], [0] * len(ids)) for ids, _ in rows])
    sources: list[int] = []
    wanted: list[int] = []
    weights: list[float] = []
    for (ids, prompt), start in zip(rows, run.starts, strict=True):
        learned = len(ids) - prompt
        sources += range(start + prompt - 1, start + len(ids) - 1)
        wanted += ids[prompt:]
        weights += [learned**-0.5] * learned
    return Batch(run, torch.tensor(sources), torch.tensor(wanted), torch.tensor(weights))
