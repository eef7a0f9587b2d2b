"""The task with the authors' shortcut: sound labels, no reasoning needed, in no list."""

import pytest

from evals.task import TASKS, get_task, items


@pytest.fixture(scope="module")
def drawn():
    """Draw some items."""
    return items(get_task("reach-v0"), n=200, split="test")


def test_labels_are_sound_and_the_shortcut_gives_them_all(drawn):
    """Each label is proved; exactly one goal is listed as a fact, and only that one follows."""
    task = get_task("reach-v0")
    for item in drawn:
        assert task.certify(item)
        assert sum(goal in item.data["facts"] for goal in item.data["goals"]) == 1
        assert task.grade(task.baselines["a known atom"](item), item).correct


def test_it_stands_in_no_list():
    """What is flawed on purpose is found by its whole name alone."""
    assert "reach-v0" not in TASKS
    assert get_task("reach-v0").version == "v0"
