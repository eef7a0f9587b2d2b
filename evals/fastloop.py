"""A fast decoder for Llama, Qwen2 and Qwen3 blocks on a CPU: the model's own weights, no waste.

Departures from `transformers`: q, k, v and gate, up are joined into one product each; keys and
values live in one static buffer a layer and a row begins at slot 0 (prompts padded on the right, a
length per row), so nothing is copied as the text grows, no left padding is ever attended to, and
dropping or repeating a row is one index. Weights are read from the live module when a `Decoder` is
made: make one per call, and an in-place change of the weights cannot be missed. In float32 greedy
tokens equal those of `generate` (tests/test_generate.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor, nn

_KNOWN = frozenset({"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
_ROPE = frozenset({"default", "linear", "llama3"})  # tables that do not depend on the length
MAX_WEIGHTS = 1_000_000_000  # the joined products cost one more copy of the weights
_BLOCK = 64  # slots by which the buffers grow
# Products of fewer rows take another path through the CPU's library and round differently (seen
# with up to 4 rows), so that an answer would depend on its batch.
_LEAST = 8


def enough(rows: int) -> Tensor:
    """Return the places of `rows` rows, the last one standing in for rows that are too few."""
    return torch.arange(max(rows, _LEAST)).clamp(max=rows - 1)


def supported(model: Any) -> bool:
    """Say whether this loop computes exactly what the model's own forward does."""
    if type(model).__name__ not in _KNOWN:
        return False
    config = model.config
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    rope = getattr(config, "rope_parameters", None) or {}
    return bool(
        all(type(m) is nn.Linear for m in layers)  # an adapter or a quantized layer is not one
        and set(kinds) == {"full_attention"}
        and config.hidden_act == "silu"
        and rope.get("rope_type", "default") in _ROPE
        and sum(p.numel() for p in model.parameters()) <= MAX_WEIGHTS
    )


