"""Tiny random models with a character tokenizer, and a toy task: real stand-ins, not fakes."""

from random import Random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from evals.answers import grade_number
from evals.runner import evaluate_all
from evals.task import Draft, Task

CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
_SPECIAL = {"<pad>": 0, "<end>": 1, "<unk>": 2}
_CHARACTERS = [chr(i) for i in range(32, 127)] + ["\n"]
VOCABULARY = _SPECIAL | {c: i for i, c in enumerate(_CHARACTERS, len(_SPECIAL))}


def toy_tokenizer(template=TEMPLATE):
    """Return a tokenizer with one token a character."""
    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    special = {"eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    tokenizer.chat_template = template
    return tokenizer


def toy_model(kind="llama", seed=0, context=512, **options):
    """Return a random float32 model, peaked enough that no two logits tie, that does say <end>."""
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 64, "num_key_value_heads": 2, "initializer_range": 0.3}
    if kind == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=context, **_TOKENS)
    else:
        config = CONFIGS[kind](**sizes, max_position_embeddings=context, **_TOKENS, **options)
    model = AutoModelForCausalLM.from_config(config).eval()
    if kind != "gpt2":
        with torch.no_grad():
            model.lm_head.weight[_SPECIAL["<end>"]] *= 1.5
            for name, weight in model.named_parameters():
                if name.endswith("bias"):
                    weight.normal_(0, 0.3)
    return model


_TOKENS = {
    "vocab_size": len(VOCABULARY),
    "eos_token_id": 1,
    "bos_token_id": None,
    "pad_token_id": 0,
}


def _draft(rng: Random, level: int) -> Draft:
    a, b = rng.randint(0, 9 * 10**level), rng.randint(0, 9 * 10**level)
    return Draft(f"{a} + {b} = ?", str(a + b), f"{min(a, b)} {max(a, b)}", {"sum": a + b})


def toy_task(**changes):
    """Return an unregistered task of sums, with a token budget of 24."""
    facts = {
        "name": "sums",
        "alias": "sum",
        "version": "v1",
        "levels": (1, 2),
        "instructions": "Add.",
        "draw": _draft,
        "grade": lambda answer, item: grade_number(answer, item.data["sum"]),
        "certify": lambda item: int(item.answer) == item.data["sum"],
        "baselines": {"zero": lambda item: "0"},
        "max_new_tokens": 24,
    }
    return Task(**(facts | changes))


def evaluate(answerer, mark, task, items, **how):
    """Return the rows of one task's items."""
    return evaluate_all(answerer, mark, [(task, items)], **how)[0]
