"""Which rows stand in the batch of the fast engine: admit, step, drop the finished, admit again.

A prompt is read once and its row repeated for each sample. Every row has room for the longest
prompt and budget, so a batch never outgrows its token budget. Longest prompts first: rows that
attend together are then of about one length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from random import Random
from threading import Event
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from evals.fastloop import Decoder
from evals.sampling import pick, stream
from evals.threads import together

if TYPE_CHECKING:
    from evals.generate import Answered, Answerer, Finish, Request, Settings

Thing = TypeVar("Thing")
_REFILL = 0.9  # drop finished rows and admit others when fewer than this share is alive
_SHARE = 8192  # rows · width that are worth a thread of their own; below, Python decides the pace
_FEW = 8  # rows that the engine steps at least
_LOOK = 8  # tokens between two looks for a stop string
_PREFILL = 1_024  # tokens of prompts read at once; they are padded to the longest of a part


@dataclass
class _Row:
    """A row in the batch: what it answers and what it has said."""

    request: Request
    dice: Random
    said: list[int] = field(default_factory=list)
    finish: Finish = "length"
    done: bool = False


def run(
    answerer: Answerer, requests: Sequence[Request], settings: Settings
) -> Iterator[list[Answered]]:
    """Answer all requests; yield what is done whenever a batch is compacted."""
    waiting = sorted(requests, key=lambda r: (-len(r.tokens), -r.budget, r.name, r.sample))
    slots = max((len(r.tokens) + r.budget for r in waiting), default=1)
    few = max(_FEW, _SHARE // answerer.model.config.hidden_size)
    hands = max(1, min(answerer.hands, len(waiting) // few))
    most = max(1, min(answerer.max_rows, answerer.batch_tokens // slots) // hands)
    decoder, stop = Decoder(answerer.model), Event()
    batches = [
        _Batch(decoder, answerer, settings, waiting[hand::hands], most, slots, stop)
        for hand in range(hands)
    ]
    yield from together([batch.walk() for batch in batches], stop)


class _Batch:
    """The rows being answered, their cache, the token each says next, and who waits for a place."""

    def __init__(
        self,
        decoder: Decoder,
        answerer: Answerer,
        settings: Settings,
        waiting: Sequence[Request],
        most: int,
        slots: int,
        stop: Event,
    ) -> None:
        self.decoder, self.stop = decoder, stop
        self.ends, self.text, self.settings = answerer.ends, answerer.text, settings
        self.waiting, self.most = waiting, min(most, len(waiting))
        self.rows: list[_Row] = []
        self.cache = decoder.room(self.most, slots)
        self.next: Tensor = torch.empty(0, dtype=torch.long)

    def walk(self) -> Iterator[list[Answered]]:
        """Answer what waits, until all is done or the walk is stopped."""
        while (self.waiting or self.rows) and not self.stop.is_set():
            free = self.most - len(self.rows)
            self.admit(self.waiting[:free])
            self.waiting = self.waiting[free:]
            self.step_until_sparse()
            yield self.compact()

    def admit(self, requests: Sequence[Request]) -> None:
        """Read the prompts, once for all samples, and say each row's first token."""
        grouped = (list(g) for _, g in groupby(requests, key=lambda r: r.tokens))
        for part in cut(grouped, lambda g: len(g[0].tokens), _PREFILL):
            sizes = [len(g) for g in part]
            logits = self.decoder.prefill([g[0].tokens for g in part], sizes, self.cache)
            rows = [_Row(r, self._dice(r)) for g in part for r in g]
            first = self._pick(logits, rows)
            self.rows += rows
            self._note(first, rows)
            self.next = torch.cat((self.next, first))

    def step_until_sparse(self) -> None:
        """Say tokens until too few rows are alive to be worth the batch, or none."""
        spare = int((1 - _REFILL) * len(self.rows))
        while sum(dead := [r.done for r in self.rows]) <= spare and not all(dead):
            if self.stop.is_set():
                break
            self.next = self._pick(self.decoder.step(self.next, self.cache), self.rows)
            self._note(self.next, self.rows)

    def compact(self) -> list[Answered]:
        """Drop the finished rows and return what they said."""
        done = [row for row in self.rows if row.done]
        kept = self.cache.keep([not row.done for row in self.rows])
        self.next = self.next[torch.tensor(kept, dtype=torch.long)]
        self.rows = [self.rows[i] for i in kept]
        return [(r.request, r.said, r.finish) for r in done]

    def _pick(self, logits: Tensor, rows: Sequence[_Row]) -> Tensor:
        dice = [r.dice for r in rows]
        return pick(logits, dice, self.settings.temperature, self.settings.top_p)

    def _note(self, tokens: Tensor, rows: Sequence[_Row]) -> None:
        """Write down what the living rows said and see which are done."""
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row.done:
                continue
            row.said.append(token)
            if token in self.ends or self._stopped(row):
                row.finish = "stop"
            row.done = row.finish == "stop" or len(row.said) >= row.request.budget

    def _stopped(self, row: _Row) -> bool:
        """Look for a stop string, every few tokens as decoding text is not free."""
        if not row.request.stops or len(row.said) % _LOOK:
            return False
        text = self.text(row.said)
        return any(stop in text for stop in row.request.stops)

    def _dice(self, request: Request) -> Random:
        return stream(self.settings.seed, request.name, request.sample)


def cut(
    things: Iterable[Thing], length: Callable[[Thing], int], room: int
) -> Iterator[list[Thing]]:
    """Cut things, longest first, into parts that have room when padded to their longest."""
    part: list[Thing] = []
    for thing in things:
        if part and length(part[0]) * (len(part) + 1) > room:
            yield part
            part = []
        part.append(thing)
    if part:
        yield part
