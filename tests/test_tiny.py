"""The embedded family's tokenizer, traces and cold start."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from evals.task import draw_item, get_task, items
from recipes.tiny.coldstart import train
from recipes.tiny.examples import Examples, Settings
from recipes.tiny.tokenizer import TAGS, build
from recipes.tiny.traces import completion, trace

TASKS = ["deduction", "induction", "abduction", "arithmetic"]
SMALL = Settings(steps=6, batch=6, width=16, layers=1, heads=2, hidden=16)


@pytest.fixture(scope="module")
def tokenizer():
    """Train the tokenizer once."""
    return build(samples=60)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("worked", [True, False])
def test_completions_score_full_marks(name, worked):
    """Both ways to answer pass the task's own verifier, format included."""
    task = get_task(name)
    for item in items(task, n=40, split="train", levels=(1, 2)):
        score = task.check(completion(item, worked=worked), item)
        assert score.format
        assert score.correct


@pytest.mark.parametrize("name", TASKS)
def test_a_trace_contains_its_answer_and_names_no_tag(name):
    """The last line of a trace holds what the answer is read from."""
    for item in items(get_task(name), n=20, split="train", levels=(1,)):
        text = trace(item)
        assert not any(tag in text for tag in TAGS)
        last = text.rsplit("\n", 1)[-1]
        if name == "deduction":
            survived = not last.rstrip().endswith("x") or " 1" in last
            assert survived == (item.answer != "UNSAT")
        else:
            assert all(word in last for word in item.answer.split())


def test_a_deduction_trace_is_the_written_one():
    """The format of a trace is part of what the committed weights have learned."""
    item = draw_item(get_task("deduction"), level=1, split="train", seed=0, index=0)
    assert trace(item).split("\n")[0] == "1. ¬B ∧ ¬D: B D x; B ¬D x; ¬B D x; ¬B ¬D 1"


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_any_text_survives_the_tokenizer(tokenizer, text):
    """Decoding gives back what was encoded, tags and line ends included."""
    text = text + "<think>\n¬A</think>"
    ids = tokenizer.encode(text, add_special_tokens=False)
    if not any(t in text for t in ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")):
        assert tokenizer.decode(ids) == text


def test_what_a_trace_copies_is_one_token(tokenizer):
    """Literals, tags and signed digits are single tokens, so a copy is one step."""
    for piece in (" A", " ¬A", "<think>", "</answer>", " -4", " +1", "=true", "\n"):
        assert len(tokenizer.encode(piece, add_special_tokens=False)) == 1


def test_examples_depend_on_their_index_alone(tokenizer):
    """Starting later in the list gives the same batches as starting at the beginning."""
    every = list(Examples(tokenizer, SMALL, 0))
    late = list(Examples(tokenizer, SMALL, 4))
    assert len(every) == 6
    for a, b in zip(every[4:], late, strict=True):
        assert torch.equal(a.run.tokens, b.run.tokens)
        assert all(torch.equal(x, y) for x, y in zip(a[1:], b[1:], strict=True))


def test_what_is_learned_is_the_answer_and_its_end(tokenizer):
    """The place before each learned token holds the one before it; prompts are not learned."""
    batch = next(iter(Examples(tokenizer, SMALL, 0)))
    inside = batch.wanted[:-1][batch.sources[1:] == batch.sources[:-1] + 1]
    after = batch.sources[1:][batch.sources[1:] == batch.sources[:-1] + 1]
    assert torch.equal(batch.run.tokens[after], inside)
    assert (batch.wanted == tokenizer.eos_token_id).sum() == SMALL.batch
    assert not (batch.wanted == tokenizer.encode("<|user|>")[0]).any()


@pytest.mark.slow
def test_a_killed_cold_start_ends_where_an_uninterrupted_one_does(tmp_path: Path):
    """Weights, momentum and the place in the data are all restored."""
    whole = train(tmp_path / "whole", SMALL)

    def stop(text: str) -> None:
        raise KeyboardInterrupt(text)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", SMALL, save_every=4, log=stop, log_every=5)
    again = train(tmp_path / "cut", SMALL, save_every=4)
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, again))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not (again / "training.safetensors").exists()
