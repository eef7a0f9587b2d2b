"""The search space: shares and sticks are inverse, points and candidates too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.errors import SearchError
from search.candidate import BASE, Candidate
from search.space import Choice, Space, shares, sticks
from search.starts import fill, paper_weights, warm_starts

EXPERTS = ("ded", "ind", "abd")
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
    """The base, a stranger and a scale beyond the range have no point in the space."""
    space = Space(EXPERTS)
    for candidate in (BASE, Candidate.of({"other": 1}), Candidate.of({"ded": 1}, scale=9)):
        with pytest.raises(SearchError, match="outside"):
            space.params(candidate)


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
