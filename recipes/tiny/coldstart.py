"""The cold start: a base that knows two ways to answer, taught by solver-written traces.

Every training item is answered either tersely (an empty think block) or with its worked trace. At
first nearly all answers are worked, so that traces are learned; later it depends on the item: short
ones are mostly worked out and long ones mostly answered offhand, although working them out would be
far more accurate. That habit is what reinforcement learning can mend: it elicits what is latent, it
does not teach (docs/log.md). Matrices are trained by Muon (K.
Jordan, 2024), all else by AdamW. Everything is a function of the seed: items by address, order by
index, one thread.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  the field's usual name

from evals.task import Item, draw_item, get_task
from recipes.tiny.tokenizer import build, save
from recipes.tiny.traces import completion, found, size

CONTEXT = 512
IGNORED = -100
PARTS = 3
LONGEST = 160  # tokens of a worked answer; longer ones are given tersely


class Phase(NamedTuple):
    """A stretch of the cold start: how much is worked out, of what, and the learning rate.

    `part` is its length relative to the others'; `quick` as in traces.py; `rate` what both learning
    rates are multiplied with at its first and last step; `shares` of the items, in `mix` order.
    """

    part: int
    worked_short: float
    worked_long: float
    quick: bool
    rate: tuple[float, float]
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Settings:
    """What decides the base; `mix` is (task, level), `short` the largest size that counts so."""

    steps: int = 6350
    batch: int = 32
    width: int = 128
    layers: int = 5
    heads: int = 4
    hidden: int = 352
    muon_lr: float = 0.008
    adam_lr: float = 1.5e-3
    seed: int = 0
    short: tuple[tuple[str, int], ...] = (
        ("deduction", 3),
        ("induction", 8),
        ("abduction", 5),
        ("arithmetic", 0),
    )
    mix: tuple[tuple[str, int], ...] = (
        ("deduction", 1),
        ("induction", 1),
        ("induction", 2),
        ("abduction", 1),
        ("arithmetic", 1),
    )
    phases: tuple[Phase, ...] = (
        Phase(3575, 0.85, 0.85, False, (1.0, 0.35), (0.33, 0.10, 0.18, 0.27, 0.12)),
        Phase(175, 0.85, 0.25, False, (0.35, 0.318), (0.28, 0.10, 0.18, 0.34, 0.10)),
        Phase(2600, 0.85, 0.25, True, (0.45, 0.0), (0.28, 0.10, 0.18, 0.34, 0.10)),
    )

    def at(self, step: int) -> tuple[Phase, float]:
        """Return the phase of a step and the step's learning rate multiplier."""
        total, end = sum(Phase(*p).part for p in self.phases), 0.0
        for phase in (Phase(*p) for p in self.phases):
            start, end = end, end + self.steps * phase.part / total
            if step < end - 1e-6:
                break
        else:
            raise ValueError(f"step {step} is beyond the last of {self.steps}")
        first, last = phase.rate
        rate = first + (last - first) * (step - start) / (end - start)
        return phase, rate * min(1.0, (step + 1) / 100)


