"""A toy task and a random tiny Llama: the smallest real things that RL can be run on."""

from pathlib import Path
from random import Random

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from evals.answers import Verdict
from evals.task import Draft, Score, Task
from tests.toy_models import VOCABULARY, toy_tokenizer

# The user's message alone: a model of this size learns the task, not instructions.
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}:{% endif %}"
)


def draw(rng: Random, level: int) -> Draft:
    """Ask for nothing in particular; the level is how many letters are asked with."""
    text = "".join(rng.choice("abcdef") for _ in range(2 + level))
    return Draft(text, "7", text, {})


class DigitTask(Task):
    """Right is an answer that begins with a digit: one in ten at random."""

    def check(self, text, item):
        """Score without tags: a toy model could not learn them in a minute."""
        return Score(format=bool(text), parsed=bool(text), correct=text[:1].isdigit())


DIGITS = DigitTask(
    name="digits",
    alias="dig",
    version="v1",
    levels=(1, 2),
    instructions="Write digits.",
    draw=draw,
    grade=lambda answer, item: Verdict(parsed=True, correct=answer.isdigit()),
    certify=lambda item: True,
    baselines={},
    max_new_tokens=8,
    prefill="",
)


def begins_with_digit(completion, line):
    """Check an answer to a line of a file."""
    return completion[:1].isdigit()


def save_model(
    folder: Path, *, seed: int = 0, hidden: int = 32, layers: int = 2, context: int = 256
) -> Path:
    """Write a random Llama of some 30,000 parameters (hidden 128, 4 layers: 0.9M)."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    toy_tokenizer(TEMPLATE).save_pretrained(folder)
    return folder
