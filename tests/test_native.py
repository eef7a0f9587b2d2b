"""The compiled loops give the bits of the torch code beside them, whatever the numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merger import native
from merger.operators.changes import add_elected, weighted_sum
from merger.operators.magnitudes import ALL, NONE, Cut, tally
from merger.operators.survey import Block
from merger.operators.ties import magnitudes, trimmed

ODD = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, torch.inf, -torch.inf, torch.nan])


def numbers(seed, *shape, odd=9):
    """Return normal numbers, a third of them odd ones."""
    source = torch.Generator().manual_seed(seed)
    found = torch.randn(shape, generator=source)
    strange = torch.rand(shape, generator=source) < 1 / 3
    found[strange] = ODD[torch.randint(odd, (int(strange.sum()),), generator=source)]
    return found


def plain(work, *words, **how):
    """Return what the torch code alone computes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "LIBRARY", None)
        return work(*words, **how)


def same(one, other):
    """Say whether all bits are equal; of NaN there are many."""
    nan = torch.isnan(other)
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return (torch.isnan(one) == nan).all() and (one.view(kind) == other.view(kind))[~nan].all()


cases = given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 3000))


def test_the_loops_are_built():
    """Where the project is installed with a C compiler, as `make` does it, they are in use."""
    assert native.LIBRARY is not None


@settings(max_examples=60, deadline=None)
@cases
def test_weighted_sum(seed, count, size):
    """Sums in float64 of float32 and of bfloat16."""
    for kind in (torch.float32, torch.bfloat16):
        tensors = [*numbers(seed, count, size).to(kind)]
        weights = torch.randn(count, generator=torch.Generator().manual_seed(seed)).tolist()
        assert same(weighted_sum(tensors, weights), plain(weighted_sum, tensors, weights))


@settings(max_examples=60, deadline=None)
@cases
def test_rounded_sums(seed, count, size):
    """What is rounded on the way is what torch rounds: ties, subnormal numbers and NaN included."""
    tensors = [*numbers(seed, count, size)]
    tensors[0][::5] = tensors[0][::5].bfloat16() * (1 + 2**-8)  # between two of bfloat16
    places = [tensor.data_ptr() for tensor in tensors]
    weights = [1.0, *torch.randn(count, generator=torch.Generator().manual_seed(seed)).tolist()]
    for weight in (weights[:count], [1.0] + [0.0] * (count - 1)):
        wanted = plain(weighted_sum, tensors, weight)
        for kind in (torch.float32, torch.bfloat16):
            room = torch.empty(size, dtype=kind)
            kinds, at = ("float32", str(kind)[6:]), room.data_ptr()
            assert native.sum_up(kinds, size, places, weight, at) == bool(wanted.isfinite().all())
            assert same(room, wanted.to(kind))


@settings(max_examples=60, deadline=None)
@cases
def test_elected_changes(seed, count, size):
    """Every way to vote, to divide and to scale, with weights of both signs."""
    changes, base = numbers(seed, count, 1, size), numbers(seed + 1, 1, size)
    weights = torch.randn(count, generator=torch.Generator().manual_seed(seed)).tolist()
    for weight in (weights, [abs(w) for w in weights]):
        for how in (
            {"normalize": True},
            {"normalize": False, "scale": 0.7},
            {"normalize": True, "weighted": False, "least": 1e-6},
        ):
            found = add_elected(base, changes.clone(), weight, **how)
            assert same(found, plain(add_elected, base, changes.clone(), weight, **how))


@settings(max_examples=60, deadline=None)
@cases
def test_trimmed_changes(seed, count, size):
    """Changes with all, none or some of their entries kept, and their magnitudes."""
    experts, base = numbers(seed, count, 1, size), numbers(seed + 1, 1, size, odd=7)
    level = float((experts[0, 0, 0] - base[0, 0]).abs().nan_to_num(1.0))
    for cut in (ALL, NONE, Cut(level), Cut(level, 7), Cut(level, 7 + size // 2), Cut(0.0)):
        words = experts, base, [cut] * count, 7
        assert same(trimmed(*words), plain(trimmed, *words))
        stored = experts.bfloat16(), base.bfloat16(), *words[2:]
        assert same(trimmed(*stored), plain(trimmed, *stored))
    for block in (Block(experts, base, None), Block(*stored[:2], None)):
        assert same(magnitudes(block), plain(magnitudes, block))


@settings(max_examples=60, deadline=None)
@cases
def test_tally(seed, count, size):
    """Counts and entries between any two bounds, and at bounds that are one."""
    entries = numbers(seed, size, odd=7).abs().numpy()
    first, last = np.sort(entries[[0, -1]])
    for low, high in ((first, last), (last, last), (-1.0, np.inf)):
        bounds = float(low), float(high)
        found, wanted = tally(entries, *bounds), plain(tally, entries, *bounds)
        assert found[:3] == wanted[:3]
        assert np.array_equal(found[3], wanted[3])


def test_others_take_the_torch_code():
    """Float64, mixed dtypes and tensors with gaps do not suit; nothing of them is read wrongly."""
    gaps = torch.ones(2, 8)[:, ::2]
    for tensors in ([torch.ones(3).double()], [torch.ones(3), torch.ones(3).bfloat16()], [gaps]):
        assert not native.suits(tensors)
    assert weighted_sum([gaps, gaps], [1.0, 2.0]).eq(3).all()
