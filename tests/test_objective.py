"""Objectives: what is maximised, and which items a race counts."""

import pytest

from merger.errors import UnknownNameError, UsageError
from search.objective import parse

TASKS = ("deduction", "induction", "abduction")
ALIASES = {"ded": "deduction", "ind": "induction", "abd": "abduction"}
MEANS = {"deduction": 0.6, "induction": 0.3, "abduction": 0.9}


@pytest.mark.parametrize(
    ("text", "value"), [("mean", 0.6), ("min", 0.3), ("weighted:ded=2,ind=1", 0.5)]
)
def test_one_number(text, value):
    """Mean, worst task and weighted mean are what their names say."""
    objective = parse(text, TASKS, ALIASES)
    assert objective.values(MEANS) == (pytest.approx(value),)
    assert parse(objective.text, TASKS, ALIASES) == objective


def test_pareto_keeps_one_number_a_task():
    """A front has one value a task, is ordered by the mean for finalists, and is not raced."""
    objective = parse("pareto", TASKS)
    assert objective.values(MEANS) == (0.6, 0.3, 0.9)
    assert objective.value(MEANS) == pytest.approx(0.6)
    assert objective.race_weights(MEANS) == {}


def test_min_races_on_the_rivals_worst_task():
    """Whoever is worse than the rival's worst task has a worse minimum."""
    assert parse("min", TASKS).race_weights(MEANS) == {"induction": 1.0}


def test_a_task_without_weight_is_not_raced():
    """Items of tasks that do not count do not decide a race."""
    weights = parse("weighted:ded=1,abd=3", TASKS, ALIASES).race_weights(MEANS)
    assert weights == {"deduction": 0.25, "abduction": 0.75}


@pytest.mark.parametrize(
    ("text", "error"),
    [("men", UnknownNameError), ("mean:ded=1", UsageError), ("weighted:dud=1", UnknownNameError),
     *((f"weighted:ded={number}", UsageError) for number in ("-1", "0", "x"))],
)  # fmt: skip
def test_mistakes_are_named(text, error):
    """A typo, a weight where none belongs and a weight that is no number are told apart."""
    with pytest.raises(error):
        parse(text, TASKS, ALIASES)