def model(settings: Settings) -> Any:
    """Return an untrained Llama of the embedded family's shape, float32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=settings.width,
            intermediate_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            dtype="float32",
        )
    )


class Part(NamedTuple):
    """Rows of like length: tokens and labels (rows, length) int64, weights (rows,)."""

    tokens: Tensor
    labels: Tensor
    weights: Tensor


class Examples(torch.utils.data.IterableDataset[list[Part]]):
    """Batches cut into parts of like length, padded right; prompts are not learned."""

    def __init__(self, tokenizer: Any, settings: Settings, first: int) -> None:
        super().__init__()
        self.tokenizer, self.settings, self.first = tokenizer, settings, first

    def __iter__(self) -> Iterator[list[Part]]:
        """Yield the batches from step `first` on."""
        for step in range(self.first, self.settings.steps):
            n = self.settings.batch
            rows = sorted((self.example(step * n + i) for i in range(n)), key=lambda r: len(r[0]))
            part = math.ceil(n / PARTS)
            yield [_pad(rows[i : i + part]) for i in range(0, n, part)]

    def example(self, index: int) -> tuple[list[int], int]:
        """Return the tokens of example `index` and the length of its prompt."""
        s = self.settings
        rng = Random(f"coldstart/{s.seed}/{index}")
        phase, _ = s.at(index // s.batch)
        name, level = rng.choices(s.mix, weights=phase.shares)[0]
        task = get_task(name)
        item = draw_item(task, level=level, split="train", seed=s.seed, index=index)
        short = size(item) <= dict(s.short)[name]
        worked = rng.random() < (phase.worked_short if short else phase.worked_long)
        prompt = self.tokenizer.apply_chat_template(
            task.messages(item), tokenize=False, add_generation_prompt=True
        )
        head = self._encode(prompt + task.prefill)
        tail = self._tail(item, worked and (found(item) or not phase.quick), phase.quick)
        return head + (tail if len(tail) <= LONGEST else self._tail(item, False, False)), len(head)

    def _tail(self, item: Item, worked: bool, quick: bool) -> list[int]:
        return self._encode(completion(item, worked=worked, quick=quick) + self.tokenizer.eos_token)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


def _pad(rows: list[tuple[list[int], int]]) -> Part:
    """Pad rows to one length; an example weighs the square root of its number of learned tokens."""
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    for i, (ids, prompt) in enumerate(rows):
        tokens[i, : len(ids)] = torch.tensor(ids)
        labels[i, prompt : len(ids)] = tokens[i, prompt : len(ids)]
    learned = (labels != IGNORED).sum(1)
    return Part(tokens, labels, learned.rsqrt())


def optimizers(net: Any, settings: Settings) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the blocks and AdamW for embeddings and norms."""
    matrices = [p for n, p in net.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in net.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(matrices, lr=settings.muon_lr, weight_decay=0.01, momentum=0.95)
    adam = torch.optim.AdamW(others, lr=settings.adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
    return [muon, adam]


def train(
    out: Path,
    settings: Settings,
    *,
    log: Any = None,
    log_every: int = 50,
    save_every: int = 250,
    compiled: bool | None = None,
) -> Path:
    """Train the base into a transformers folder; continues where it was killed.

    `compiled` fuses the model's small operations with torch.compile: two minutes once, then a third
    less time a step. By default that is done where it pays and a C++ compiler is at hand.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = build(seed=settings.seed)
    net = model(settings)
    chosen = optimizers(net, settings)
    first = _restore(out, net, chosen, settings)
    examples = Examples(tokenizer, settings, first)
    loader = torch.utils.data.DataLoader(
        examples, batch_size=None, num_workers=1, prefetch_factor=64
    )
    net.train()
    if compiled is None:
        compiled = settings.steps >= 2000 and shutil.which("g++") is not None
    if compiled:
        net.model.forward = torch.compile(net.model.forward, dynamic=True)
    for step, parts in enumerate(loader, first):
        loss = _learn(net, parts)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        _, scale = settings.at(step)
        for optimizer, lr in zip(chosen, (settings.muon_lr, settings.adam_lr), strict=True):
            optimizer.param_groups[0]["lr"] = lr * scale
            optimizer.step()
            optimizer.zero_grad()
        if log and (step + 1) % log_every == 0:
            log(f"step {step + 1}/{settings.steps} loss {loss:.4f}")
        if (step + 1) % save_every == 0 and step + 1 < settings.steps:
            _keep(out, net, chosen, step + 1, settings)
    return _finish(out, net, tokenizer, settings)


def _learn(net: Any, parts: list[Part]) -> float:
    """Accumulate the gradient of the weighted mean cross-entropy over a batch; return that mean."""
    total = sum(float(((p.labels != IGNORED).sum(1) * p.weights).sum()) for p in parts)
    mean = 0.0
    for tokens, labels, weights in parts:
        hidden = net.model(input_ids=tokens).last_hidden_state[:, :-1]
        wanted = labels[:, 1:]
        kept = wanted != IGNORED  # only these rows go through the output matrix
        losses = F.cross_entropy(net.lm_head(hidden[kept]), wanted[kept], reduction="none")
        loss = (losses * weights[:, None].expand_as(wanted)[kept]).sum() / total
        loss.backward()
        mean += loss.item()
    return mean


def _keep(
    out: Path, net: Any, chosen: list[torch.optim.Optimizer], step: int, settings: Settings
) -> None:
    """Save weights and optimizer state as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {f"net.{n}": p.detach().contiguous() for n, p in net.named_parameters()}
    for k, optimizer in enumerate(chosen):
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"opt{k}.{i}.{n}": v.clone() for n, v in state.items() if isinstance(v, Tensor)
            }
    meta = {"step": str(step), "settings": json.dumps(asdict(settings))}
    partial = out / "training.partial"
    save_file(tensors, partial, metadata=meta)
    partial.replace(out / "training.safetensors")


def _restore(out: Path, net: Any, chosen: list[torch.optim.Optimizer], settings: Settings) -> int:
    """Load what `_keep` saved for the same settings; return the step to go on from."""
    from safetensors import safe_open

    path = out / "training.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as kept:
        meta = kept.metadata()
        if meta["settings"] != json.dumps(asdict(settings)):
            return 0
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.copy_(kept.get_tensor(f"net.{name}"))
        for k, optimizer in enumerate(chosen):
            state: dict[int, dict[str, Tensor]] = {}
            for key in kept.keys():  # noqa: SIM118  not a dict
                if key.startswith(f"opt{k}."):
                    _, i, name = key.split(".", 2)
                    state.setdefault(int(i), {})[name] = kept.get_tensor(key)
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return int(meta["step"])


def _finish(out: Path, net: Any, tokenizer: Any, settings: Settings) -> Path:
    """Write the model folder and remove the training state."""
    from transformers import GenerationConfig

    net.generation_config = GenerationConfig(
        max_new_tokens=224, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    net.config.eos_token_id, net.config.pad_token_id = (
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
    net.config.bos_token_id = net.generation_config.bos_token_id = None
    net.save_pretrained(out)
    save(tokenizer, out)
    (out / "coldstart.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")
    (out / "training.safetensors").unlink(missing_ok=True)
    return out
