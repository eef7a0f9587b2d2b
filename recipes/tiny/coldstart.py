"""The cold start: a base that knows two ways to answer, taught by solver-written traces.

Every training item is answered either tersely (an empty think block) or with its worked trace. At
first nearly all answers are worked, so that traces are learned; later it depends on the item: short
ones are mostly worked out and long ones mostly answered offhand, although working them out would be
far more accurate. That habit is what reinforcement learning can mend: it elicits what is latent, it
does not teach (docs/log.md). Matrices are trained by Muon (K.
Jordan, 2024), all else by AdamW. Everything is a function of the seed: items by address, order by
index, one thread.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  the field's usual name

from recipes import packed
from recipes.tiny.examples import Batch, Examples, Settings
from recipes.tiny.tokenizer import build, save

CONTEXT = 512


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
) -> Path:
    """Train a base into a transformers folder; continues where it was killed.

    What enters a product of the blocks is rounded to bfloat16; weights and sums are float32.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer, net = build(seed=settings.seed), model(settings)
    chosen = optimizers(net, settings)
    first = _restore(out, net, chosen, settings)
    examples = Examples(tokenizer, settings, first)
    how: dict[str, Any] = {"batch_size": None, "num_workers": 1, "prefetch_factor": 64}
    loader = torch.utils.data.DataLoader(examples, **how)
    net.train()
    for step, batch in enumerate(loader, first):
        loss = _learn(net, batch)
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


def _learn(net: Any, batch: Batch) -> float:
    """Take the gradient of the weighted mean cross-entropy of a batch; return that mean."""
    with packed.products("fast"):
        with torch.autocast("cpu", torch.bfloat16):
            states = packed.hidden(net, batch.run)[batch.sources]
        losses = F.cross_entropy(net.lm_head(states.float()), batch.wanted, reduction="none")
        loss = (losses * batch.weights).sum() / batch.weights.sum()
        loss.backward()
    return loss.item()


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

    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    net.generation_config = GenerationConfig(max_new_tokens=224, **ends)
    for key, value in ends.items():
        setattr(net.config, key, value)
    net.config.bos_token_id = net.generation_config.bos_token_id = None
    net.save_pretrained(out)
    save(tokenizer, out)
    (out / "coldstart.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")
    (out / "training.safetensors").unlink(missing_ok=True)
    return out
