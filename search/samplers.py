"""Which of Optuna's samplers proposes: the one that was named, or what suits the problem's size.

`auto` is the Gaussian process while that is small, where it needs the fewest trials; beyond, CMA-ES
for plain numbers and TPE for everything else. What each is told beyond Optuna's own defaults stands
in one table.
"""

import hashlib
from importlib.util import find_spec
from typing import Any

from merger.errors import UsageError
from merger.registry import unknown
from search.space import Choice, Knobs

# Classes of Optuna's and what they are told; `auto` is one of them.
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gp": ("GPSampler", {}),
    "tpe": ("TPESampler", {}),
    "cmaes": ("CmaEsSampler", {"lr_adapt": True, "warn_independent_sampling": False}),
    "nsga": ("NSGAIISampler", {"population_size": 20}),
    "random": ("RandomSampler", {}),
}
SAMPLERS = ("auto", *KINDS)
MAX_KNOBS, MAX_POINTS = 12, 150  # of a Gaussian process


def suited(knobs: Knobs, finished: int, directions: int) -> str:
    """Return the sampler that `auto` stands for, by the size of the problem as it stands."""
    # A Gaussian process fits in 0.1–0.2 s here and wins below these sizes; beyond, others scale.
    if len(knobs) <= MAX_KNOBS and finished < MAX_POINTS:
        return "gp"
    words = any(isinstance(knob, Choice) for knob in knobs.values())
    plain = not words and directions == 1 and find_spec("cmaes") is not None
    return "cmaes" if plain else "tpe"


def sampler_of(name: str, directions: int) -> tuple[str, dict[str, Any]]:
    """Return a sampler's class and what it is told; UsageError for one that cannot be had.

    For `auto` it is what stands in for a small problem.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    if name == "cmaes" and directions > 1:
        raise UsageError("cmaes maximises one number, pareto has several", "Use gp or nsga.")
    if name == "cmaes" and find_spec("cmaes") is None:
        raise UsageError("sampler cmaes needs the package cmaes", "pip install 'merger[cmaes]'")
    return KINDS["gp" if name == "auto" else name]


def derive_seed(*parts: object) -> int:
    """Return a 32-bit seed from anything printable, without the collisions of sums."""
    return int(hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()[:8], 16)
