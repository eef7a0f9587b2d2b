"""The engines of transformers: `generate`, for any architecture, and `generate_batch` on CUDA.

Only its forward and its cache are used as they are: decoding is greedy over logits in which our own
sampler has already marked the token (evals/sampling.py), and the model's generation config is set
aside meanwhile, so that a repetition penalty or a temperature shipped with a model cannot slip in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from evals.sampling import pick, stream

if TYPE_CHECKING:
    from evals.generate import Answered, Answerer, Request, Settings


_PAGED = 512  # requests between two commits


class _Marked:
    """A logits processor that leaves one token possible: the one our sampler picks."""

    def __init__(self, streams: Sequence[Random], settings: Settings) -> None:
        self.streams, self.settings = streams, settings

    def __call__(self, ids: Tensor, logits: Tensor) -> Tensor:
        """Return logits of -inf but for the token picked in each row."""
        chosen = pick(logits, self.streams, self.settings.temperature, self.settings.top_p)
        return torch.full_like(logits, float("-inf")).scatter_(1, chosen[:, None], 0.0)


def run(
    answerer: Answerer, requests: Sequence[Request], settings: Settings
) -> Iterator[list[Answered]]:
    """Answer all requests, longest first; yield batch by batch."""
    waiting = sorted(requests, key=lambda r: (-len(r.tokens) - r.budget, r.name, r.sample))
    while waiting:
        width = len(waiting[0].tokens) + waiting[0].budget
        n = max(1, min(answerer.max_rows, answerer.batch_tokens // width))
        yield _batch(answerer, waiting[:n], settings)
        waiting = waiting[n:]


def run_paged(
    answerer: Answerer, requests: Sequence[Request], settings: Settings
) -> Iterator[list[Answered]]:
    """Answer greedy requests by continuous batching; what it cannot answer goes to `run`.

    Sampled ones too, as our streams are no part of it. It tells of failures by leaving results out.
    """
    places = range(0, 0 if settings.temperature else len(requests), _PAGED)
    for part in (requests[start : start + _PAGED] for start in places):
        with _plain_config(answerer, min(answerer.ends, default=0), max(r.budget for r in part)):
            found = answerer.model.generate_batch(
                inputs=[list(r.tokens) for r in part],
                generation_config=answerer.model.generation_config,
            )
        said = {tuple(f.prompt_ids): f.generated_tokens for f in found.values() if not f.error}
        yield [_cut(r, said[r.tokens], answerer.ends) for r in part if said.get(r.tokens)]
        yield from run(answerer, [r for r in part if not said.get(r.tokens)], settings)
    if settings.temperature:
        yield from run(answerer, requests, settings)


@torch.no_grad()
def _batch(answerer: Answerer, batch: Sequence[Request], settings: Settings) -> list[Answered]:
    """Generate one batch, padded on the left, and cut each row at its own end or budget."""
    device = next(answerer.model.parameters()).device
    width = max(len(r.tokens) for r in batch)
    pad = min(answerer.ends, default=0)
    ids = [[pad] * (width - len(r.tokens)) + list(r.tokens) for r in batch]
    mask = [[0] * (width - len(r.tokens)) + [1] * len(r.tokens) for r in batch]
    streams = [stream(settings.seed, r.name, r.sample) for r in batch]
    with _plain_config(answerer, pad, max(r.budget for r in batch)):
        full = answerer.model.generate(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=torch.tensor(mask, device=device),
            logits_processor=[_Marked(streams, settings)] if settings.temperature else None,
        )
    return [_cut(r, s, answerer.ends) for r, s in zip(batch, full[:, width:].tolist(), strict=True)]


def _cut(request: Request, said: list[int], ends: frozenset[int]) -> Answered:
    """Cut what a row said at its first end-of-text token or at its budget."""
    for n, token in enumerate(said[: request.budget], 1):
        if token in ends:
            return request, said[:n], "stop"
    return request, said[: request.budget], "length"


@contextmanager
def _plain_config(answerer: Answerer, pad: int, budget: int) -> Iterator[None]:
    """Put a bare greedy generation config into the model for a while."""
    from transformers import GenerationConfig

    model: Any = answerer.model
    before = model.generation_config
    ends = sorted(answerer.ends) or None
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=budget, eos_token_id=ends, pad_token_id=pad
    )
    try:
        yield
    finally:
        model.generation_config = before
