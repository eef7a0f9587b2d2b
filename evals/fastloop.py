"""A fast decoder for Llama, Qwen2 and Qwen3 blocks on a CPU: the model's own weights, no waste.

Departures from `transformers`: q, k, v and gate, up are one product each, in float32 laid out for
oneDNN, on some processors twice as fast as what torch would take; keys and values lie in blocks of
slots allocated once, slots last, a row from slot 0 (prompts padded on the right, a length per row),
so that nothing is copied as the text grows and a row that is done is overwritten by a living one.
Weights are read when a `Decoder` is made: make one per call, and an in-place change cannot be
missed. In float32 greedy tokens equal those of `generate` (tests/test_generate.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

_KNOWN = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
_ROPE = frozenset({"default", "linear", "llama3"})  # tables that do not depend on the length
MAX_WEIGHTS = 1_000_000_000  # the products cost one more copy of the weights
_BLOCK = 32  # slots to which attention is filled up
_CHUNK = 64  # rows that attend together, to the slots of the longest of them
# Products of fewer rows take another path through the CPU's library and round differently, so that
# an answer would depend on its batch.
_LEAST = 8

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


@dataclass
class Cache:
    """Keys and values, a buffer a layer each, in blocks of slots: the first `count` rows are used.

    Keys are (blocks, rows, heads, slots of a block, width) and values (…, width, slots of a block),
    so that either product reads memory in its order. `lengths` says how much of each row is used;
    what lies behind is finite.
    """

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor
    count: int = 0

    def enter(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write a layer's (rows, slots, heads, width) keys and values behind the rows in use."""
        rows = slice(self.count, self.count + len(keys))
        for block, part in zip(self.keys[layer], keys.split(_BLOCK, 1), strict=False):
            block[rows, :, : part.shape[1]] = part.transpose(1, 2)
        for block, part in zip(self.values[layer], values.split(_BLOCK, 1), strict=False):
            block[rows, :, :, : part.shape[1]] = part.permute(0, 2, 3, 1)

    @torch.inference_mode()
    def keep(self, alive: Sequence[bool]) -> list[int]:
        """Keep the living rows, the last of them in the places of the dead; return the order."""
        order = [i for i, lives in enumerate(alive) if lives]
        count = len(order)
        holes = [i for i in range(count) if not alive[i]]
        movers = order[count - len(holes) :]
        if holes:
            to, source = torch.tensor(holes), torch.tensor(movers)
            used = int(self.lengths[source].max()) // _BLOCK + 1
            for buffer in (*self.keys, *self.values):
                for block in buffer[:used]:
                    block[to] = block[source]
            self.lengths[to] = self.lengths[source]
        self.lengths[count : self.count] = 0
        self.count = count
        moved = dict(zip(holes, movers, strict=True))
        return [moved.get(i, i) for i in range(count)]


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

    @torch.inference_mode()
    def room(self, rows: int, slots: int) -> Cache:
        """Return an empty cache for this many rows of this many slots."""
        blocks, rows = -(-slots // _BLOCK), max(rows, _LEAST)
        self._reach(blocks * _BLOCK)
        shape = (len(self.layers), blocks, rows, self.kv_heads, _BLOCK, self.width)
        size = math.prod(shape) * self.norm.element_size()
        # Zeros of the system, which takes the memory of a page when it is first written.
        keys, values = (
            torch.from_numpy(np.zeros(size, np.uint8)).view(self.norm.dtype).view(shape)
            for _ in range(2)
        )
        values = values.view(*shape[:-2], self.width, _BLOCK)
        return Cache(list(keys), list(values), torch.zeros(rows, dtype=torch.long))

    @torch.inference_mode()
    def prefill(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int], cache: Cache
    ) -> Tensor:
        """Read prompts into the cache, each as many times; return the logits, (rows, vocabulary).

        What stands behind a row's length is garbage that no earlier place attends to.
        """
        lengths = torch.tensor([len(p) for p in prompts])
        rows, slots = max(len(prompts), 2), max(int(lengths.max()), _LEAST)
        padded = torch.zeros(rows, slots, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            padded[row, : len(prompt)] = torch.tensor(prompt)
        turns = self._turns[:slots, None]
        hidden = F.embedding(padded, self.embedding)
        copies = torch.arange(len(prompts)).repeat_interleave(torch.tensor(repeats))
        for i, layer in enumerate(self.layers):
            q, k, v = self._heads(layer, hidden, turns)
            hidden = self._mix(layer, hidden, _causal(q, k, v))
            if len(copies) > len(prompts):
                k, v = k[copies], v[copies]
            cache.enter(i, k[: len(copies)], v[: len(copies)])
        cache.lengths[cache.count : cache.count + len(copies)] = lengths[copies]
        cache.count += len(copies)
        some = torch.arange(max(len(prompts), _LEAST)).clamp(max=len(prompts) - 1)
        return self._logits(hidden[some, lengths[some] - 1])[copies]

    @torch.inference_mode()
    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Append one token, (rows,), to each row of the cache; return the next logits.

        Logits depend on the row alone, bit for bit: rows that are too few are made up.
        """
        rows = max(cache.count, _LEAST)
        # A row that is done is stepped with the others until it is dropped: it stays at the end.
        place = cache.lengths[:rows].clamp(max=len(cache.keys[0]) * _BLOCK - 1)
        block, slot, every = place // _BLOCK, place % _BLOCK, slice(None)
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
            slots = (int(some.max()) // _BLOCK + 1) * _BLOCK
            behind = torch.arange(slots) > some[:, None]
            mask = torch.zeros(behind.shape, dtype=self.embedding.dtype)
            mask = mask.masked_fill_(behind, float("-inf")).repeat_interleave(self.kv_heads, 0)
            parts.append((slice(start, start + len(some)), mask[:, None]))
            start += len(some)
        return parts

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, rows: slice, mask: Tensor) -> Tensor:
        """Attend from one new place a row; batched products, faster here than the fused kernel."""
        folded = q[rows].reshape(len(mask), -1, self.width)
        blocks = range(mask.shape[-1] // _BLOCK)
        weights = torch.cat([folded @ keys[b, rows].flatten(0, 1).mT for b in blocks], -1)
        weights = weights.mul_(self.width**-0.5).add_(mask)
        weights = torch.softmax(weights, -1, dtype=torch.float32).to(q.dtype)
        split = zip(blocks, weights.split(_BLOCK, -1), strict=True)
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
    q, k, v = (F.pad(x, (0, 0, 0, 0, 0, -slots % _BLOCK)).transpose(1, 2) for x in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return mixed.transpose(1, 2)[:, :slots].flatten(2)
