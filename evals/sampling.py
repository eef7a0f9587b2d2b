"""From logits to tokens, with a random stream for each (item, sample) and none for the batch.

Greedy is the arg max. With a temperature, a token is the inverse of the cumulative distribution at
a number drawn from the row's own stream, so a sample is the same whatever else stands in its
batch, in whatever order, on whatever backend. Nucleus cut (top-p): the smallest set of most likely
tokens whose mass reaches p (Holtzman et al., arXiv 1904.09751).
"""

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor


def stream(seed: int, name: str, sample: int) -> Random:
    """Return the random stream of one (item, sample) under a seed."""
    return Random(f"{seed}/{name}/{sample}")  # a string seed is stable across processes


def pick(logits: Tensor, streams: Sequence[Random], temperature: float, top_p: float) -> Tensor:
    """Choose a token for each row.

    `logits` is (rows, vocabulary) of any float dtype; returns (rows,) int64. `streams` has one
    entry a row and is not touched when the temperature is 0.
    """
    if temperature == 0:
        return logits.argmax(-1)
    likely = torch.softmax(logits.double() / temperature, -1)
    dice = torch.tensor([[s.random()] for s in streams], dtype=likely.dtype, device=likely.device)
    if top_p == 1:  # nothing to cut off, nothing to sort
        total = likely.cumsum(-1)
        place = torch.searchsorted(total, total[:, -1:] * dice, right=True)
        return place.clamp(max=likely.shape[-1] - 1).squeeze(-1)
    # Sorted by descending probability; a stable sort, so that ties do not depend on the batch.
    mass, order = likely.sort(stable=True, dim=-1, descending=True)
    total = mass.cumsum(-1)
    kept = (total - mass < top_p).sum(-1, keepdim=True)  # at least one: the first has 0 < top_p
    rank = torch.searchsorted(total, total.gather(-1, kept - 1) * dice, right=True)
    return order.gather(-1, rank.clamp(max=kept - 1)).squeeze(-1)
