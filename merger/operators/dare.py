"""DARE: drop changes at random, rescale the rest, then add or elect (Yu et al. 2023).

Each entry of an expert is kept with probability `density`. As in mergekit the rest is rescaled to
the L1 norm of the whole, which the paper's 1/p does in expectation. The draws are a function of
seed, expert, tensor and index: the same in every run, whatever the order of work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from merger.operators.base import Laws
from merger.operators.draws import stream_key, uniform
from merger.operators.knobs import Seed
from merger.operators.sparse import sparse
from merger.operators.survey import Place

_PAPER = "https://arxiv.org/abs/2311.03099"


def bernoulli(
    changes: Tensor, cuts: Any, place: Place, *, density: Sequence[Any], seed: Seed
) -> Tensor:
    """Return which entries each expert keeps, (k, rows, cols) bool.

    Density is one number per expert, or one tensor of probabilities (rows, cols) each.
    """
    masks = [
        uniform(tuple(change.shape), stream_key(seed, key), place.start, change.device) < p
        for change, p, key in zip(changes, density, place.keys, strict=True)
    ]
    return torch.stack(masks)


_NAMES = {  # -> whether it elects, and what it does
    "dare_linear": (False, "Add the changes left after dropping at random."),
    "dare_ties": (
        True,
        "Add those changes left after dropping at random that share the elected sign.",
    ),
}
for _name, (_elect, _doc) in _NAMES.items():
    sparse(_name, bernoulli, _doc, elect=_elect, laws=Laws(random=True), paper=_PAPER)
