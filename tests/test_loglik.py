"""Laws of teacher-forced log-likelihood."""

import math

import pytest
import torch

from evals import loglik
from evals.generate import Answerer, Settings
from evals.loglik import log_likelihoods
from merger.errors import EvalError
from tests.toy_models import toy_model, toy_tokenizer

PAIRS = [("abc " * n, "xyz " * (1 + n % 3)) for n in range(1, 12)]


@pytest.fixture(scope="module")
def model():
    return Answerer(toy_model(), toy_tokenizer())


def test_it_is_the_sum_of_log_softmax(model):
    """Each number is what a plain loop over places adds up to."""
    for (prompt, said), found in zip(PAIRS, log_likelihoods(model, PAIRS), strict=True):
        ids = model.tokenizer.encode(prompt + said, add_special_tokens=False)
        with torch.no_grad():
            logits = model.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        places = range(len(prompt), len(ids))
        assert found.total == pytest.approx(sum(float(logits[i - 1, ids[i]]) for i in places), 1e-5)
        assert found.n_tokens == len(said)


def test_batches_do_not_matter(model, monkeypatch):
    """One at a time or all at once: the same numbers, in the order asked."""
    together = log_likelihoods(model, PAIRS)
    monkeypatch.setattr(loglik, "_LOGITS", 1)
    alone = log_likelihoods(model, PAIRS)
    for a, b in zip(together, alone, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def test_the_greedy_answer_is_greedy(model):
    """What greedy decoding says is marked so, and anything else is not."""
    said = model.answer(["abc "], Settings(max_new_tokens=5))[0].text
    first, second = log_likelihoods(model, [("abc ", said), ("abc ", said[:-1] + "~")])
    assert (first.greedy, second.greedy) == (True, False)


def test_probabilities_of_all_next_tokens_add_up(model):
    """The likelihoods of every possible character make less than one whole, by the specials."""
    marks = [chr(c) for c in range(32, 127)] + ["\n"]
    total = sum(math.exp(s.total) for s in log_likelihoods(model, [("abc", m) for m in marks]))
    assert 0 < total <= 1 + 1e-6


@pytest.mark.parametrize("pair", [("", "x"), ("x", ""), ("x" * 500, "y" * 13)])
def test_what_cannot_be_read_is_an_error(model, pair):
    """Empty parts and texts beyond the context are told."""
    with pytest.raises(EvalError, match="pair 1"):
        log_likelihoods(model, [("a", "b"), pair])
