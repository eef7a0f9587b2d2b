"""A toy task and a random tiny Llama: the smallest real things that RL can be run on."""

from pathlib import Path
from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from evals.answers import Verdict
from evals.task import Draft, Task

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
        from evals.task import Score

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


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of single printable characters."""
    letters = [chr(c) for c in range(32, 127)] + ["\n"]
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<end>", "<unk>", *letters])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    raw.decoder = decoders.Fuse()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def save_model(folder: Path, *, seed: int = 0, hidden: int = 32, layers: int = 2) -> Path:
    """Write a random Llama of some 30,000 parameters (hidden 128, 4 layers: 0.9M)."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=98,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
