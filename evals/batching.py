"""Which rows stand in the batch of the fast engine: admit, step, drop the finished, admit again.

A prompt is read once and its row repeated for each sample. The room a row may come to need (prompt
and budget) is reserved when it enters, so a batch never outgrows its token budget. Longest prompts
first. A batch of very few rows is filled up with copies (evals/fastloop.py says why).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evals.fastloop import Cache, Decoder, enough
from evals.sampling import pick, stream

if TYPE_CHECKING:
    from evals.generate import Answered, Answerer, Finish, Request, Settings

_REFILL = 0.85  # drop finished rows and admit others when fewer than this share is alive
_LOOK = 8  # tokens between two looks for a stop string
_PREFILL = 4_096  # tokens of prompts read at once; they are padded to the longest of a part


@dataclass
class _Row:
    """A row in the batch: what it answers and what it has said."""

    request: Request
    dice: Random
    said: list[int] = field(default_factory=list)
    finish: Finish = "length"


def run(
    answerer: Answerer, requests: Sequence[Request], settings: Settings
) -> Iterator[list[Answered]]:
    """Answer all requests; yield what is done whenever the batch is compacted."""
    batch = _Batch(answerer, settings)
    waiting = sorted(requests, key=lambda r: (-len(r.tokens), -r.budget, r.name, r.sample))
    while waiting or batch.rows:
        fitting = batch.fitting(waiting)
        if fitting:
            batch.admit(waiting[:fitting])
            waiting = waiting[fitting:]
        batch.step_until_sparse()
        yield batch.compact()


class _Batch:
    """The rows being answered, their cache, and the token each says next."""

    def __init__(self, answerer: Answerer, settings: Settings) -> None:
        self.decoder = Decoder(answerer.model)
        self.ends, self.text = answerer.ends, answerer.text
        self.settings = settings
        self.max_rows, self.max_tokens = answerer.max_rows, answerer.batch_tokens
        self.rows: list[_Row] = []
        self.alive: list[bool] = []
        self.cache: Cache | None = None
        self.next: Tensor = torch.empty(0, dtype=torch.long)

    def fitting(self, waiting: Sequence[Request]) -> int:
        """Return how many of those waiting may enter; at least one when the batch is empty."""
        inside = [r.request for r in self.rows]
        width = max((_reserve(r) for r in inside), default=0)
        for n, request in enumerate(waiting):
            width = max(width, _reserve(request))
            rows = len(inside) + n + 1
            if rows > self.max_rows or rows * width > self.max_tokens:
                return max(n, 0 if inside else 1)
        return len(waiting)

    def admit(self, requests: Sequence[Request]) -> None:
        """Read the prompts, once for all samples, and say each row's first token."""
        grouped = [list(g) for _, g in groupby(requests, key=lambda r: r.tokens)]
        for part in _parts(grouped):
            logits, fresh = self.decoder.prefill([g[0].tokens for g in part])
            repeats = torch.tensor([len(g) for g in part])
            index = torch.arange(len(part)).repeat_interleave(repeats)
            rows = [_Row(r, self._dice(r)) for g in part for r in g]
            self._enter(rows, fresh.take(index), self._pick(logits[index], rows))

    def step_until_sparse(self) -> None:
        """Say tokens until too few rows are alive to be worth the batch, or none."""
        floor = _REFILL * len(self.rows)
        while any(self.alive) and sum(self.alive) > floor:
            if self.cache is None:
                return
            logits = self.decoder.step(self.next, self.cache)
            said = self._pick(logits[: len(self.rows)], self.rows)
            self._note(said, self.rows, 0)
            self.next = said[enough(len(self.rows))]

    def compact(self) -> list[Answered]:
        """Drop the finished rows and return what they said."""
        done = [r for r, alive in zip(self.rows, self.alive, strict=True) if not alive]
        keep = torch.tensor([i for i, alive in enumerate(self.alive) if alive], dtype=torch.long)
        self.rows = [self.rows[i] for i in keep.tolist()]
        self.alive = [True] * len(self.rows)
        filled = keep[enough(len(keep))] if self.rows else keep
        self.next = self.next[filled]
        self.cache = self.cache.take(filled) if self.cache is not None and self.rows else None
        return [(r.request, r.said, r.finish) for r in done]

    def _enter(self, rows: Sequence[_Row], fresh: Cache, first: Tensor) -> None:
        """Put rows that have said their first token behind those that are there."""
        there = torch.arange(len(self.rows))  # without the stand-ins that made up the number
        cache = fresh if self.cache is None else self.cache.take(there).join(fresh)
        tokens = torch.cat((self.next[there], first))
        self.rows += rows
        self.alive += [True] * len(rows)
        self._note(first, rows, len(there))
        filled = enough(len(self.rows))
        self.next = tokens[filled]
        self.cache = cache if len(filled) == cache.rows else cache.take(filled)

    def _pick(self, logits: Tensor, rows: Sequence[_Row]) -> Tensor:
        dice = [r.dice for r in rows]
        return pick(logits, dice, self.settings.temperature, self.settings.top_p)

    def _note(self, tokens: Tensor, rows: Sequence[_Row], offset: int) -> None:
        """Write down what the living rows said and see which are done."""
        for i, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True), offset):
            if self.alive[i]:
                row.said.append(token)
                if token in self.ends or self._stopped(row):
                    row.finish = "stop"
                self.alive[i] = row.finish != "stop" and len(row.said) < row.request.budget

    def _stopped(self, row: _Row) -> bool:
        """Look for a stop string, every few tokens as decoding text is not free."""
        if not row.request.stops or len(row.said) % _LOOK:
            return False
        text = self.text(row.said)
        return any(stop in text for stop in row.request.stops)

    def _dice(self, request: Request) -> Random:
        return stream(self.settings.seed, request.name, request.sample)


def _reserve(request: Request) -> int:
    return len(request.tokens) + request.budget


def _parts(grouped: list[list[Request]]) -> Iterator[list[list[Request]]]:
    """Cut prompts into parts that are read at once; the first of a part is its longest."""
    part: list[list[Request]] = []
    for group in grouped:
        if part and len(part[0][0].tokens) * (len(part) + 1) > _PREFILL:
            yield part
            part = []
        part.append(group)
    if part:
        yield part
