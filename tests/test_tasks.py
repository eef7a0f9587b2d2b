"""Laws that every registered task obeys: a new file in evals/tasks is tested from its first run."""

import hashlib
import json
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evals.tasks  # noqa: F401  the folder fills the table
from evals.itemfile import item_at, item_document
from evals.task import SPLITS, TASKS, bucket, draw_item, get_task, items

NAMES = list(TASKS)
LEVELS = [(name, level) for name in NAMES for level in TASKS[name].levels]
GOLDEN = Path(__file__).parent / "golden" / "items.json"


@cache
def drawn(name, level, split="test", n=3):
    return items(TASKS[name], n=n, split=split, levels=(level,))


def wrapped(answer):
    return f"thinking</think><answer>{answer}</answer>"


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_an_item_is_a_function_of_its_address(name, level):
    """Drawing an item again, alone, from its id gives the same item."""
    for item in drawn(name, level):
        assert item_document(item_at(item.id)) == item_document(item)
        assert (item.task, item.level, item.split) == (name, level, "test")


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_the_reference_answer_is_right_and_well_formed(name, level):
    """The gold answer in the asked format scores everything there is to score."""
    task = TASKS[name]
    for item in drawn(name, level):
        score = task.check(wrapped(item.answer), item)
        assert (score.format, score.parsed, score.correct) == (True, True, True)


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_every_item_is_certified(name, level):
    """Each item is proved well posed by other means than the generator's."""
    assert all(TASKS[name].certify(item) for item in drawn(name, level))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        wrapped(""),
        wrapped("I do not know"),
        "</think><answer>",
        "<answer></answer>" * 50,
        "</think>" * 3000,
        "\x00\ud800\u202e",
        wrapped("9" * 5000),
        wrapped("((((" * 900),
    ],
)
def test_empty_talk_never_scores(name, text):
    """A blank, a refusal, bare tags and junk are read without an error and are not right."""
    item = drawn(name, TASKS[name].levels[0])[0]
    assert not TASKS[name].check(text, item).correct


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_an_echo_of_the_prompt_never_scores(name, level):
    """Repeating the question inside the tags is no answer; the whole prompt breaks the format."""
    task = TASKS[name]
    for item in drawn(name, level):
        assert not task.check(wrapped(item.prompt), item).correct
        assert not task.check(f"{task.system}\n{item.prompt}", item).format


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("<>/=:,.TF01 ")))
def test_no_text_raises(name, text):
    """Whatever a model says, in the tags or out of them, gives a score and no error."""
    task = TASKS[name]
    item = drawn(name, task.levels[0])[0]
    for said in (text, wrapped(text), f"<answer>{text}"):
        score = task.check(said, item)
        assert {type(v) for v in vars(score).values()} == {bool}
        if not any(c.isascii() and c.isalnum() for c in text):
            assert not score.correct


@pytest.mark.parametrize("name", NAMES)
def test_the_gold_of_another_item_is_mostly_wrong(name):
    """Answers belong to their item: shuffled golds score like guesses."""
    task = TASKS[name]
    some = drawn(name, task.levels[1], n=40)
    assert sum(task.check(wrapped(a.answer), b).correct for a, b in pairwise(some)) <= 12


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_instance(name):
    """The canonical form decides the split, so no seed or level leaks an item."""
    task = TASKS[name]
    level = task.levels[0]
    seen = {s: {i.canonical for i in drawn(name, level, s, 25)} for s in SPLITS}
    for split, forms in seen.items():
        assert len(forms) == 25
        assert all(bucket(form) in SPLITS[split] for form in forms)
        assert not any(forms & other for s, other in seen.items() if s != split)


@pytest.mark.parametrize(("name", "level"), [p for p in LEVELS if p[1] <= 3])
def test_blind_strategies_stay_blind(name, level):
    """No strategy that does not reason comes near to solving a level."""
    task = TASKS[name]
    some = drawn(name, level, n=80)
    for strategy, guess in task.baselines.items():
        right = sum(task.grade(guess(item), item).correct for item in some)
        assert right / len(some) < 0.45, strategy


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_list_begins_with_the_shorter(name):
    """Asking for more items changes none of those there were."""
    task = get_task(TASKS[name].alias)
    levels = task.levels[:2]
    assert items(task, n=6, split="test", levels=levels)[:4] == items(
        task, n=4, split="test", levels=levels
    )


def fingerprints(n=2):
    """Return a hash of the first items of every task and level."""
    table = {}
    for name in NAMES:
        for level in TASKS[name].levels:
            some = [
                draw_item(TASKS[name], level=level, split="train", seed=0, index=i)
                for i in range(n)
            ]
            text = json.dumps([item_document(i) for i in some], sort_keys=True)
            table[f"{name}/{TASKS[name].version}/L{level}"] = hashlib.sha256(
                text.encode()
            ).hexdigest()
    return table


def test_items_are_what_they_were():
    """The first items of each level are pinned: a change that is meant gets a new task version.

    Rewrite the pins with `python -m tests.test_tasks` after adding a task or a version.
    """
    assert fingerprints() == json.loads(GOLDEN.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_no_set_order_reaches_an_item(hash_seed):
    """Items are the same under every hash seed of Python."""
    code = (
        "import json; from tests.test_tasks import fingerprints; print(json.dumps(fingerprints()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env={"PYTHONHASHSEED": hash_seed, "PATH": "", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == json.loads(GOLDEN.read_text())


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(fingerprints(), indent=2) + "\n")
