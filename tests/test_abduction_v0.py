"""The task with the authors' shortcut: sound answers, no reasoning needed, in no list."""

from evals.task import TASKS, get_task, items
from evals.tasks.abduction_v0 import listed


def test_answers_are_sound_and_the_shortcut_gives_them_all():
    """Each answer is proved by SAT; reading the candidates alone is right always, on v1 never."""
    for name, right in (("abduction-v0", True), ("abduction", False)):
        task = get_task(name)
        for item in items(task, n=200, split="test", levels=(1,)):
            assert task.certify(item)
            assert task.grade(listed(item), item).correct == right


def test_it_stands_in_no_list():
    """What is flawed on purpose is found by its whole name alone."""
    assert "abduction-v0" not in TASKS
    assert get_task("abduction-v0").version == "v0"
