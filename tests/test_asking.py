"""Laws of answering lm-eval's requests: nothing asked for is ignored."""

import pytest

from evals.asking import Ask, answer_all, ask_of
from evals.generate import Answerer, Settings
from tests.toy_models import toy_model, toy_tokenizer

PLAIN = {"until": ["\n"], "max_gen_toks": 20, "do_sample": False, "temperature": 0.0}


@pytest.fixture(scope="module")
def model():
    return Answerer(toy_model(context=64), toy_tokenizer())


def answer(model, *asked):
    return answer_all(model, asked, encode=lambda s: model.tokenizer.encode(s))


def test_options_become_settings():
    """Greedy and sampled requests are read; a temperature without sampling is greedy."""
    assert ask_of("c", PLAIN) == Ask("c", Settings(max_new_tokens=20), ("\n",))
    drawn = ask_of("c", PLAIN | {"do_sample": True, "temperature": 0.6, "top_p": 0.9})
    assert (drawn.settings.temperature, drawn.settings.top_p) == (0.6, 0.9)
    assert ask_of("c", PLAIN | {"temperature": 0.6}).settings.temperature == 0.0


@pytest.mark.parametrize("option", [{"top_k": 5}, {"repetition_penalty": 1.1}, {"num_beams": 2}])
def test_an_option_that_is_not_ours_is_not_ignored(option):
    """Such a request is left to the backend that knows it."""
    assert ask_of("c", PLAIN | option) is None


def test_repeats_are_samples_of_their_own(model):
    """The same context twice is drawn twice, and the pair is drawn the same again."""
    ask = ask_of("abc", PLAIN | {"do_sample": True, "temperature": 1.0, "until": []})
    first, second = answer(model, ask, ask)
    assert first != second
    assert answer(model, ask, ask) == [first, second]


def test_a_long_context_loses_its_beginning(model):
    """What fits before the budget is its end."""
    long, end = "xyz" * 40, ("xyz" * 40)[-44:]
    said = answer(model, ask_of(long, PLAIN), ask_of(end, PLAIN))
    assert said[0] == said[1]


@pytest.mark.parametrize("engine", ["fast", "hf"])
def test_a_stop_string_ends_the_answer_before_it(engine):
    """Text ends before the first stop string, wherever tokens end, in both engines."""
    model = Answerer(toy_model(), toy_tokenizer(), engine=engine)
    free = answer(model, ask_of("abc", PLAIN | {"until": []}))[0]
    stop = free.text[2:4]
    cut = answer(model, ask_of("abc", PLAIN | {"until": [stop, "never said"]}))[0]
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.finish == "stop"
