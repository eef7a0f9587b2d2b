"""Laws of pairing two models on the same items."""

import pytest

from evals.ledger import Row
from evals.paired import COLUMNS, compare_rows, compare_scores
from merger.errors import EvalError


def test_only_common_items_count():
    """Items that one side lacks are left out; gains and losses are named."""
    a, b = {"x": 0.0, "y": 1.0, "z": 1.0, "w": 0.0}, {"w": 0.0, "x": 1.0, "y": 0.0, "q": 1.0}
    found = compare_scores("sums", a, b)
    assert (found.result.n, found.gained, found.lost) == (3, ("x",), ("y",))
    assert found.document()["difference"] == 0.0


def test_swapping_the_sides_turns_the_sign():
    """What one side gains the other loses."""
    a = {str(i): float(i % 3 == 0) for i in range(60)}
    b = {str(i): float(i % 2 == 0) for i in range(60)}
    there, back = compare_scores("t", a, b).result, compare_scores("t", b, a).result
    assert there.difference == pytest.approx(-back.difference)
    assert (there.wins, there.losses, there.p) == (back.losses, back.wins, back.p)
    assert there.ci95 == pytest.approx((-back.ci95.high, -back.ci95.low), abs=0.05)


def test_nothing_in_common_is_a_mistake():
    """Two disjoint sets of items cannot be compared."""
    with pytest.raises(EvalError, match="share no items"):
        compare_scores("sums", {"x": 1.0}, {"y": 1.0})


def test_no_flip_still_says_what_could_be_seen():
    """Equal scores are not proof: the least visible difference stays above zero."""
    same = {str(i): 1.0 for i in range(50)}
    found = compare_scores("t", same, same)
    assert found.result.mde > 0.05
    cells = dict(zip(COLUMNS, found.cells(1.0), strict=True))
    assert cells[">sees"] == f"{100 * found.result.mde:.1f}"
    assert cells[">rules\nout"] == f"{100 * found.result.margin:.1f}"


def test_the_order_of_items_changes_nothing():
    """Graded scores are resampled the same way, however the items came."""
    a = {str(i): i % 5 / 4 for i in range(15)}
    b = {str(i): i % 3 / 2 for i in range(15)}
    assert compare_scores("t", a, b) == compare_scores("t", dict(reversed(a.items())), b)


def test_sampled_scores_are_told_as_such():
    """A difference of means over k answers an item is labelled avg@k."""
    eight = [Row(i, k, "", "stop", 1, True, True, k % 2) for i in "abc" for k in range(8)]
    found = compare_rows("aime24", eight, eight)
    assert found.document()["measure"] == found.measure == "avg@8"
    assert compare_rows("aime24", eight[::8], eight).measure == "mean, avg@8"
