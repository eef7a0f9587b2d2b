"""Laws that every registered task obeys: a new file in evals/tasks is tested from its first run."""

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evals.tasks  # noqa: F401  the folder fills the table
from evals.answers import grade_number
from evals.itemfile import item_at, item_document
from evals.own import FileTask, file_item
from evals.task import SPLITS, TASKS, Draft, Item, bucket, capacity, draw_item, get_task, items
from evals.v0 import V0Task

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


MEGABYTE = 1_000_000
PARTS = [
    "<answer>",
    "</answer>",
    "<think></think>",
    "\\boxed{",
    "A=true ",
    "9",
    "Ba and ",
    "(((¬",
    "= ",
]


@pytest.mark.parametrize("name", [*NAMES, "file", "v0"])
@pytest.mark.parametrize("part", PARTS)
def test_a_megabyte_is_read_in_a_tenth_of_a_second(name, part):
    """No text is slow: repeated tags, boxes, digits, words, bare or inside the answer tags."""
    if name in TASKS:
        task, item = TASKS[name], drawn(name, 1)[0]
    else:
        task = (V0Task if name == "v0" else FileTask)(name="mine", grade=grade_number_of)
        item = file_item(task, {"prompt": "?", "answer": "(1) A is True"})
    text = part * (MEGABYTE // len(part))
    for said in (text, wrapped(text[:-60]), wrapped(text[:3900])):
        took = []
        for _ in range(3):
            start = time.process_time()
            task.check(said, item)
            took.append(time.process_time() - start)
        assert min(took) < 0.1


def grade_number_of(answer, item):
    return grade_number(answer, 7)


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


def drafts(name, level, n):
    """Return items drawn without regard to their split, which costs a tenth."""
    for i in range(n):
        d = TASKS[name].draw(Random(f"{name}/{level}/{i}"), level)
        yield Item(**vars(d), id="x", task=name, version="v1", level=level, split="")


@pytest.mark.parametrize(
    ("name", "level"),
    [pytest.param(*p, marks=pytest.mark.slow if p[1] > 2 else []) for p in LEVELS],
)
def test_blind_strategies_stay_blind(name, level):
    """No strategy that does not reason scores 5 points above the chance that the task states.

    Induction level 1 states 35 %: the step seen last is half of a cycle of two, and all of one.
    """
    task, some = TASKS[name], list(drafts(name, level, 400))
    share = Counter(item.answer for item in some).most_common(1)[0][1] / len(some)
    found = {
        strategy: sum(task.grade(guess(item), item).correct for item in some) / len(some)
        for strategy, guess in task.baselines.items()
    } | {"the commonest answer": share}
    assert {s: x for s, x in found.items() if x > task.chance.get(level, 0.0) + 0.05} == {}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_a_level_holds_twenty_thousand_instances(name, level):
    """So many distinct instances at least, of which each split has its share."""
    # Of easy instances some come often: it takes more draws to see how many there are.
    often = dict.fromkeys(("induction", "letters", "interleaved"), 6000) | {"arithmetic": 60_000}
    draws = often.get(name, 220)
    assert capacity(TASKS[name], level, draws=draws).at_least >= 20_000


def test_capacity_is_a_lower_bound():
    """Of a thousand things of unlike chances it never tells more, and tells near all in time."""
    few = replace(
        TASKS["arithmetic"],
        draw=lambda rng, _: Draft("", "", str(int(rng.random() ** 2 * 1000)), {}),
    )
    found = [capacity(few, 1, draws=n).at_least for n in (100, 1000, 10_000)]
    assert found == sorted(found)
    assert 900 < found[-1] <= 1000


def test_reach_has_as_many_goals_that_follow_as_not():
    """Labels are the fall of a coin at every level."""
    for level in TASKS["reach"].levels[:3]:
        words = [
            pair.split("=")[1] for i in drafts("reach", level, 300) for pair in i.answer.split()
        ]
        assert abs(words.count("reachable") / len(words) - 0.5) < 3 * 0.5 / len(words) ** 0.5


@pytest.mark.parametrize("name", ["induction", "letters", "interleaved"])
def test_a_gap_is_where_two_rules_would_disagree_or_none(name):
    """Too few terms, a term against the rule or another answer: the enumeration says no."""
    task = TASKS[name]
    for item in drawn(name, 2):
        terms, far = list(item.data["visible"]), len(item.data["visible"]) - 1
        if terms[far] is not None:
            against = {**item.data, "visible": [*terms[:far], terms[far] + 500]}
            assert not task.certify(replace(item, data=against))
        short = {**item.data, "visible": [*terms[:4], None]}
        assert not task.certify(replace(item, data=short))
        assert not task.certify(replace(item, answer="A" if item.answer == "B" else "B"))


def test_a_letter_is_read_kindly():
    """Small, boxed, quoted or after an equals sign; two letters are no answer."""
    item = drawn("letters", 1)[0]
    gold = item.answer
    for said in (gold.lower(), f"\\boxed{{{gold}}}", f" '{gold}'. ", f"? = {gold}"):
        assert TASKS["letters"].check(wrapped(said), item).correct
    assert not TASKS["letters"].check(wrapped(f"{gold}{gold}"), item).parsed


def test_abduction_really_asks_for_the_smallest():
    """From level 2 at least half of the items have a rival: minimal, but larger."""
    for level in (2, 3):
        some = list(drafts("abduction", level, 100))
        assert sum(len(i.certificate["minimal"]) > 1 for i in some) >= 50


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
