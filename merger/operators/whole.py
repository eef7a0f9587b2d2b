"""Merge whole tensors that are already in memory: the short way to call an operator.

The engine does the same over blocks read from files; here the caller may choose the block to see
that it makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from merger.operators.base import OPERATORS
from merger.operators.survey import Block, Pick, Place, Size, run_survey


def merge_tensors(
    name: str,
    experts: Sequence[Tensor],
    base: Tensor | None = None,
    *,
    keys: Sequence[int] = (),
    block_rows: int | None = None,
    **knobs: Any,
) -> Tensor:
    """Merge tensors of one shape and one float dtype by the operator of that name.

    Args:
        name: a registered operator.
        experts: k tensors of any one shape; they are not written to.
        base: the tensor they started from, where the operator asks for one.
        keys: one random-stream key per expert, for operators that draw.
        block_rows: rows of the last axis taken at a time; None takes all.
        knobs: by their public names (`**{"lambda": 0.7}`); defaults fill the rest.

    Returns:
        A new tensor of the same shape and dtype.
    """
    made = OPERATORS[name]
    shape = experts[0].shape
    rows = [t.reshape(-1, shape[-1] if shape else 1) for t in experts]
    ground = base.reshape(rows[0].shape) if base is not None and made.base != "unused" else None
    size = Size(rows[0].shape[0], rows[0].shape[1], len(rows))
    given = made.defaults(len(rows)) | knobs

    step = block_rows or max(size.rows, 1)

    def blocks(pick: Pick = range) -> Iterator[Block]:
        for i in pick(-(-size.rows // step)):
            row, cut = i * step, slice(i * step, (i + 1) * step)
            place = Place(row * size.cols, tuple(keys) or tuple(range(len(rows))))
            yield Block(torch.stack([r[cut] for r in rows]), _rows(ground, cut), place)

    facts = run_survey(made.surveyed(size, given), blocks)
    done = [made(b.experts, b.base, knobs=given, facts=facts, place=b.place) for b in blocks()]
    return torch.cat(done).reshape(shape)


def _rows(tensor: Tensor | None, cut: slice) -> Tensor | None:
    return None if tensor is None else tensor[cut]
