"""The compiled loops of native.c, for tensors that suit them.

Shortcuts and nothing else: each call stands beside the torch code that says what is computed, does
the same arithmetic in one pass over memory instead of many, and gives the same bits
(tests/test_native.py). CUDA, float64 and an install without a C compiler take the torch code.
"""

import ctypes
from collections.abc import Sequence
from contextlib import suppress
from ctypes import POINTER, c_double, c_float, c_int, c_int64, c_void_p
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from merger.late import Tensor, np, torch

_READ = ("float32", "bfloat16")
_KINDS = {"float32": 0, "bfloat16": 1, "float64": 2}  # as native.c numbers them
_TENSORS, _FLOATS = POINTER(c_void_p), POINTER(c_float)
_NUMBERS, _COUNTS = POINTER(c_double), POINTER(c_int64)
_VOTE = c_int, c_int, c_float, c_float
_SIGNATURES = {
    "changes": [c_int64, c_int64, c_int, _TENSORS, c_void_p, _FLOATS, c_void_p],
    "weighted_sum": [c_int64, c_int64, c_int, _TENSORS, _NUMBERS, c_int, c_void_p],
    "elect": [c_int64, c_int64, c_void_p, _TENSORS, _FLOATS, *_VOTE, c_void_p],
    "tally": [c_int64, c_void_p, c_float, c_float, c_void_p, _COUNTS],
}


def _load() -> Any:
    """Return the library that setup built beside this file, or None."""
    with suppress(OSError):
        library = ctypes.CDLL(str(Path(__file__).with_name(f"_native{EXTENSION_SUFFIXES[0]}")))
        for name, kinds in _SIGNATURES.items():
            getattr(library, name).argtypes = kinds
        library.tally.restype = c_int64
        return library
    return None


LIBRARY = _load()
Tensors = Sequence[Tensor] | Tensor  # a tensor stands for its rows along the first axis


def suits(tensors: Tensors, *kinds: str) -> bool:
    """Say whether the loops are there and take these tensors, all of one such dtype."""
    kind = tensors[0].dtype
    return (
        LIBRARY is not None
        and _name(kind) in (kinds or _READ)
        and all(t.dtype == kind and t.is_cpu and t.is_contiguous() for t in tensors)
    )


def takes(entries: Any) -> bool:
    """Say whether the loops are there and take these entries, one axis."""
    array = LIBRARY is not None and isinstance(entries, np.ndarray)
    return array and entries.dtype == np.float32 and entries.flags.c_contiguous


def changes(tensors: Tensor, base: Tensor, bounds: Sequence[float] | None = None) -> Tensor:
    """Return tensors − base as float32, what is not above its bound zeroed; without, magnitudes."""
    out, count = torch.empty(tensors.shape, dtype=torch.float32), len(tensors)
    limits = None if bounds is None else (c_float * count)(*bounds)
    read = base.numel(), _KINDS[_name(base.dtype)], _places(tensors), base.data_ptr()
    LIBRARY.changes(count, *read, limits, out.data_ptr())
    return out


def weighted_sum(tensors: Tensors, weights: Sequence[float]) -> Tensor:
    """Return Σ wᵢ·xᵢ in float64."""
    out = torch.empty(tensors[0].shape, dtype=torch.float64)
    kinds, places = (_name(tensors[0].dtype), "float64"), [t.data_ptr() for t in tensors]
    sum_up(kinds, out.numel(), places, weights, out.data_ptr())
    return out


def sums(kind: str) -> bool:
    """Say whether `sum_up` reads and writes entries of a kind, named as in torch."""
    return LIBRARY is not None and kind in _READ


def sum_up(
    kinds: tuple[str, str],
    entries: int,
    places: Sequence[int],
    weights: Sequence[float],
    out: int,
) -> bool:
    """Put Σ wᵢ·xᵢ, added in float64, at `out`; say whether all sums are finite.

    Entries of the first kind lie at some places in memory; those at `out` are of the second.
    """
    count, (read, written) = len(places), (_KINDS[kind] for kind in kinds)
    terms = (c_void_p * count)(*places), (c_double * count)(*weights)
    return bool(LIBRARY.weighted_sum(count, entries, read, *terms, written, out))


def elect(
    base: Tensor,
    changes: Tensors,
    weight: Sequence[float],
    *,
    weighted: bool,
    normalize: bool,
    least: float,
    scale: float,
) -> Tensor:
    """Return base + scale · the mean of the changes that share the elected sign, float32.

    `least` is what a mean is divided by at least; if it is 0, a sum of weights of 0 counts as 1.
    """
    out, count = torch.empty_like(base), len(changes)
    voters = count, out.numel(), base.data_ptr(), _places(changes), (c_float * count)(*weight)
    LIBRARY.elect(*voters, weighted, normalize, least, scale, out.data_ptr())
    return out


def tally(entries: "np.ndarray", low: float, high: float) -> "tuple[int, int, int, np.ndarray]":
    """Count entries above `high`, at or above it, and at a lower bound; return those between."""
    held, counts = np.empty(len(entries), np.float32), (c_int64 * 3)()
    inside = LIBRARY.tally(len(entries), entries.ctypes.data, low, high, held.ctypes.data, counts)
    return counts[0], counts[1], counts[2] if low < high else 0, held[:inside]


def _name(dtype: "torch.dtype") -> str:
    return str(dtype).removeprefix("torch.")


def _places(tensors: Tensors) -> Any:
    return (c_void_p * len(tensors))(*(t.data_ptr() for t in tensors))
