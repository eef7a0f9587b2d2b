"""The embedded family's tokenizer: byte-level BPE of 512 tokens, with a chat template.

Digits stay single (with their sign and space), literals such as ` ¬A` and atoms such as ` Ba`
become one token each, so that what a trace copies is one token per symbol. Any text can be encoded
and comes back unchanged. The four tags are ordinary added tokens, never special ones: decoding
keeps them. The chat template leaves the system message out, since a model of this size learns the
tasks, not instructions.
"""

from pathlib import Path
from typing import Any

from evals.task import get_task, items
from recipes.tiny.traces import completion

VOCABULARY = 512
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SPECIAL = {"pad_token": "<|pad|>", "eos_token": "<|end|>"}
TURNS = ("<|user|>", "<|assistant|>")
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_PIECES = r"\n|\d\.(?= )| ?[-+×]?\d| ?[¬=]?[A-Za-z]+| ?¬?\(|\)| ?[^\sA-Za-z\d()¬=]+|[¬=]|[^\S\n]+"


def build(*, seed: int = 0, samples: int = 400) -> Any:
    """Train the tokenizer on items of the four tasks and return it as a transformers tokenizer."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    pieces = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pieces, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    plain = [AddedToken(tag, special=False, normalized=False) for tag in TAGS]
    special = [AddedToken(t, special=True, normalized=False) for t in (*SPECIAL.values(), *TURNS)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(plain) - len(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_corpus(seed, samples), trainer)
    tokenizer.add_tokens(plain)
    tokenizer.add_special_tokens(special)
    how: dict[str, Any] = {"clean_up_tokenization_spaces": False, "padding_side": "left"}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **how, **SPECIAL)
    wrapped.chat_template = TEMPLATE
    return wrapped


def _corpus(seed: int, samples: int) -> list[str]:
    """Return prompts, traces and answers of all tasks, tags left out."""
    texts = []
    for name in ("deduction", "induction", "abduction", "arithmetic"):
        task = get_task(name)
        for item in items(task, n=samples, split="train", seed=seed, levels=(1, 2)):
            text = f"{item.prompt}\n{completion(item, worked=True)}"
            for tag in TAGS:
                text = text.replace(tag, "\n ")
            texts.append(text)
    return texts


def save(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer files, and check that text survives the round trip."""
    probe = "1. ¬(A ∨ ¬B)\nSequence: 5 -10 ? é</think><answer>Ba Ce</answer>"
    if tokenizer.decode(tokenizer.encode(probe, add_special_tokens=False)) != probe:
        raise RuntimeError("the tokenizer does not give back the text it was given")
    tokenizer.save_pretrained(folder)
