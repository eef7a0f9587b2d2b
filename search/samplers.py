"""Which sampler suits a search, and the seeds of its streams; what a sampler is stands in study."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec

from search.space import Choice, Range

SAMPLERS = ("auto", "gp", "tpe", "cmaes", "nsga", "random")
MAX_KNOBS, MAX_POINTS = 12, 150  # of a Gaussian process


def suited(knobs: Mapping[str, Range | Choice], finished: int, directions: int) -> str:
    """Return the sampler that `auto` stands for, by the size of the problem as it stands."""
    # A Gaussian process fits in 0.1–0.2 s here and wins below these sizes; beyond, others scale.
    if len(knobs) <= MAX_KNOBS and finished < MAX_POINTS:
        return "gp"
    words = any(isinstance(knob, Choice) for knob in knobs.values())
    plain = not words and directions == 1 and find_spec("cmaes") is not None
    return "cmaes" if plain else "tpe"


def derive_seed(*parts: object) -> int:
    """Return a 32-bit seed from anything printable, without the collisions of sums."""
    return int(hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:8], 16)
