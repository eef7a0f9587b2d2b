"""The cold start's training examples: an item by its address, answered as its phase says.

Example i of a seed is a function of (seed, i) alone, so a resumed training sees what an
uninterrupted one would have seen. A batch is cut into parts of like length, to save padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evals.task import Item, draw_item, get_task
from recipes.tiny.phases import Settings
from recipes.tiny.traces import completion, found, size

IGNORED = -100
PARTS = 3
LONGEST = 208  # tokens of a worked answer; longer ones are given tersely


class Part(NamedTuple):
    """Rows of like length: tokens and labels (rows, length) int64, weights (rows,)."""

    tokens: Tensor
    labels: Tensor
    weights: Tensor


class Examples(torch.utils.data.IterableDataset[list[Part]]):
    """Batches cut into parts of like length, padded right; prompts are not learned."""

    def __init__(self, tokenizer: Any, settings: Settings, first: int) -> None:
        super().__init__()
        self.tokenizer, self.settings, self.first = tokenizer, settings, first

    def __iter__(self) -> Iterator[list[Part]]:
        """Yield the batches from step `first` on."""
        for step in range(self.first, self.settings.steps):
            n = self.settings.batch
            rows = sorted((self.example(step * n + i) for i in range(n)), key=lambda r: len(r[0]))
            part = math.ceil(n / PARTS)
            yield [_pad(rows[i : i + part]) for i in range(0, n, part)]

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


def _pad(rows: list[tuple[list[int], int]]) -> Part:
    """Pad rows to one length; an example weighs the square root of its number of learned tokens."""
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    for i, (ids, prompt) in enumerate(rows):
        tokens[i, : len(ids)] = torch.tensor(ids)
        labels[i, prompt : len(ids)] = tokens[i, prompt : len(ids)]
    learned = (labels != IGNORED).sum(1)
    return Part(tokens, labels, learned.rsqrt())
