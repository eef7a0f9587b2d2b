"""What training is fed: items by slot, several tasks in turn, rewards and controls."""

import pytest

from evals.task import Score
from merger.errors import RecipeError, UnknownNameError
from recipes.rl.feed import STRIDE, full_name, get_reward, open_source
from recipes.rl.settings import STAGE_A, make_settings

RIGHT, WRONG = Score(True, True, True), Score(True, True, False)


def source(task, **options):
    return open_source(make_settings(STAGE_A, {"task": task} | options))


def test_several_tasks_are_asked_in_turn():
    """Three tasks share the prompts; each gets the items it would get alone, in their order."""
    mixed = source("ded+ind+abd")
    asked = [mixed.draw(1, slot) for slot in range(6)]
    assert [item.task for item in asked] == ["deduction", "induction", "abduction"] * 2
    assert asked[4] == source("ind").draw(1, 1)
    assert full_name("ded+ind") == "deduction+induction"


def test_a_slot_keeps_its_task_when_its_item_is_drawn_again():
    """Redrawn items are a stride apart that any number of tasks up to 16 divides."""
    assert all(STRIDE % n == 0 for n in range(1, 17))


def test_levels_of_a_mixture_are_those_all_have():
    """A level that one of the tasks lacks cannot be trained."""
    pytest.importorskip("reasoning_gym")
    assert source("ded+gym:gcd").levels == (1, 2, 3)
    with pytest.raises(RecipeError, match="no level 4"):
        source("ded+gym:gcd", levels=[4])


def test_controls_know_nothing_of_the_answers_worth():
    """`format` asks for tags; `random` is a coin, the same for the same answer to the same item."""
    assert get_reward("format")(RIGHT, "a") == get_reward("format")(WRONG, "b") == 1.0
    coin = get_reward("random")
    tosses = [coin(RIGHT, f"item/{n}") for n in range(1000)]
    assert tosses == [coin(WRONG, f"item/{n}") for n in range(1000)]
    assert 450 < sum(tosses) < 550
    with pytest.raises(UnknownNameError, match="radnom"):
        get_reward("radnom")
