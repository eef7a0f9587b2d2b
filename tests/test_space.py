"""The search spaces: sticks and shares, points and candidates are inverse; all are merges."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.errors import SearchError
from merger.spec import spec_from_mapping
from search.candidate import BASE, Candidate
from search.export import merge_config, mergekit_config
from search.space import Box, Choice, Depth, Operators, Space, shares, sticks
from search.starts import average, fill, paper_weights, warm_starts

EXPERTS = ("ded", "ind", "abd")
NAMES = {name: f"tiny:{name}" for name in EXPERTS}
SPACES = (
    Space(EXPERTS),
    Box(EXPERTS),
    Box(EXPERTS, negative=True),
    Operators(EXPERTS, method="ties"),
    Operators(EXPERTS, method="della"),
    Operators(EXPERTS, method="model_stock"),
    Depth(EXPERTS, origin=Candidate.of({"ded": 0.7, "ind": 0.3}, scale=1.2, density=0.5)),
)
numbers = st.lists(st.floats(0, 1), min_size=1, max_size=7)


@given(numbers)
def test_sticks_become_shares(u):
    """K − 1 numbers in [0, 1] become K shares that are not negative and sum to 1."""
    p = shares(u)
    assert len(p) == len(u) + 1
    assert min(p) >= 0
    assert sum(p) == pytest.approx(1, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda w: sum(w) > 1e-3))
def test_sticks_is_the_inverse(weights):
    """Any shares, corners included, are found again from their sticks."""
    p = [w / sum(weights) for w in weights]
    u = sticks(p)
    assert all(0 <= x <= 1 for x in u)
    assert shares(u) == pytest.approx(p, abs=1e-9)


def test_the_paper_is_where_the_notes_say():
    """1.0 / 0.2 / 0.1 lies at u = (0.9467, 0.6667)."""
    assert sticks([1 / 1.3, 0.2 / 1.3, 0.1 / 1.3]) == pytest.approx([0.9467, 0.6667], abs=1e-4)


def test_uniform_numbers_give_uniform_shares():
    """Over uniform numbers every share has the Dirichlet(1, 1, 1) mean 1/3 and variance 1/18."""
    drawn = np.array([shares(u) for u in np.random.default_rng(0).random((20_000, 2))])
    assert drawn.mean(0) == pytest.approx([1 / 3] * 3, abs=0.01)
    assert drawn.var(0) == pytest.approx([1 / 18] * 3, abs=0.003)


@given(st.tuples(st.floats(0, 1), st.floats(0, 1)), st.floats(0.3, 3), st.floats(0.05, 1))
def test_points_and_candidates_are_inverse(u, scale, density):
    """A candidate of the space is the candidate at its own point."""
    space = Space(EXPERTS)
    point = {
        "ded:rest": u[0],
        "ind:abd": u[1],
        "scale": scale,
        "density": density,
        "consensus": "ram",
    }
    candidate = space.candidate(point)
    again = space.candidate(space.params(candidate))
    assert again.key == candidate.key


def test_outside_is_refused():
    """The base, a stranger and a scale beyond the range do not lie in the space."""
    for candidate in (BASE, Candidate.of({"other": 1}), Candidate.of({"ded": 1}, scale=9)):
        assert not Space(EXPERTS).holds(candidate)


def test_weights_matter_by_their_ratio():
    """10 / 2 / 1 is the paper's candidate, and a lone expert's consensus says nothing."""
    one, ten = (Candidate.of({"a": f, "b": f / 5, "c": f / 10}) for f in (1.0, 10.0))
    assert one.key == ten.key
    assert Candidate.of({"a": 1}, consensus="ram").key == Candidate.of({"a": 3}).key
    assert Candidate.from_mapping(one.to_mapping()) == one


def test_candidates_refuse_nonsense():
    """Negative shares, a density of 0 and an unknown consensus are errors, not candidates."""
    for weights, knobs in (
        ({"a": -1}, {"consensus": "ram"}),
        ({"a": float("nan")}, {}),
        ({"a": 1}, {"density": 0}),
        ({"a": 1}, {"consensus": "x"}),
    ):
        with pytest.raises(SearchError):
            Candidate.of(weights, **knobs)


def test_warm_starts_hold_all_coalitions_and_the_paper():
    """The seven coalitions, the paper twice, equal norms and ram are tried, each once."""
    starts = warm_starts(EXPERTS, {"ded": 1.0, "ind": 2.0, "abd": 4.0})
    keys = [s.candidate.key for s in starts]
    assert len(keys) == len(set(keys)) == 11
    assert starts[0].source == "paper"
    assert not any(s.raced for s in starts[:8])
    assert sum(s.candidate.scale > 1 for s in starts) == 1


def test_the_paper_is_told_by_names():
    """Weights go by ability where names tell it, else by order; two experts have none."""
    assert paper_weights(("abd", "my-ind", "ded-7b")) == {"abd": 0.1, "my-ind": 0.2, "ded-7b": 1.0}
    assert paper_weights(("x", "y", "z")) == {"x": 1.0, "y": 0.2, "z": 0.1}
    assert paper_weights(("ded", "ind")) is None


def test_filling_points_lie_inside():
    """Sobol points lie inside the space and are the same for the same seed."""
    space = Space(EXPERTS)
    points = fill(space, 7, seed=3)
    assert points == fill(space, 7, seed=3)
    for point in points:
        for name, knob in space.knobs().items():
            if isinstance(knob, Choice):
                assert point[name] in knob.words
            else:
                assert knob.low <= point[name] <= knob.high


@pytest.mark.parametrize("space", SPACES)
def test_points_of_every_space_are_inverse(space):
    """A candidate of a space is the candidate at its own point, and merger takes its config."""
    for point in fill(space, 8, seed=2) if space.knobs() else [{}]:
        candidate = space.candidate(point)
        again = space.candidate(space.params(candidate))
        assert again.describe() == candidate.describe()
        assert Candidate.from_mapping(candidate.to_mapping()) == candidate
        spec_from_mapping(merge_config(candidate, NAMES, "tiny:base"))
        assert mergekit_config(candidate, NAMES, "tiny:base")[1]


def test_one_space_is_not_another():
    """Candidates of one operator have no point in the space of another."""
    assert not Space(EXPERTS).holds(Operators(EXPERTS, method="ties").start())
    cut = Candidate.of({"ded": 1, "ind": 1}, density=0.5)
    assert Box(EXPERTS).holds(cut)
    assert not Box(EXPERTS, negative=True).holds(cut)
    assert not Space(EXPERTS).holds(replace(cut, knobs=(("attn", 0.5),)))


@given(st.lists(st.floats(0, 1.5), min_size=3, max_size=3).filter(lambda w: sum(w) > 0.01))
def test_literal_weights_are_a_share_and_a_scale(weights):
    """Weights of a box are, expert by expert, the scale times the shares."""
    point = {f"w_{n}": w for n, w in zip(EXPERTS, weights, strict=True)}
    candidate = Box(EXPERTS).candidate(point | {"density": 1.0, "consensus": "mean"})
    for name, weight in zip(EXPERTS, weights, strict=True):
        literal = candidate.scale * candidate.shares.get(name, 0.0)
        assert literal == pytest.approx(weight, abs=3e-4)


def test_an_operator_is_searched_by_its_own_ranges():
    """Knobs come from the operator's signature; whole numbers and switches stay as they are."""
    knobs = Operators(EXPERTS, method="ties").knobs()
    assert set(knobs) == {"ded:rest", "ind:abd", "density", "lambda", "elect"}
    assert isinstance(knobs["elect"], Choice)


def test_knobs_of_an_operator_go_together():
    """No point of della's space keeps an entry with a chance that is none."""
    space = Operators(EXPERTS, method="della")
    for point in fill(space, 64, seed=1):
        knobs = dict(space.candidate(point).knobs)
        assert 0 < knobs["density"] - knobs["epsilon"] < knobs["density"] + knobs["epsilon"] < 1


def test_depth_is_off_at_its_start():
    """Stage 2 begins with the candidate itself, and shares along depth sum to 1 everywhere."""
    origin = average(EXPERTS)
    space = Depth(EXPERTS, origin=origin)
    assert space.candidate(space.params(origin)) == origin
    bent = space.candidate(space.params(origin) | {"a:ded": 1.5, "b:ind": -0.7, "attn": 0.5})
    config = merge_config(bent, NAMES, "tiny:base")
    along = [m["parameters"]["weight"] for m in config["models"]]
    assert [sum(at) for at in zip(*along, strict=True)] == pytest.approx([1.0] * 9, abs=1e-5)
    assert along[0][0] < along[0][-1]
    assert {"filter": "self_attn", "value": 0.5} in config["parameters"]["scale"]
