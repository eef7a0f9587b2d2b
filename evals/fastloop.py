"""A fast decoder for Llama, Qwen2 and Qwen3 blocks on a CPU: the model's own weights, no waste.

Departures from `transformers`: q, k, v and gate, up are one product each, in float32 laid out for
oneDNN, on some processors twice as fast as what torch would take; keys and values lie in blocks of
slots (evals/cache.py), prompts padded on the right. Weights are read when a `Decoder` is made: make
one per call, and an in-place change cannot be missed. In float32 greedy tokens equal those of
`generate` (tests/test_generate.py).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

from evals.cache import BLOCK, Cache, Memory

_KNOWN = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
_ROPE = frozenset({"default", "linear", "llama3"})  # tables that do not depend on the length
MAX_WEIGHTS = 1_000_000_000  # the products cost one more copy of the weights
_CHUNK = 64  # rows that attend together, to the slots of the longest of them
# Products of fewer rows take another path through the CPU's library and round differently, so that
# an answer would depend on its batch.
_LEAST = 8
_LOGITS = 16_000_000  # entries of logits that are made at once

Product = Callable[[Tensor], Tensor]


def supported(model: Any) -> bool:
    """Say whether this loop computes exactly what the model's own forward does."""
    if type(model).__name__ not in _KNOWN:
        return False
    config = model.config
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    rope = getattr(config, "rope_parameters", None) or {}
    return bool(
        next(model.parameters()).device.type == "cpu"
        and all(type(m) is nn.Linear for m in layers)  # an adapter or a quantized layer is not one
        and set(kinds) == {"full_attention"}
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") in _ROPE
        and sum(p.numel() for p in model.parameters()) <= MAX_WEIGHTS
    )


@dataclass(frozen=True)
class _Layer:
    """One block's weights; `head_norms` has a row a head of q and k, or is None.

    The entries of q and k that rotate against each other stand side by side in them.
    """

    norm: Tensor
    qkv: Product
    head_norms: Tensor | None
    out: Product
    after_norm: Tensor
    gate_up: Product
    down: Product


