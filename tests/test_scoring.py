"""The eval stage's arithmetic: paired means over tasks, the oracle and its control."""

import pytest

from recipes.scoring import MEAN, _best, _pairs, _row

A = {"ded": {"d1": 1.0, "d2": 0.0}, "ind": {"i1": 0.0, "i2": 0.0}}
B = {"ded": {"d1": 0.0, "d2": 1.0}, "ind": {"i1": 1.0, "i2": 0.0}}


def test_the_best_of_several_is_taken_item_by_item():
    """An oracle is right where any of its models is."""
    best = _best([A, B])
    assert best == {"ded": {"d1": 1.0, "d2": 1.0}, "ind": {"i1": 1.0, "i2": 0.0}}
    assert [t["mean"] for t in _row("best", best)["tasks"].values()] == [1.0, 0.5]


def test_all_models_are_compared_with_the_first_by_task_and_over_all():
    """The mean over tasks pairs all their items: here one of four gained, one of two lost."""
    pairs = {(p["b"], p["task"]): p for p in _pairs({"a": A, "b": B})}
    assert {task for _, task in pairs} == {"ded", "ind", MEAN}
    assert pairs["b", "ded"]["difference"] == 0.0
    assert pairs["b", MEAN]["difference"] == pytest.approx(0.25)
    assert pairs["b", MEAN]["n"] == 4


def test_tasks_of_unequal_size_have_no_common_mean():
    """It would weigh a task by its number of items."""
    short = {"ded": A["ded"], "ind": {"i1": 0.0}}
    assert not [p for p in _pairs({"a": short, "b": short}) if p["task"] == MEAN]
