"""Less padding: answers of like length go through the model together, cut to what they need.

An aligned model mixes five-token answers with two-hundred-token ones; padded to the longest, most
of the work is on padding. The policy loss is a mean over all tokens of an update, so how its
answers are dealt into micro batches does not change its gradient. (The entropy bonus is a mean per
micro batch, as it was in the paper's code.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Batch = dict[str, Any]


class Chunk(NamedTuple):
    """Rows of a padded batch and the columns [left, right) that any of them fills."""

    rows: Tensor
    left: int
    right: int


def pack(batches: Sequence[Batch], per_update: int) -> list[Batch]:
    """Deal the rows of each update's micro batches anew, shortest first, and cut the padding.

    Args:
        batches: micro batches of a step, in order, equal in rows and columns; each has
            `prompt_ids` and `prompt_mask` (n, p), padded on the left, `completion_ids` and
            `completion_mask` (n, t), padded on the right, and more of shape (n,), (n, t) or ().
        per_update: micro batches per update of the policy.

    Returns:
        As many batches with as many rows each; columns of pure padding are gone.
    """
    packed: list[Batch] = []
    for start in range(0, len(batches), per_update):
        group = batches[start : start + per_update]
        whole = {key: _joined([batch[key] for batch in group]) for key in group[0]}
        mask = torch.cat([whole["prompt_mask"], whole["completion_mask"]], dim=1)
        answers_at = whole["prompt_mask"].shape[1]
        for chunk in chunks(mask, len(group[0]["prompt_mask"])):
            packed.append(_cut(whole, chunk, answers_at))
    return packed


def chunks(mask: Tensor, rows: int) -> Iterator[Chunk]:
    """Cut a (n, columns) batch into chunks of `rows`, like lengths together, shortest first."""
    for index in mask.sum(dim=1).argsort(stable=True).split(rows):
        filled = mask[index].any(dim=0).nonzero().flatten()
        yield Chunk(index, int(filled[0]), int(filled[-1]) + 1)


def _cut(whole: Batch, chunk: Chunk, answers_at: int) -> Batch:
    """Take a chunk's rows, and of the texts its columns."""
    kept = max(1, chunk.right - answers_at)

    def part(key: str, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        if value.dim() == 1:
            return value[chunk.rows]
        columns = slice(chunk.left, None) if key.startswith("prompt_") else slice(kept)
        return value[chunk.rows, columns]

    return {key: part(key, value) for key, value in whole.items()}


def _joined(values: Sequence[Any]) -> Any:
    """Concatenate what has rows; a number that stands for the whole step is the same in each."""
    first = values[0]
    return torch.cat(list(values)) if isinstance(first, Tensor) and first.dim() else first
