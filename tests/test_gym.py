"""The fenced tasks of reasoning-gym: items by address, splits apart, scores all or nothing."""

import pytest

pytest.importorskip("reasoning_gym")

from evals.gym import LOGIC, MATH
from evals.task import SPLITS, bucket, draw_item, get_task, items
from merger.errors import UnknownNameError

pytestmark = pytest.mark.slow
SLOW = ("zebra_puzzles",)  # half a second an item


@pytest.mark.parametrize("name", [n for n in MATH + LOGIC if n not in SLOW])
def test_an_item_is_a_function_of_its_address_and_certifies_itself(name):
    """Drawn twice it is the same, in its split's bucket; its own answer is right, junk is not."""
    task = get_task(f"gym:{name}")
    address = {"level": task.levels[-1], "split": "test", "seed": 3, "index": 5}
    item = draw_item(task, **address)
    assert item == draw_item(task, **address)
    assert bucket(item.canonical) in SPLITS["test"]
    assert task.certify(item)


def test_neighbouring_seeds_and_splits_share_nothing():
    """Where the library's seeds 1 and 2 share all items but one, ours share none."""
    task = get_task("gym:chain_sum")
    sets = [
        {i.canonical for i in items(task, n=50, split=s, seed=n, levels=(3,))}
        for s, n in (("train", 1), ("train", 2), ("test", 1))
    ]
    assert not sets[0] & sets[1]
    assert not (sets[0] | sets[1]) & sets[2]


def test_there_is_no_credit_for_likeness():
    """The library gives 0.1 and more to a wrong number or to a sentence around the right one."""
    task = get_task("gym:gcd")
    item = draw_item(task, level=1, split="test", seed=0, index=0)
    texts = (item.answer, "nan", "", f"it may be {item.answer} or not", "9" * 500)
    found = [task.check(f"so</think><answer>{t}</answer>", item).correct for t in texts]
    assert found == [True, False, False, False, False]


def test_tasks_off_the_list_are_refused():
    """A task whose scorer executes model text cannot be named."""
    with pytest.raises(UnknownNameError, match="countdown"):
        get_task("gym:countdown")
