"""The rewards, value by value, as the paper and its code state them."""

import pytest

from evals.rewards import REWARDS
from evals.task import Score

# (format, parsed, correct) -> paper, upstream, binary
TABLE = {
    (True, True, True): (3.0, 3.0, 1.0),
    (True, True, False): (-1.0, -0.5, 0.0),
    (True, False, False): (-1.0, -1.0, 0.0),
    (False, True, True): (1.0, -3.0, 1.0),
    (False, True, False): (-3.0, -3.0, 0.0),
    (False, False, False): (-3.0, -3.0, 0.0),
}


@pytest.mark.parametrize(("verdict", "numbers"), TABLE.items())
def test_each_verdict_has_its_number(verdict, numbers):
    """Format ±1 and answer ±2 in the paper; its code reads no answer after a format failure."""
    score = Score(*verdict)
    assert tuple(REWARDS[name](score) for name in ("paper", "upstream", "binary")) == numbers


@pytest.mark.parametrize("name", REWARDS)
def test_right_is_always_worth_more_than_wrong(name):
    """With the format kept, no reward prefers a wrong answer."""
    right, wrong, none = (
        Score(True, p, c) for p, c in ((True, True), (True, False), (False, False))
    )
    assert REWARDS[name](right) > REWARDS[name](wrong) >= REWARDS[name](none)
