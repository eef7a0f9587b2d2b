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

from evals.drafts import CLOSE
from evals.fastloop import Decoder
from evals.sampling import pick, stream
from evals.threads import together

if TYPE_CHECKING:
    from evals.generate import Answered, Answerer, Finish, Request, Settings

Thing = TypeVar("Thing")
_REFILL = 0.9  # drop finished rows and admit others when fewer than this share is alive
_SHARE = 8192  # rows · width that are worth a thread of their own; below, Python decides the pace
_DRAFTED = 0.35  # of a row with a draft is left to be stepped: there are fewer rows a thread
_FEW = 8  # rows that the engine steps at least
_LOOK = 8  # tokens between two looks for a stop string
_PREFILL = 1_024  # tokens of prompts read at once; they are padded to the longest of a part


@dataclass
class _Row:
    """A row in the batch: what it answers and what it has said."""

    request: Request
    dice: Random
    draft: tuple[int, ...] = ()
    said: list[int] = field(default_factory=list)
    finish: Finish = "length"
    done: bool = False
    unsure: bool = False  # two tokens were too close: to be answered again, without the draft


def run(
    answerer: Answerer, requests: Sequence[Request], settings: Settings
) -> Iterator[list[Answered]]:
    """Answer all requests; yield what is done whenever a batch is compacted."""
    drafts = _drafts(answerer, requests, settings)
    waiting = [_Row(r, stream(settings.seed, r.name, r.sample), d) for r, d in drafts]
    waiting.sort(key=_order)
    slots = max((len(r.tokens) + r.budget for r in requests), default=1)
    few = max(_FEW, _SHARE // answerer.model.config.hidden_size)
    many = sum(_DRAFTED if row.draft else 1 for row in waiting)
    hands = max(1, min(answerer.hands, int(many / few)))
    most = max(1, min(answerer.max_rows, answerer.batch_tokens // slots) // hands)
    decoder, stop = Decoder(answerer.model), Event()
    batches = [
        _Batch(decoder, answerer, settings, waiting[hand::hands], most, slots, stop)
        for hand in range(hands)
    ]
    for group in together([batch.walk() for batch in batches], stop):
        if settings.temperature == 0:
            for request, said, _ in group:
                answerer.drafts.hear(answerer.digest, request.tokens, said)
        yield group
    if decoder.finite:
        for batch in batches:
            answerer.memory.give(batch.cache.buffer)


def _drafts(
    answerer: Answerer, requests: Sequence[Request], settings: Settings
) -> Iterator[tuple[Request, tuple[int, ...]]]:
    """Give each request a draft, where there is one and steps alone would say the same."""
    exact = settings.temperature == 0 and answerer.model.dtype == torch.float32
    for r in requests:
        drafted = exact and not r.stops
        yield r, answerer.drafts.draft(answerer.digest, r.tokens, r.budget) if drafted else ()


def _order(row: _Row) -> tuple[int, int, str, int]:
    request = row.request
    length = len(request.tokens) + len(row.draft)
    return (-length, -request.budget, request.name, request.sample)


@dataclass
class _Batch:
    """The rows being answered, their cache, the token each says next, and who waits for a place."""

    decoder: Decoder
    answerer: Answerer
    settings: Settings
    waiting: list[_Row]
    most: int
    slots: int
    stop: Event
    rows: list[_Row] = field(default_factory=list)
    next: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def __post_init__(self) -> None:
        self.most = min(self.most, len(self.waiting))
        self.cache = self.decoder.room(self.most, self.slots, self.answerer.memory)

    def walk(self) -> Iterator[list[Answered]]:
        """Answer what waits, until all is done or the walk is stopped."""
        while (self.waiting or self.rows) and not self.stop.is_set():
            free = self.most - len(self.rows)
            self.admit(self.waiting[:free])
            self.waiting = self.waiting[free:]
            self.step_until_sparse()
            yield self.compact()

    def admit(self, rows: Sequence[_Row]) -> None:
        """Read the prompts, once for all samples or with their drafts, and say first tokens."""
        plain = [row for row in rows if not row.draft]
        grouped = (list(g) for _, g in groupby(plain, key=lambda r: r.request.tokens))
        for part in cut(grouped, lambda g: len(g[0].request.tokens), _PREFILL):
            prompts, some = [g[0].request.tokens for g in part], [r for g in part for r in g]
            logits = self.decoder.prefill(prompts, [len(g) for g in part], self.cache)
            self._say(self._pick(logits, some), some)
        drafted = [row for row in rows if row.draft]
        for some in cut(drafted, lambda r: len(r.request.tokens) + len(r.draft), _PREFILL):
            texts = [r.request.tokens for r in some], [r.draft for r in some]
            said = self.decoder.verify(*texts, self.cache)
            for row, (tokens, margin) in zip(some, said, strict=True):
                row.said, row.unsure = tokens[:-1], margin < CLOSE
            self._say(torch.tensor([tokens[-1] for tokens, _ in said]), some)

    def _say(self, tokens: Tensor, rows: list[_Row]) -> None:
        """Let new rows say the first of their tokens that is not in the cache."""
        self.rows += rows
        self._note(tokens, rows)
        self.next = torch.cat((self.next, tokens))

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
        done = [row for row in self.rows if row.done and not row.unsure]
        self.waiting += [_Row(r.request, r.dice) for r in self.rows if r.unsure]
        kept = self.cache.keep([not row.done for row in self.rows])
        self.next = self.next[torch.tensor(kept, dtype=torch.long)]
        self.rows = [self.rows[i] for i in kept]
        return [(r.request, r.said, r.finish) for r in done]

    def _pick(self, logits: Tensor, rows: Sequence[_Row]) -> Tensor:
        """Choose tokens; see which rows with a draft are too close to be sure."""
        if any(r.draft for r in rows):
            best = logits.topk(2).values
            for row, close in zip(rows, (best[:, 0] - best[:, 1] < CLOSE).tolist(), strict=True):
                row.unsure |= close and bool(row.draft) and not row.done
        dice = [r.dice for r in rows]
        return pick(logits, dice, self.settings.temperature, self.settings.top_p)

    def _note(self, tokens: Tensor, rows: Sequence[_Row]) -> None:
        """Write down what the living rows said and see which are done."""
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row.done:
                continue
            row.said.append(token)
            if token in self.answerer.ends or self._stopped(row):
                row.finish = "stop"
            full = len(row.said) >= row.request.budget
            row.done = row.unsure or full or row.finish == "stop"

    def _stopped(self, row: _Row) -> bool:
        """Look for a stop string, every few tokens as decoding text is not free."""
        if not row.request.stops or len(row.said) % _LOOK:
            return False
        text = self.answerer.text(row.said)
        return any(stop in text for stop in row.request.stops)


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
