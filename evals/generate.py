"""Answers of a live model to prompts: greedy or sampled, in large batches, row by row reproducible.

Prompts are read once for all their samples; a row stops at its own end-of-text token or budget;
the rows that are done leave the batch and waiting prompts take their place. Three engines: `fast`
(evals/fastloop.py; Llama, Qwen2, Qwen3 blocks on a CPU), `hf` (evals/hfloop.py; anything that
`transformers` can load) and `paged` (its continuous batching; greedy, on CUDA). The model's weights
are read anew at each call, so they may be changed in place between calls. Sampled tokens come from
a stream per (prompt name, sample), whatever the batch.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from evals.drafts import Drafts
from evals.task import Item, Task
from merger.device import check_device
from merger.errors import EvalError
from merger.registry import unknown

Engine = Literal["auto", "fast", "hf", "paged"]
Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class Settings:
    """How answers are drawn; without `max_new_tokens` the model's config decides, then the task."""

    max_new_tokens: int | None = None
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf") or not 0 < self.top_p <= 1:
            law = f"temperature {self.temperature}, top-p {self.top_p}: out of range"
            raise EvalError(law, "A temperature is 0 (greedy) or more; top-p lies in (0, 1].")
        if self.samples < 1 or (self.max_new_tokens is not None and self.max_new_tokens < 1):
            raise EvalError("samples and max_new_tokens must be at least 1", "Ask for 1 or more.")
        if self.samples > 1 and self.temperature == 0:
            law = f"{self.samples} samples at temperature 0 are all the same"
            raise EvalError(law, "Set a temperature (1.0, say) or ask for one sample.")


@dataclass(frozen=True)
class Request:
    """One answer wanted: `name` keys the random stream, `budget` is in tokens.

    An answer ends at the first of `stops`, if any, which is not part of it. `asker` tells requests
    of one name apart, where several tasks are asked at once; it changes no answer.
    """

    name: str
    sample: int
    tokens: tuple[int, ...]
    budget: int
    stops: tuple[str, ...] = ()
    asker: int = 0


@dataclass(frozen=True)
class Completion:
    """What a model said after the prompt; `n_tokens` counts the end-of-text token too."""

    text: str
    n_tokens: int
    finish: Finish


Answered = tuple[Request, list[int], Finish]