class Decoder:
    """The weights of a supported model at this moment, ready to read prompts and step."""

    @torch.inference_mode()
    def __init__(self, model: Any) -> None:
        config, body = model.config, model.model
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.width: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps: float = config.rms_norm_eps
        self.embedding = body.embed_tokens.weight.detach()
        self.layers = [self._read(layer) for layer in body.layers]
        self.norm = body.norm.weight.detach()
        self.head = self._product(model.lm_head)
        self.finite = True  # all that was computed so far
        self._rotary = body.rotary_emb
        self._turns = torch.empty(0)

    def _read(self, layer: Any) -> _Layer:
        attention, mlp, norms = layer.self_attn, layer.mlp, None
        if hasattr(attention, "q_norm"):
            q, k = attention.q_norm.weight, attention.k_norm.weight
            norms = torch.cat((q.repeat(self.heads), k.repeat(self.kv_heads)))
            norms = self._paired(norms).view(-1, self.width)
        return _Layer(
            norm=layer.input_layernorm.weight.detach(),
            qkv=self._product(attention.q_proj, attention.k_proj, attention.v_proj, turned=2),
            head_norms=norms,
            out=self._product(attention.o_proj),
            after_norm=layer.post_attention_layernorm.weight.detach(),
            gate_up=self._product(mlp.gate_proj, mlp.up_proj),
            down=self._product(mlp.down_proj),
        )

    def _product(self, *parts: Any, turned: int = 0) -> Product:
        """Join products of one input, of which the first `turned` make what will be rotated."""
        weights, biases = [p.weight for p in parts], [p.bias for p in parts]
        for tensors in (weights, biases):
            tensors[:turned] = [t if t is None else self._paired(t) for t in tensors[:turned]]
        weight, bias = torch.cat(weights), None if biases[0] is None else torch.cat(biases)
        ops: Any = torch.ops.mkldnn  # what torch's own compiler calls; absent from some builds
        if weight.dtype == torch.float32 and hasattr(ops, "_linear_pointwise"):
            weight = ops._reorder_linear_weight(weight)
            return lambda x: cast("Tensor", ops._linear_pointwise(x, weight, bias, "none", [], ""))
        return lambda x: F.linear(x, weight, bias)

    def _paired(self, x: Tensor) -> Tensor:
        """Put the entries that rotate against each other side by side, as a complex number."""
        halves = x.view(-1, 2, self.width // 2, x[0].numel())
        return halves.transpose(1, 2).reshape(x.shape)

    def room(self, rows: int, slots: int, memory: Memory) -> Cache:
        """Return an empty cache for this many rows of this many slots."""
        self._reach(-(-slots // BLOCK) * BLOCK)
        shape = (len(self.layers), max(rows, _LEAST), self.kv_heads, self.width)
        return Cache.make(shape, slots, self.norm.dtype, memory)

    @torch.inference_mode()
    def prefill(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int], cache: Cache
    ) -> Tensor:
        """Read prompts into the cache, each as many times; return the logits, (rows, vocabulary).

        What stands behind a row's length is garbage that no earlier place attends to.
        """
        copies = torch.arange(len(prompts)).repeat_interleave(torch.tensor(repeats))
        hidden = self._enter(prompts, copies, cache)
        some = torch.arange(max(len(prompts), _LEAST)).clamp(max=len(prompts) - 1)
        last = torch.tensor([len(p) - 1 for p in prompts])
        return self._logits(hidden[some, last[some]])[copies]

    @torch.inference_mode()
    def verify(
        self, prompts: Sequence[Sequence[int]], drafts: Sequence[Sequence[int]], cache: Cache
    ) -> list[tuple[list[int], float]]:
        """Read prompts with drafted answers into the cache, as far as the model says the same.

        Returns for each the tokens that the model says, the last of which differs from the draft or
        ends it and is not in the cache, and the least distance of its two best logits.
        """
        texts = [[*p, *d[:-1]] for p, d in zip(prompts, drafts, strict=True)]
        hidden = self._enter(texts, torch.arange(len(texts)), cache)
        lengths = cache.lengths[cache.count - len(texts) : cache.count]
        sizes = [len(d) for d in drafts]
        places = torch.cat([hidden[i, len(p) - 1 : len(texts[i])] for i, p in enumerate(prompts)])
        parts = places.split(max(_LEAST, _LOGITS // len(self.embedding)))
        two = [self._logits(part).topk(2) for part in parts]
        margins = torch.cat([t.values[:, 0] - t.values[:, 1] for t in two]).split(sizes)
        words = torch.cat([t.indices[:, 0] for t in two]).split(sizes)
        found = []
        for i, (draft, said, margin) in enumerate(zip(drafts, words, margins, strict=True)):
            same = said[:-1] == torch.tensor(draft[:-1], dtype=torch.long)
            count = int(same.long().cumprod(0).sum()) + 1
            lengths[i] -= len(draft) - count
            found.append((said[:count].tolist(), float(margin[:count].min())))
        return found

    def _enter(self, texts: Sequence[Sequence[int]], copies: Tensor, cache: Cache) -> Tensor:
        """Read texts and write `copies` of them behind the rows in use; return hidden states."""
        rows, slots = max(len(texts), 2), max(*map(len, texts), _LEAST)
        padded = torch.zeros(rows, slots, dtype=torch.long)
        for row, text in enumerate(texts):
            padded[row, : len(text)] = torch.tensor(text)
        turns = self._turns[:slots, None]
        hidden = F.embedding(padded, self.embedding)
        for i, layer in enumerate(self.layers):
            q, k, v = self._heads(layer, hidden, turns)
            hidden = self._mix(layer, hidden, _causal(q, k, v))
            if len(copies) > len(texts):
                k, v = k[copies], v[copies]
            cache.enter(i, k[: len(copies)], v[: len(copies)])
        lengths = torch.tensor([len(text) for text in texts])
        cache.lengths[cache.count : cache.count + len(copies)] = lengths[copies]
        cache.count += len(copies)
        return hidden

    @torch.inference_mode()
    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Append one token, (rows,), to each row of the cache; return the next logits.

        Logits depend on the row alone, bit for bit: rows that are too few are made up.
        """
        rows = max(cache.count, _LEAST)
        # A row that is done is stepped with the others until it is dropped: it stays at the end.
        place = cache.lengths[:rows].clamp(max=len(cache.keys[0]) * BLOCK - 1)
        block, slot, every = place // BLOCK, place % BLOCK, slice(None)
        key_at = (block, torch.arange(rows), every, slot)
        value_at = (block, torch.arange(rows), every, every, slot)
        parts, turns = self._parts(place), self._turns[place, None]
        hidden = F.embedding(F.pad(tokens, (0, rows - cache.count)), self.embedding)
        for layer, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            q, k, v = self._heads(layer, hidden, turns)
            keys[key_at], values[value_at] = k, v
            mixed = [self._attend(q, keys, values, *part) for part in parts]
            hidden = self._mix(layer, hidden, torch.cat(mixed))
        cache.lengths[: cache.count] += 1
        return self._logits(hidden)[: cache.count]

    def _parts(self, place: Tensor) -> list[tuple[slice, Tensor]]:
        """Cut rows into parts of about equal size, each with its mask, (rows·kv heads, 1, slots).

        The mask is added to the weights: 0 up to the row's place, -inf behind it.
        """
        parts, start = [], 0
        for some in place.tensor_split(-(-len(place) // _CHUNK)):
            slots = (int(some.max()) // BLOCK + 1) * BLOCK
            behind = torch.arange(slots) > some[:, None]
            mask = torch.zeros(behind.shape, dtype=self.embedding.dtype)
            mask = mask.masked_fill_(behind, float("-inf")).repeat_interleave(self.kv_heads, 0)
            parts.append((slice(start, start + len(some)), mask[:, None]))
            start += len(some)
        return parts

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, rows: slice, mask: Tensor) -> Tensor:
        """Attend from one new place a row; batched products, faster here than the fused kernel."""
        folded = q[rows].reshape(len(mask), -1, self.width)
        blocks = range(mask.shape[-1] // BLOCK)
        weights = torch.cat([folded @ keys[b, rows].flatten(0, 1).mT for b in blocks], -1)
        weights = weights.mul_(self.width**-0.5).add_(mask)
        weights = torch.softmax(weights, -1, dtype=torch.float32).to(q.dtype)
        split = zip(blocks, weights.split(BLOCK, -1), strict=True)
        mixed = [values[b, rows].flatten(0, 1) @ some.mT for b, some in split]
        return torch.stack(mixed).sum(0).mT.reshape(-1, self.heads * self.width)

    def _heads(self, layer: _Layer, hidden: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v as (…, heads, width), q and k rotated by their place's angle."""
        joint = layer.qkv(self._normed(hidden, layer.norm))
        joint = joint.view(*joint.shape[:-1], -1, self.width)
        both, v = joint.split((self.heads + self.kv_heads, self.kv_heads), -2)
        if layer.head_norms is not None:
            both = self._normed(both, layer.head_norms)
        pairs = torch.view_as_complex(both.float().unflatten(-1, (-1, 2)))
        both = torch.view_as_real(pairs * turns).flatten(-2).to(v.dtype)
        q, k = both.split((self.heads, self.kv_heads), -2)
        return q, k, v

    def _mix(self, layer: _Layer, hidden: Tensor, mixed: Tensor) -> Tensor:
        """Add what attention and then the feed-forward part make of the hidden states."""
        hidden = hidden + layer.out(mixed)
        gate, up = layer.gate_up(self._normed(hidden, layer.after_norm)).chunk(2, -1)
        return hidden + layer.down(F.silu(gate).mul_(up))

    def _logits(self, hidden: Tensor) -> Tensor:
        self.finite = self.finite and bool(hidden.isfinite().all())
        return self.head(self._normed(hidden, self.norm))

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """Divide by the root mean square, taken in float32 as the models do."""
        return F.rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype) * weight

    def _reach(self, slots: int) -> None:
        """Make the table of rotations, (slots, width / 2), from the model's own, long enough."""
        if slots > len(self._turns):
            cos, sin = self._rotary(self.norm.float(), torch.arange(2 * slots)[None])
            self._turns = torch.complex(cos[0], sin[0])[:, : self.width // 2]


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend to what came before; in whole blocks, lest rounding depend on the length.

    All are (rows, slots, heads, width); returns (rows, slots, heads · width).
    """
    slots = q.shape[1]
    q, k, v = (F.pad(x, (0, 0, 0, 0, 0, -slots % BLOCK)).transpose(1, 2) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return mixed.transpose(1, 2)[:, :slots].flatten(2)
