"""Laws of drafts: what was answered before saves time and changes no answer."""

from types import SimpleNamespace

import pytest
import torch

from evals import batching, drafts
from evals.drafts import Drafts
from evals.fastloop import Decoder
from evals.generate import Answerer, Request, Settings
from search.candidate import BASE
from tests import synthetic
from tests.toy_models import CONFIGS, toy_model, toy_tokenizer

PROMPTS = [f"abc {i} def " * (1 + i % 7) for i in range(30)]
GREEDY = Settings(max_new_tokens=40)


def answerer(model, **options):
    return Answerer(model, toy_tokenizer(), engine="fast", **options)


def near(model, step):
    """Return the model with every weight moved a little: it answers mostly alike."""
    moved = {n: w + step * torch.sin(1e3 * w) for n, w in model.state_dict().items()}
    model.load_state_dict(moved)
    return model


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("step", [0.0, 1e-3, 1e-1])
def test_a_draft_changes_no_answer(kind, step):
    """Equal, near or far from the model that made the drafts: the answers are the model's own."""
    live = answerer(toy_model(kind))
    live.answer(PROMPTS, GREEDY)
    near(live.model, step)
    for budget in (40, 7, 60):  # a draft may be cut by the budget, or end before it
        how = Settings(max_new_tokens=budget)
        assert live.answer(PROMPTS, how) == answerer(live.model).answer(PROMPTS, how)


def test_a_draft_that_is_right_costs_no_step(monkeypatch):
    """Prompts whose answers were given before are verified in one pass and never stepped."""
    live, steps = answerer(toy_model()), []
    first = live.answer(PROMPTS, GREEDY)
    monkeypatch.setattr(batching, "CLOSE", 0.0)
    step = Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda *a: steps.append(1) or step(*a))
    assert live.answer(PROMPTS, GREEDY) == first
    assert not steps


def test_a_close_call_is_answered_again_without_the_draft(monkeypatch):
    """Where two tokens are as good as equal the draft's way of rounding must not decide."""
    live, read = answerer(toy_model()), []
    first = live.answer(PROMPTS, GREEDY)
    monkeypatch.setattr(batching, "CLOSE", float("inf"))
    prefill = Decoder.prefill
    monkeypatch.setattr(Decoder, "prefill", lambda s, p, *a: read.extend(p) or prefill(s, p, *a))
    assert live.answer(PROMPTS, GREEDY) == first
    assert len(read) == len(PROMPTS)


def test_sampled_answers_and_stop_strings_take_no_draft(monkeypatch):
    """A sample depends on its stream, and an answer with a stop string is looked at as it grows."""
    live = answerer(toy_model())
    live.answer(PROMPTS, GREEDY)
    monkeypatch.setattr(Decoder, "verify", None)
    live.answer(PROMPTS, Settings(max_new_tokens=9, temperature=1.0))
    wanted = [live.fit(Request(p, 0, live.encode(p), 9, ("zz",))) for p in PROMPTS]
    assert sum(map(len, live.run(wanted, GREEDY))) == len(PROMPTS)


def test_memory_of_a_broken_model_is_not_used_again():
    """NaN in the keys and values of one call would reach the next through what lies behind."""
    live = answerer(toy_model())
    good = {n: w.clone() for n, w in live.model.state_dict().items()}
    first = live.answer(PROMPTS, GREEDY)
    live.model.load_state_dict({n: w * float("nan") for n, w in good.items()})
    live.answer(PROMPTS, GREEDY)
    live.model.load_state_dict(good)
    live.drafts = Drafts()
    assert live.answer(PROMPTS, GREEDY) == first


def test_memory_is_used_again():
    """The second call writes where the first did."""
    live, places = answerer(toy_model()), set()
    give = live.memory.give
    live.memory = SimpleNamespace(
        take=live.memory.take, give=lambda b: places.add(b.data_ptr()) or give(b)
    )
    for _ in range(3):
        live.answer(PROMPTS, GREEDY)
    assert len(places) == 1


def test_the_most_frequent_answer_is_the_draft():
    """Two against one; unknown prompts have none; the budget cuts it."""
    heard = Drafts()
    for said in ([1, 2], [3, 4, 5], [3, 4, 5]):
        heard.hear("a", (7,), said)
    assert heard.draft("a", (7,), 9) == (3, 4, 5)
    assert heard.draft("a", (7,), 2) == (3, 4)
    assert heard.draft("a", (8,), 9) == heard.draft("b", (7,), 9) == ()


def test_what_is_kept_has_a_bound(monkeypatch):
    """Beyond it nothing new is learned, and what is known still counts."""
    monkeypatch.setattr(drafts, "_MOST", 3)
    heard = Drafts()
    for said in ([1, 2], [3, 4], [3, 4], [1, 2]):
        heard.hear("a", (7,), said)
    assert heard.draft("a", (7,), 9) == (1, 2)


def test_asking_again_knows_nothing_of_the_first_answers(monkeypatch):
    """The A/A test would be none if a model's own answers were its drafts; they are back after."""
    world, seen = synthetic.world(), []
    world.answerer.drafts = first = Drafts()
    run = synthetic.Answerer.run
    monkeypatch.setattr(
        synthetic.Answerer, "run", lambda s, *a: seen.append(s.drafts) or run(s, *a)
    )
    assert world.again(BASE, "search", 10) == (30, 0)
    assert seen[0] is first is world.answerer.drafts
    assert seen[-1] is not first
