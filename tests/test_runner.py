"""Laws of an evaluation: pay once, continue where it stopped, score again without generating."""

import multiprocessing
import os
from dataclasses import replace
from random import Random

import pytest

from evals.generate import Answerer, Settings
from evals.ledger import Ledger, Row
from evals.runner import cell_of, evaluate_all
from evals.task import items
from merger.errors import EvalError
from tests.toy_models import evaluate, toy_model, toy_task, toy_tokenizer

TASK = toy_task()
ITEMS = items(TASK, n=12, split="search")


@pytest.fixture(scope="module")
def model():
    return Answerer(toy_model(), toy_tokenizer())


class Counting(Answerer):
    """An answerer that counts what it is asked and may be killed after some groups."""

    asked, groups = 0, 10**9

    def run(self, requests, settings):
        self.asked += len(requests)
        for done, group in enumerate(super().run(requests, settings)):
            if done == self.groups:
                raise KeyboardInterrupt
            yield group


def counting(model, **options):
    return Counting(model.model, model.tokenizer, **options)


def test_nothing_is_paid_twice(model):
    """The second evaluation asks the model nothing and returns the same rows."""
    store, worker = Ledger(":memory:"), counting(model)
    first = evaluate(worker, "f0", TASK, ITEMS, ledger=store)
    assert evaluate(worker, "f0", TASK, ITEMS, ledger=store) == first
    assert worker.asked == len(ITEMS)
    evaluate(worker, "f1", TASK, ITEMS[:5], ledger=store)  # other weights share nothing
    assert worker.asked == len(ITEMS) + 5


def _evaluate_in_pairs(path, told):
    """Evaluate in batches of two rows and tell after each that it is committed."""
    model = Answerer(toy_model(), toy_tokenizer(), max_rows=2)
    sampled = Settings(max_new_tokens=12, samples=4, temperature=1.0)
    evaluate(
        model, "f0", TASK, ITEMS, ledger=Ledger(path), settings=sampled,
        progress=lambda n, note: os.write(told, b"x" * n),
    )  # fmt: skip


def test_kill_nine_at_twenty_moments_loses_a_batch_at_most(tmp_path):
    """Every row that was told survives; in the end the rows are those of an unbroken run."""
    dice, read, kills, longest = Random(4), 0, 0, 0.2
    fork = multiprocessing.get_context("fork")
    while kills < 20:
        ours, theirs = os.pipe()
        path = tmp_path / f"{kills // 4}.sqlite"  # five ledgers, each of four kills at the most
        child = fork.Process(target=_evaluate_in_pairs, args=(path, theirs))
        child.start()
        os.close(theirs)
        child.join(timeout=dice.uniform(0.02, longest))
        child.kill()
        child.join()
        told = len(os.read(ours, 100_000))
        os.close(ours)
        store = Ledger(path)
        (cell,) = store.cells() or [None]
        assert len(store.rows(cell)) >= told if cell else told == 0
        read, kills = read + told, kills + 1
        longest *= 1 if read else 1.5  # a busy machine has told nothing yet
    assert read > 0
    rows = []
    for place in (":memory:", *sorted(tmp_path.glob("*.sqlite"))):
        model = Answerer(toy_model(), toy_tokenizer())
        sampled = Settings(max_new_tokens=12, samples=4, temperature=1.0)
        rows.append(evaluate(model, "f0", TASK, ITEMS, ledger=Ledger(place), settings=sampled))
    assert all(other == rows[0] for other in rows)


def test_a_killed_evaluation_continues(model):
    """What was committed before the kill is not asked again, and the rows are the same."""
    store, worker = Ledger(":memory:"), counting(model, max_rows=2)
    worker.groups = 2
    with pytest.raises(KeyboardInterrupt):
        evaluate(worker, "f0", TASK, ITEMS, ledger=store)
    worker.groups, worker.asked = 10**9, 0
    rows = evaluate(worker, "f0", TASK, ITEMS, ledger=store)
    assert 0 < worker.asked < len(ITEMS)
    assert rows == evaluate(model, "f0", TASK, ITEMS, ledger=Ledger(":memory:"))


def test_more_samples_extend_fewer(model):
    """Going from two samples to four pays for two."""
    store, worker = Ledger(":memory:"), counting(model)
    two, four = (Settings(temperature=1.0, samples=k) for k in (2, 4))
    before = evaluate(worker, "f0", TASK, ITEMS[:4], ledger=store, settings=two)
    after = evaluate(worker, "f0", TASK, ITEMS[:4], ledger=store, settings=four)
    assert worker.asked == 4 * 2 + 4 * 2
    assert [r for r in after if r.sample < 2] == before


def test_a_mended_scorer_scores_again_without_the_model(model):
    """Scores that other code made are made again from the texts; the model is not asked."""
    store, worker = Ledger(":memory:"), counting(model)
    said = [f"so</think><answer>{item.answer}</answer>" for item in ITEMS]
    old = [
        Row(item.id, 0, text, "stop", 4, True, True, 0.0, "old")
        for item, text in zip(ITEMS, said, strict=True)
    ]
    store.put(cell_of(worker, "f0", TASK), old)
    mended = evaluate(worker, "f0", TASK, ITEMS, ledger=store)
    assert worker.asked == 0
    assert [r.text for r in mended] == said
    assert [repr(r.correct) for r in mended] == ["1.0"] * len(ITEMS)  # as the ledger says it


def test_progress_counts_every_row(model):
    """Progress adds up to the number of rows, whether answered or from the ledger."""
    store, seen = Ledger(":memory:"), []
    for n in (5, 12):
        evaluate(
            model, "f0", TASK, ITEMS[:n], ledger=store, progress=lambda k, note: seen.append(k)
        )
    assert sum(seen) == 5 + 12


def test_an_overlong_prompt_is_named_before_anything_is_generated():
    """A prompt that does not fit is an error that names the item; nothing was paid."""
    store, small = Ledger(":memory:"), Answerer(toy_model(context=32), toy_tokenizer())
    with pytest.raises(EvalError, match=r"sums/v1/search/0/L1/0"):
        evaluate(small, "f0", TASK, ITEMS, ledger=store)
    assert store.cells() == []


def test_tasks_asked_together_answer_as_alone(model):
    """Two tasks in one batch get the rows that each gets alone, sampled ones too."""
    other = replace(TASK, name="other")
    settings = Settings(max_new_tokens=6, samples=2, temperature=1.0)
    asked = [(TASK, ITEMS[:5]), (other, ITEMS[3:8])]
    both = evaluate_all(model, "f0", asked, ledger=Ledger(":memory:"), settings=settings)
    for (task, some), rows in zip(asked, both, strict=True):
        assert rows == evaluate(
            model, "f0", task, some, ledger=Ledger(":memory:"), settings=settings
        )
