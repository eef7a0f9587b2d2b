"""Teacher-forced log-likelihood: how likely a model finds a given continuation, no decoding.

A smooth and cheap companion of accuracy (the price of reading a prompt): good for ordering close
candidates or as a first look, never the number that is reported. A continuation is encoded on its
own, as generation would append it. Rows are padded on the right, which a causal model does not see.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

from evals.batching import cut
from evals.generate import Answerer
from merger.errors import EvalError

_LOGITS = 2**26  # numbers of logits held at once: 256 MB in float32


class LogLik(NamedTuple):
    """The log-likelihood of a continuation in nats, its tokens, and whether greedy would say it."""

    total: float
    n_tokens: int
    greedy: bool

    @property
    def mean(self) -> float:
        """The log-likelihood a token, in nats."""
        return self.total / self.n_tokens


class _Pair(NamedTuple):
    place: int
    prompt: list[int]
    said: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.said)


def log_likelihoods(answerer: Answerer, pairs: Sequence[tuple[str, str]]) -> list[LogLik]:
    """Return the log-likelihood of each (prompt, continuation), in the order given.

    Raises `EvalError` where a prompt or a continuation is empty, or both exceed the context.
    """
    encoded = [_encode(answerer, i, *pair) for i, pair in enumerate(pairs)]
    found: dict[int, LogLik] = {}
    room = _LOGITS // answerer.model.config.get_text_config().vocab_size
    longest_first = sorted(encoded, key=lambda p: (-p.length, p.place))
    for batch in cut(longest_first, lambda pair: pair.length, room):
        found |= _score(answerer, batch)
    return [found[i] for i in range(len(pairs))]


def _encode(answerer: Answerer, place: int, prompt: str, continuation: str) -> _Pair:
    tokens, said = (
        answerer.tokenizer.encode(text, add_special_tokens=False) for text in (prompt, continuation)
    )
    pair = _Pair(place, tokens, said)
    if not tokens or not said or pair.length > answerer.context:
        law = f"pair {place}: {len(tokens)} + {len(said)} tokens, of {answerer.context} it reads"
        raise EvalError(law, "Give both parts a text, shorter ones, or take another model.")
    return pair


@torch.no_grad()
def _score(answerer: Answerer, batch: Sequence[_Pair]) -> dict[int, LogLik]:
    device = next(answerer.model.parameters()).device
    width = max(p.length for p in batch)
    padded = torch.zeros(len(batch), width, dtype=torch.long)
    seen = torch.zeros(len(batch), width, dtype=torch.long)
    for row, pair in enumerate(batch):
        padded[row, : pair.length] = torch.tensor(pair.prompt + pair.said)
        seen[row, : pair.length] = 1
    logits = answerer.model(input_ids=padded.to(device), attention_mask=seen.to(device)).logits
    return {p.place: _read(logits[row], p) for row, p in enumerate(batch)}


def _read(logits: Tensor, pair: _Pair) -> LogLik:
    """Add up the log-probabilities of what was said; a token's logits stand one place before."""
    start = len(pair.prompt) - 1
    rows = logits[start : start + len(pair.said)].float()
    said = torch.tensor(pair.said, device=rows.device)
    nats = F.log_softmax(rows, -1).gather(-1, said[:, None]).double().sum()
    return LogLik(float(nats), len(pair.said), bool((rows.argmax(-1) == said).all()))
