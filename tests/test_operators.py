"""Laws that every registered operator obeys, and its textbook version; a new file is tested too."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merger import native
from merger.errors import SpecError, UnknownNameError
from merger.operators import OPERATORS
from merger.operators.draws import stream_key, uniform
from tests import reference
from tests.strategies import merge_tensors, merges

EVERY = pytest.mark.parametrize("name", list(OPERATORS))


# The threshold of arcee_fusion is a step, so it is tested by hand and against golden numbers.
@pytest.mark.parametrize("name", [n for n in OPERATORS if n != "arcee_fusion"])
@settings(max_examples=12)
@given(data=st.data())
def test_agrees_with_the_textbook(name, data):
    """Every operator gives what its slow version gives, written from the paper."""
    case = data.draw(merges([name]))
    shape = case.experts[0].shape
    cols = shape[-1] if shape else 1
    experts = [e.reshape(-1, cols).numpy() for e in case.experts]
    base = None if case.base is None else case.base.reshape(-1, cols).numpy()
    slow = getattr(reference, name)(experts, base, **case.knobs)
    scale = 1 + np.abs(slow).max(initial=0)
    np.testing.assert_allclose(
        case.merge().reshape(-1, cols).numpy() / scale, slow / scale, atol=3e-6
    )


@EVERY
@settings(max_examples=6)
@given(data=st.data())
def test_no_change_merges_to_the_base(name, data):
    """Experts equal to the base, or to each other, give it back bit for bit."""
    case = data.draw(merges([name], changes=st.just("none")))
    free = {
        n: v for n, v in case.knobs.items() if n == "weight" or case.op.knobs[n].default is None
    }
    merged = merge_tensors(name, case.experts, case.base, keys=case.keys, **free)
    assert torch.equal(merged, case.experts[0])


@EVERY
@settings(max_examples=6)
@given(data=st.data())
def test_result_is_new_finite_and_alike(name, data):
    """The merged tensor could replace the base, and no input was written to or handed out."""
    case = data.draw(merges([name]))
    inputs = [t for t in (*case.experts, case.base) if t is not None]
    before = [t.clone() for t in inputs]
    merged = case.merge()
    assert (merged.shape, merged.dtype) == (inputs[0].shape, inputs[0].dtype)
    assert merged.isfinite().all()
    assert all(map(torch.equal, before, inputs))
    assert merged.data_ptr() not in {t.data_ptr() for t in inputs}


@EVERY
@settings(max_examples=6)
@given(data=st.data())
def test_order_of_experts_does_not_matter(name, data):
    """Shuffling the experts with their knobs and streams gives the same tensor."""
    case = data.draw(merges([name]))
    order = data.draw(st.permutations(range(len(case.experts))))
    each = {n: [v[i] for i in order] for n, v in case.knobs.items() if case.op.knobs[n].each}
    shuffled = case._replace(
        experts=[case.experts[i] for i in order],
        knobs=case.knobs | each,
        keys=tuple(case.keys[i] for i in order),
    )
    torch.testing.assert_close(shuffled.merge(), case.merge(), rtol=1e-5, atol=1e-6)


@EVERY
@settings(max_examples=6)
@given(data=st.data())
def test_blocks_change_no_bit(name, data):
    """Whatever rows are taken at a time, every bit is the same."""
    case = data.draw(merges([name]))
    rows = data.draw(st.integers(1, 7))
    assert torch.equal(case.merge(block_rows=rows), case.merge())


@EVERY
def test_threads_change_no_bit(name):
    """One thread and two give the same bits, on a tensor of several tiles and odd rows."""
    op, g = OPERATORS[name], torch.Generator().manual_seed(5)
    base = torch.randn(300, 333, generator=g)
    count = max(2, op.experts[0]) if op.experts[1] != 1 else 1
    experts = [base + 0.01 * torch.randn(300, 333, generator=g) for _ in range(count)]
    given_ = {n: 0.4 for n, k in op.knobs.items() if k.default is None}
    knobs = {n: [v] * count if op.knobs[n].each else v for n, v in given_.items()}
    knobs |= {"density": [0.4] * count} if "density" in op.knobs else {}
    ground = base if op.base == "required" else None
    one = merge_tensors(name, experts, ground, **knobs)
    torch.set_num_threads(2)
    try:
        two = merge_tensors(name, experts, ground, block_rows=101, **knobs)
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one, two)


@given(merges([n for n in OPERATORS if OPERATORS[n].laws.elementwise]))
def test_elementwise_operators_commute_with_cutting(case):
    """An operator that says it is elementwise may be given the tensor in pieces."""
    flat = [e.flatten() for e in case.experts]
    base = None if case.base is None else case.base.flatten()
    cut = len(flat[0]) // 2
    parts = [
        case._replace(experts=[f[s] for f in flat], base=None if base is None else base[s]).merge()
        for s in (slice(0, cut), slice(cut, None))
        if len(flat[0][s])
    ]
    assert torch.equal(torch.cat(parts), case.merge().flatten())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [n for n in OPERATORS if OPERATORS[n].line])
def test_stored_blocks_are_as_good_as_widened_ones(name, bad):
    """Blocks in bfloat16 give what widened ones give, and let no bad number pass unseen."""
    base, *experts = torch.randn(3, 5, 99, generator=torch.Generator().manual_seed(1)).bfloat16()
    knobs = {"weight": [0.7, 0.0]}
    merged = merge_tensors(name, experts, base, **knobs)
    widened = merge_tensors(name, [e.float() for e in experts], base.float(), **knobs)
    assert torch.equal(merged, widened.bfloat16())
    for expert in experts:
        expert[3, 7] = bad
        assert not merge_tensors(name, experts, base, **knobs)[3, 7].isfinite()
        expert[3, 7] = 0


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("name", [n for n in OPERATORS if OPERATORS[n].laws.stored])
def test_operators_that_take_what_is_stored_give_the_same(name, loops, monkeypatch):
    """What such an operator makes of bfloat16 is what it makes of these numbers in float32."""
    if not loops:
        monkeypatch.setattr(native, "LIBRARY", None)
    base, *experts = torch.randn(3, 60, 333, generator=torch.Generator().manual_seed(2)).bfloat16()
    choices = [(n, word) for n, k in OPERATORS[name].knobs.items() for word in k.choices]
    for density, choice in product((1.0, 0.4), choices):
        knobs = {"weight": [0.7, 0.4], "density": [density] * 2} | dict([choice])
        merged = merge_tensors(name, experts, base, **knobs)
        widened = merge_tensors(name, [e.float() for e in experts], base.float(), **knobs)
        assert torch.equal(merged, widened.bfloat16()), knobs


@given(n=st.integers(1, 300), density=st.floats(0.01, 1), grid=st.booleans())
def test_trim_keeps_exactly_k(n, density, grid):
    """Trim keeps max(1, int(density·n)) entries for every n, ties at the threshold or not."""
    change = torch.ones(n) if grid else torch.arange(1.0, n + 1)
    merged = merge_tensors("ties", [change], torch.zeros(n), weight=[1.0], density=[density])
    k = max(1, int(density * n))
    assert int(torch.count_nonzero(merged)) == k
    kept = range(k) if grid else range(n - k, n)
    assert merged.nonzero().flatten().tolist() == list(kept)


@given(merges(["ties"], changes=st.just("dense")))
def test_exact_threshold_of_wide_numbers(case):
    """In float64 the k-th magnitude is exact too: a sort in float64 keeps the same entries."""
    base = case.base.double()
    expert = base + case.experts[0].double() / 3
    merged = merge_tensors("ties", [expert], base, weight=[1.0], density=[0.4])
    change = (expert - base).flatten()
    k = max(1, int(0.4 * change.numel()))
    kept = change.abs().argsort(descending=True, stable=True)[:k].sort().values
    assert (merged - base).flatten().nonzero().flatten().tolist() == kept.tolist()


@pytest.mark.parametrize("kind", ["even", "ties", "sparse", "hidden"])
@pytest.mark.parametrize("density", [0.003, 0.5, 0.97])
@pytest.mark.parametrize("held", [1 << 20, 3_000])
def test_thresholds_of_large_tensors_are_exact(monkeypatch, kind, density, held):
    """A sample only says where to look: the entries kept are those of a full stable sort."""
    monkeypatch.setattr("merger.operators.magnitudes._HELD", held)
    g = torch.Generator().manual_seed(3)
    expert = torch.randn(1100, 1000, generator=g)
    if kind == "ties":
        expert = (expert * 16).round() / 16
    elif kind == "sparse":
        expert[torch.rand(1100, 1000, generator=g) < 0.8] = 0
    elif kind == "hidden":  # all that is large lies where few rows are sampled
        expert[7:19] *= 100
    base = torch.zeros_like(expert)
    knobs = {"weight": [1.0], "density": [density]}
    merged = merge_tensors("ties", [expert], base, block_rows=64, **knobs)
    order = expert.flatten().abs().argsort(descending=True, stable=True)
    expected = torch.zeros(expert.numel())
    kept = order[: int(density * expert.numel())]
    expected[kept] = expert.flatten()[kept]
    assert torch.equal(merged.flatten(), expected)


@given(merges(["linear"]))
def test_consensus_of_all_is_linear(case):
    """Consensus mean at density 1 and scale 1 is the normalised mean, bit for bit."""
    weight = case.knobs["weight"]
    base = torch.zeros_like(case.experts[0])
    whole = merge_tensors("consensus", case.experts, base, weight=weight)
    assert torch.equal(whole, merge_tensors("linear", case.experts, weight=weight))


def test_elections_differ_by_their_votes():
    """A heavy expert carries the weighted election and loses the unweighted one."""
    base, experts = torch.zeros(1), [torch.tensor([3.0]), -torch.ones(1), -torch.ones(1)]
    knobs = {"weight": [0.2, 1.0, 1.0], "density": [1.0] * 3}
    weighted = merge_tensors("ties", experts, base, **knobs)
    assert weighted.item() == -1
    assert merge_tensors("ties", experts, base, elect="unweighted", **knobs).item() == 3


def test_a_zero_vote_counts_as_plus():
    """Where the votes cancel the positive changes are taken."""
    experts = [torch.tensor([0.5]), torch.tensor([-0.5])]
    assert merge_tensors("ties", experts, torch.zeros(1), weight=[1.0, 1.0]).item() == 0.5


def test_breadcrumbs_keeps_small_tensors():
    """With gamma·n below one nothing is an outlier, and the task vector is not lost."""
    expert = torch.arange(1.0, 11)
    merged = merge_tensors(
        "breadcrumbs", [expert], torch.zeros(10), weight=[1.0], density=[0.5], gamma=[0.01]
    )
    assert merged.nonzero().flatten().tolist() == [5, 6, 7, 8, 9]


def test_della_keeps_a_lone_entry_by_density():
    """A row of one entry has no rank, and is kept with probability density."""
    base, expert = torch.zeros(20_000, 1), torch.ones(20_000, 1)
    knobs = {"density": [0.6], "epsilon": [0.2], "rescale": False, "weight": [1.0]}
    merged = merge_tensors("della_linear", [expert], base, **knobs)
    assert merged.mean().item() == pytest.approx(0.6, abs=0.02)


def test_karcher_does_not_count_the_base():
    """A base given beside the experts has no part in their mean."""
    g = torch.Generator().manual_seed(0)
    a, b, base = torch.randn(3, 50, generator=g)
    merged = merge_tensors("karcher", [a, b], base)
    assert torch.equal(merged, merge_tensors("karcher", [a, b]))


def test_model_stock_keeps_the_base_at_the_pole():
    """Opposite changes have no ratio between them; the base stays."""
    base, change = torch.randn(8), torch.randn(8)
    merged = merge_tensors("model_stock", [base + change, base - change], base)
    torch.testing.assert_close(merged, base)


def test_arcee_fusion_takes_the_outlier():
    """One change far above the others is taken, the rest is the base."""
    g = torch.Generator().manual_seed(1)
    base = torch.randn(8, 8, generator=g)
    expert = base + 0.001 * torch.randn(8, 8, generator=g)
    expert[3, 4] += 2
    merged = merge_tensors("arcee_fusion", [expert], base)
    assert merged[3, 4] == expert[3, 4]
    assert torch.count_nonzero(merged != base) < 16


def test_draws_are_even_and_their_own():
    """Uniform draws fill [0, 1) evenly, and those of another key or seed are unlike them."""
    one, two, three = (
        uniform((100_000,), stream_key(*pair), 0, torch.device("cpu"))
        for pair in ((0, 1), (0, 2), (1, 1))
    )
    assert one.mean().item() == pytest.approx(0.5, abs=0.005)
    assert torch.histc(one, 10, 0, 1).min() > 9_600
    for other in (two, three):
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1].item()) < 0.02


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_dare_keeps_the_norm_and_the_share(density):
    """DARE keeps about a share of entries and exactly the L1 norm."""
    change = torch.randn(400, 100, generator=torch.Generator().manual_seed(2))
    merged = merge_tensors(
        "dare_linear", [change], torch.zeros_like(change), weight=[1.0], density=[density]
    )
    share = torch.count_nonzero(merged).item() / change.numel()
    assert share == pytest.approx(density, abs=0.01)
    assert merged.abs().sum().item() == pytest.approx(change.abs().sum().item(), rel=1e-5)


def test_weights_that_cancel_are_refused():
    """Weights that sum to zero cannot be normalised, and the error says so."""
    with pytest.raises(SpecError, match="sum to zero"):
        merge_tensors("linear", [torch.ones(2), torch.ones(2)], weight=[1.0, -1.0])


def test_unknown_name_suggests_the_nearest():
    """A typo is answered with the name that was probably meant."""
    with pytest.raises(UnknownNameError, match="Did you mean 'ties'"):
        OPERATORS["tise"]


@EVERY
def test_knobs_check_what_they_declare(name):
    """Every knob accepts its default and its range, and refuses text."""
    for knob_name, knob in OPERATORS[name].knobs.items():
        if knob.default is not None:
            assert knob.checked(knob_name, knob.default) == knob.default
        if not knob.choices and knob.kind is not bool:
            assert knob.checked(knob_name, knob.high) == knob.high
        with pytest.raises((SpecError, UnknownNameError)):
            knob.checked(knob_name, "nonsense")