@dataclass(frozen=True)
class Voice:
    """All that changes a model's answers besides its weights, the prompt and what is asked.

    `digest` is a hash of what turns messages into tokens, `tokens` the token budget that the model
    states, if any, `chat` whether it has a chat template.
    """

    engine: str
    dtype: str
    device: str
    digest: str
    tokens: int | None
    chat: bool

    def budget(self, settings: Settings, default: int) -> int:
        """Return the token budget before the context's limit: option, else model's, else task's."""
        return int(settings.max_new_tokens or self.tokens or default)

    def key(self, settings: Settings, default: int) -> str:
        """Return a hash of all that may change an answer besides weights, prompt and item."""
        drawn = (settings.temperature, settings.top_p, settings.seed)
        facts = (self.engine, self.dtype, self.device, self.digest, self.budget(settings, default))
        text = repr((*facts, *(drawn if settings.temperature else ())))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Answerer:
    """A live model with its tokenizer, ready to answer."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        engine: Engine = "auto",
        batch_tokens: int = 0,
        max_rows: int = 256,
        hands: int = 0,
        drafts: Drafts | None = None,
    ) -> None:
        """Take a loaded causal model.

        `batch_tokens` bounds the places of keys and values that a batch may fill (0: as many as fit
        in a GiB); `max_rows` bounds its rows (beyond 256 a CPU gains nothing). The fast engine
        deals them out to `hands` threads (0: a core each) and takes `drafts` of models asked
        before.
        """
        from evals import fastloop
        from evals.cache import Memory
        from evals.threads import cores

        if engine not in get_args(Engine):
            raise unknown("engine", engine, get_args(Engine))
        self.model, self.tokenizer = model, tokenizer
        known = fastloop.supported(model)
        if engine == "fast" and not known:
            law = f"the fast engine does not know {type(model).__name__} with this config"
            raise EvalError(law, "Use the engine hf.")
        device = next(model.parameters()).device.type
        usual = {"cpu": "fast" if known else "hf", "cuda": "paged"}.get(device, "hf")
        self.engine = usual if engine == "auto" else engine
        self.batch_tokens = batch_tokens or max(1, 2**30 // _cache_bytes(model))
        self.max_rows, self.hands = max_rows, hands or cores()
        self.drafts, self.memory = drafts or Drafts(), Memory()

    @property
    def context(self) -> int:
        """The longest text, prompt and answer, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or 2**31)

    @cached_property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer: the generation config's and the tokenizer's."""
        listed = getattr(self.model.generation_config, "eos_token_id", None)
        ends = {*listed} if isinstance(listed, list | tuple) else {listed}
        return frozenset(int(e) for e in ends | {self.tokenizer.eos_token_id} if e is not None)

    @cached_property
    def digest(self) -> str:
        """A hash of what turns messages into tokens: the tokenizer and its chat template."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        words = backend.to_str() if backend else repr(sorted(self.tokenizer.get_vocab().items()))
        text = f"{words}\x00{self.tokenizer.chat_template}\x00{sorted(self.ends)}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]

    def prompt(self, task: Task, item: Item) -> str:
        """Render the conversation by the model's chat template, then the task's pre-fill."""
        messages = task.messages(item)
        if self.tokenizer.chat_template is None:  # a base model: the bare texts
            return "\n\n".join(m["content"] for m in messages) + f"\n\n{task.prefill}"
        how = {"tokenize": False, "add_generation_prompt": True}
        try:
            chat = str(self.tokenizer.apply_chat_template(messages, **how))
        except Exception as error:  # a template is a program that came with the model
            law = f"the model's chat template fails on a prompt of {task.name}: {error}"
            raise EvalError(law, "Mend its chat_template, or take another model.") from error
        # Some templates open the reasoning themselves.
        return (
            chat if task.prefill and chat.rstrip().endswith(task.prefill) else chat + task.prefill
        )

    @property
    def voice(self) -> Voice:
        """What decides the answers besides weights and prompts, as it is now."""
        first, own = next(self.model.parameters()), self.model.generation_config
        return Voice(
            engine=self.engine,
            dtype=str(first.dtype).removeprefix("torch."),
            device=first.device.type,
            digest=self.digest,
            tokens=getattr(own, "max_new_tokens", None),
            chat=self.tokenizer.chat_template is not None,
        )

    def encode(self, prompt: str) -> tuple[int, ...]:
        """Return a rendered prompt's tokens."""
        return tuple(self.tokenizer.encode(prompt, add_special_tokens=False))

    def fit(self, request: Request) -> Request:
        """Cut a request's budget to what the context leaves; `EvalError` if that is nothing."""
        count, context = len(request.tokens), self.context
        if count >= context:
            law = f"the prompt of {request.name} has {count} tokens; the model reads {context}"
            remedy = "Leave the item out (lower --levels), or take a model with a longer context."
            raise EvalError(law, remedy)
        return replace(request, budget=min(request.budget, context - count))

    def run(
        self, requests: Sequence[Request], settings: Settings
    ) -> Iterator[list[tuple[Request, Completion]]]:
        """Answer requests; yield groups as they finish, in no set order."""
        loop: Callable[..., Iterator[list[Answered]]]
        if self.engine == "fast":
            from evals.batching import run as loop
        elif self.engine == "paged":
            from evals.hfloop import run_paged as loop
        else:
            from evals.hfloop import run as loop
        for group in loop(self, requests, settings):
            yield [(r, self._completion(r, tokens, finish)) for r, tokens, finish in group]

    def answer(
        self, prompts: Sequence[str], settings: Settings | None = None, *, default: int = 8192
    ) -> list[Completion]:
        """Answer rendered prompts: all samples of the first, then of the second, and so on.

        `default` is the token budget where neither the settings nor the model state one. Random
        streams are keyed by the prompts' texts.
        """
        settings = settings or Settings()
        budget = self.voice.budget(settings, default)
        wanted = [
            self.fit(Request(prompt, sample, self.encode(prompt), budget))
            for prompt in prompts
            for sample in range(settings.samples)
        ]
        done = {(r.name, r.sample): c for group in self.run(wanted, settings) for r, c in group}
        return [done[r.name, r.sample] for r in wanted]

    def text(self, tokens: list[int]) -> str:
        """Decode tokens; special ones are kept, as <think> or </answer> may be such."""
        how = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode(tokens, **how))

    def _completion(self, request: Request, tokens: list[int], finish: Finish) -> Completion:
        text = self.text(tokens[:-1] if tokens[-1] in self.ends else tokens)
        for stop in request.stops:
            if stop in text:
                text, finish = text[: text.index(stop)], "stop"
        return Completion(text, len(tokens), finish)


def _cache_bytes(model: Any) -> int:
    """Return the bytes of keys and values of one place in the text."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 1)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    size = next(model.parameters()).element_size()
    return int(2 * config.num_hidden_layers * kv_heads * width * size)


def load_model(path: Path | str, *, device: str = "cpu", dtype: str = "auto") -> tuple[Any, Any]:
    """Load a model folder and its tokenizer, never from the network; `dtype` as torch names it.

    Raises `EvalError` where the folder cannot be loaded or the tokenizer does not give back a text
    (transformers 5 replaces custom tokenizers of some model types without a word).
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    check_device(device)
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise EvalError(f"no dtype named {dtype!r}", "Use auto, float32, bfloat16 or float16.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
    # What transformers raises where a file holds another kind of thing, or a package is missing.
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ImportError) as error:
        told = next((line for line in str(error).splitlines() if line), repr(error))
        law = f"the model {str(path)!r} cannot be loaded: {told}"
        remedy = "Name a folder with config.json, safetensors weights and a tokenizer."
        raise EvalError(law, remedy) from error
    check_round_trip(tokenizer, str(path))
    return model.to(device).eval(), tokenizer


def check_round_trip(tokenizer: Any, where: str) -> None:
    """Raise `EvalError` unless a text survives encoding and decoding, spaces included."""
    text = "The answer to 12 + 30 is 42.\nIf A is true then B is false."
    tokens = tokenizer.encode(text, add_special_tokens=False)
    back = tokenizer.decode(tokens, clean_up_tokenization_spaces=False)
    if back.strip() != text:
        law = f"the tokenizer of {where} turns {text!r} into {back!r}"
        remedy = (
            "Use a Llama or Qwen3 config (transformers 5 overrides tokenizers of qwen2 configs)."
        )
        raise EvalError(law, remedy)
