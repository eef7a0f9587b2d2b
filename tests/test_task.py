"""Laws of tasks as such: addresses, splits, the contract."""

import pytest

from evals.task import SPLITS, Draft, Score, bucket, draw_item, get_task, items, stream
from merger.errors import EvalError, UnknownNameError
from tests.toy_models import toy_task

TASK = toy_task()


def test_the_buckets_are_shared_out_whole():
    """Every one of the 100 buckets belongs to exactly one split."""
    owned = [b for share in SPLITS.values() for b in share]
    assert sorted(owned) == list(range(100))


def test_buckets_are_even():
    """Each bucket gets about one instance in a hundred."""
    counts = [0] * 100
    for i in range(20_000):
        counts[bucket(str(i))] += 1
    assert min(counts) > 140
    assert max(counts) < 260


def test_neighbouring_seeds_share_no_shift():
    """Seed 1 is not seed 0 moved by one: the lists have almost nothing in common."""
    lists = [
        [i.canonical for i in items(TASK, n=200, split="train", seed=s, levels=(2,))]
        for s in (0, 1)
    ]
    assert len(set(lists[0]) & set(lists[1])) < 10


def test_levels_are_taken_in_turn():
    """A list goes through the levels round by round."""
    assert [i.level for i in items(TASK, n=5, split="test")] == [1, 2, 1, 2, 1]


def test_a_list_repeats_no_instance():
    """Each canonical form occurs once, whatever the generator repeats."""
    forms = [i.canonical for i in items(TASK, n=200, split="search", levels=(1,))]
    assert len(set(forms)) == len(forms)


def test_a_spent_capacity_is_an_error_not_a_repetition():
    """Where there are no more instances the stream says so."""
    tiny = toy_task(draw=lambda rng, level: Draft("?", "1", str(rng.randint(0, 20)), {"sum": 1}))
    with pytest.raises(EvalError, match="no more than"):
        list(stream(tiny, level=1, split="train", seed=0))


def test_a_wrong_level_or_split_is_named():
    """What is asked for and does not exist is answered with what does."""
    with pytest.raises(EvalError, match=r"no level 9[\s\S]*1, 2"):
        draw_item(TASK, level=9, split="train", seed=0, index=0)
    with pytest.raises(EvalError, match=r"'dev'[\s\S]*"):
        draw_item(TASK, level=1, split="dev", seed=0, index=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'deduction'"):
        get_task("deductoin")


@pytest.mark.parametrize("change", [{"version": "v2"}, {"instructions": "Sum."}, {"prefill": ""}])
def test_the_contract_moves_with_the_prompt(change):
    """Anything that changes what a model reads changes the contract; the budget does not."""
    assert toy_task(**change).contract != TASK.contract
    assert toy_task(max_new_tokens=9).contract == TASK.contract


def test_without_a_prefill_the_opening_tag_is_asked_for():
    """Where `<think>` is not given to the model it has to write it."""
    item, free = items(TASK, n=1, split="train")[0], toy_task(prefill="")
    text = f"so</think><answer>{item.answer}</answer>"
    assert TASK.check(text, item) == Score(True, True, True)
    assert free.check(text, item) == Score(False, True, True)
    assert free.check(f"<think>{text}", item) == Score(True, True, True)
