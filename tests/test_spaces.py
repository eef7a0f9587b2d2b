"""Other spaces: points and candidates are inverse, and every candidate is a merge."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merger.errors import SearchError
from merger.spec import spec_from_mapping
from search.candidate import Candidate
from search.export import merge_config, mergekit_config
from search.space import Choice, Space
from search.spaces import Box, Depth, Operators
from search.starts import average, fill

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


@pytest.mark.parametrize("space", SPACES)
def test_points_and_candidates_are_inverse(space):
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
    with pytest.raises(SearchError, match="outside"):
        Space(EXPERTS).params(Operators(EXPERTS, method="ties").start())
    with pytest.raises(SearchError, match="outside"):
        Box(EXPERTS, negative=True).params(Candidate.of({"ded": 1, "ind": 1}, density=0.5))


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