@dataclass
class Cache:
    """Keys and values of some rows, a (rows, heads, slots, width) buffer a layer; the lengths."""

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.lengths.shape[0])

    def take(self, index: Tensor) -> Cache:
        """Return the rows at these places, in this order; a place may repeat."""
        index = index.to(self.lengths.device)
        keys = [k.index_select(0, index) for k in self.keys]
        values = [v.index_select(0, index) for v in self.values]
        return Cache(keys, values, self.lengths.index_select(0, index))

    def grow(self, slots: int) -> None:
        """Make room for this many slots, rounded up to whole blocks."""
        more = -(-slots // _BLOCK) * _BLOCK - self.keys[0].shape[2]
        if more > 0:
            self.keys = [F.pad(k, (0, 0, 0, more)) for k in self.keys]
            self.values = [F.pad(v, (0, 0, 0, more)) for v in self.values]

    def join(self, other: Cache) -> Cache:
        """Return these rows followed by those of another cache."""
        slots = max(self.keys[0].shape[2], other.keys[0].shape[2])
        self.grow(slots)
        other.grow(slots)
        keys = [torch.cat(pair) for pair in zip(self.keys, other.keys, strict=True)]
        values = [torch.cat(pair) for pair in zip(self.values, other.values, strict=True)]
        return Cache(keys, values, torch.cat((self.lengths, other.lengths)))


@dataclass(frozen=True)
class _Layer:
    """One block's weights; each product is (weight, bias or None)."""

    norm: Tensor
    qkv: tuple[Tensor, Tensor | None]
    head_norms: tuple[Tensor, Tensor] | None
    out: tuple[Tensor, Tensor | None]
    after_norm: Tensor
    gate_up: tuple[Tensor, Tensor | None]
    down: tuple[Tensor, Tensor | None]


def _joined(*parts: nn.Linear) -> tuple[Tensor, Tensor | None]:
    """Join products of one input into one."""
    weight = torch.cat([p.weight for p in parts]) if len(parts) > 1 else parts[0].weight
    if not hasattr(parts[0].bias, "shape"):
        return weight.detach(), None
    bias = torch.cat([p.bias for p in parts]) if len(parts) > 1 else parts[0].bias
    return weight.detach(), bias.detach()


def _read_layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    normed = hasattr(attention, "q_norm")
    return _Layer(
        norm=layer.input_layernorm.weight.detach(),
        qkv=_joined(attention.q_proj, attention.k_proj, attention.v_proj),
        head_norms=(attention.q_norm.weight, attention.k_norm.weight) if normed else None,
        out=_joined(attention.o_proj),
        after_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=_joined(mlp.gate_proj, mlp.up_proj),
        down=_joined(mlp.down_proj),
    )


class Decoder:
    """The weights of a supported model at this moment, ready to read prompts and step."""

    @torch.no_grad()
    def __init__(self, model: Any) -> None:
        config, body = model.config, model.model
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self.width: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps: float = config.rms_norm_eps
        self.embedding = body.embed_tokens.weight.detach()
        self.layers = [_read_layer(layer) for layer in body.layers]
        self.norm = body.norm.weight.detach()
        self.head = _joined(model.lm_head)
        self._rotary = body.rotary_emb
        self._cos, self._sin = self._tables(_BLOCK)

    @torch.no_grad()
    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Cache]:
        """Read prompts; return the logits after each, (rows, vocabulary), and their cache."""
        lengths = torch.tensor([len(p) for p in prompts], device=self.embedding.device)
        slots = max(int(lengths.max()), _LEAST)
        padded = torch.zeros(len(prompts), slots, dtype=torch.long, device=lengths.device)
        for row, prompt in enumerate(prompts):
            padded[row, : len(prompt)] = torch.tensor(prompt)
        hidden, cache = self.read(padded, lengths)
        rows = enough(len(prompts)).to(lengths.device)
        last = hidden[rows, lengths[rows] - 1]
        return F.linear(last, *self.head)[: len(prompts)], cache

    @torch.no_grad()
    def read(self, padded: Tensor, lengths: Tensor) -> tuple[Tensor, Cache]:
        """Run (rows, slots) tokens padded on the right; return final hidden states and the cache.

        What stands behind a row's length is garbage that no earlier place attends to.
        """
        rows, slots = padded.shape
        self._reach(slots)
        cos, sin = self._cos[:slots], self._sin[:slots]
        hidden = F.embedding(padded, self.embedding)
        cache = Cache([], [], lengths)
        for layer in self.layers:
            q, k, v = self._heads(layer, self._normed(hidden, layer.norm), (rows, slots), cos, sin)
            hidden = hidden + F.linear(_causal(q, k, v).transpose(1, 2).flatten(2), *layer.out)
            hidden = hidden + self._mlp(layer, self._normed(hidden, layer.after_norm))
            cache.keys.append(k)
            cache.values.append(v)
        cache.grow(slots + 1)
        return self._normed(hidden, self.norm), cache

    @torch.no_grad()
    def step(self, tokens: Tensor, cache: Cache) -> Tensor:
        """Append one token, (rows,), to each row of the cache; return the next logits.

        Logits depend on the row alone, bit for bit, if the cache has `enough` rows.
        """
        rows, longest = cache.rows, int(cache.lengths.max()) + 1
        cache.grow(longest)
        self._reach(longest)
        slots = min(-(-longest // 16) * 16, cache.keys[0].shape[2])
        at, place = torch.arange(rows, device=tokens.device), cache.lengths
        unseen = torch.arange(slots, device=tokens.device) > place[:, None]
        unseen = unseen.repeat_interleave(self.kv_heads, 0)[:, None]  # (rows·kv heads, 1, slots)
        cos, sin = self._cos[place][:, None, None], self._sin[place][:, None, None]
        hidden = F.embedding(tokens, self.embedding)
        for i, layer in enumerate(self.layers):
            q, k, v = self._heads(
                layer, self._normed(hidden, layer.norm)[:, None], (rows, 1), cos, sin
            )
            cache.keys[i][at, :, place] = k[:, :, 0]
            cache.values[i][at, :, place] = v[:, :, 0]
            mixed = self._attend(
                q, cache.keys[i][:, :, :slots], cache.values[i][:, :, :slots], unseen
            )
            hidden = hidden + F.linear(mixed, *layer.out)
            hidden = hidden + self._mlp(layer, self._normed(hidden, layer.after_norm))
        cache.lengths = cache.lengths + 1
        return F.linear(self._normed(hidden, self.norm), *self.head)

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, unseen: Tensor) -> Tensor:
        """Attend from one new place a row; batched products, faster here than the fused kernel."""
        rows, slots = keys.shape[0], keys.shape[2]
        folded = q.reshape(rows * self.kv_heads, self.heads // self.kv_heads, self.width)
        keys = keys.reshape(rows * self.kv_heads, slots, self.width)
        values = values.reshape(rows * self.kv_heads, slots, self.width)
        weights = torch.bmm(folded, keys.transpose(1, 2)).mul_(self.width**-0.5)
        weights = torch.softmax(weights.masked_fill_(unseen, float("-inf")).float(), -1)
        return torch.bmm(weights.to(values.dtype), values).reshape(rows, self.heads * self.width)

    def _heads(
        self, layer: _Layer, x: Tensor, shape: tuple[int, int], cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v as (rows, heads, slots, width), rotated."""
        joint = F.linear(x, *layer.qkv).view(*shape, self.heads + 2 * self.kv_heads, self.width)
        q, k, v = joint.transpose(1, 2).split((self.heads, self.kv_heads, self.kv_heads), 1)
        if layer.head_norms:
            q = self._normed(q, layer.head_norms[0])
            k = self._normed(k, layer.head_norms[1])
        return _rotated(q, cos, sin), _rotated(k, cos, sin), v

    def _mlp(self, layer: _Layer, x: Tensor) -> Tensor:
        gate, up = F.linear(x, *layer.gate_up).chunk(2, -1)
        return F.linear(F.silu(gate).mul_(up), *layer.down)

    def _normed(self, x: Tensor, weight: Tensor) -> Tensor:
        """Divide by the root mean square, taken in float32 as the models do."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return weight * wide.to(x.dtype)

    def _reach(self, slots: int) -> None:
        """Make the rotation tables as long as needed."""
        if slots > self._cos.shape[0]:
            self._cos, self._sin = self._tables(2 * slots)

    def _tables(self, slots: int) -> tuple[Tensor, Tensor]:
        """Return the cosine and sine tables, (slots, width), from the model's own module."""
        places = torch.arange(slots, device=self.embedding.device)[None]
        cos, sin = self._rotary(self.embedding, places)
        return cos[0], sin[0]


def _causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend to what came before; in whole blocks, lest rounding depend on the length."""
    slots = q.shape[2]
    q, k, v = (F.pad(x, (0, 0, 0, -slots % _BLOCK)) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)[:, :, :slots]


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate halves against each other by the place's angle."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin
