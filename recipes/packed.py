"""A Llama's hidden states for training on a CPU: no place spent on padding or on a prompt twice.

Texts lie in rows, rows of about one length in blocks, blocks end to end in one flat run of places:
all but attention works on the flat run. A row may hold a prompt and several answers to it, each of
which sees the prompt and itself. Departures from `transformers`: attention is written out, because
at these sizes the fused kernel is slower than batched products by oneDNN, which `products` asks for
(float32 stays float32 there on processors without AMX). Widths and the run are filled up to round
numbers, since oneDNN makes its products anew for each shape.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  its usual name
from torch import Tensor

from evals import fastloop

_ROWS = 4  # of a block
_WIDTH, _RUN = 8, 256  # the round numbers
_VOCABULARY = 8192  # beyond it the logits of a batch, which are all held at once, are too many


class Text(NamedTuple):
    """A row: its tokens, the place of each in its text, and which answer it is of (0: prompt)."""

    tokens: list[int]
    places: list[int]
    parts: list[int]


class Run(NamedTuple):
    """Rows end to end: `tokens` and `places`, (places,); `starts` of each row, in the order given.

    `masks` has a block each, (rows, 1, width, width), added to attention's weights: 0 or -inf.
    """

    tokens: Tensor
    places: Tensor
    masks: list[Tensor]
    starts: list[int]


def supported(net: Any) -> bool:
    """Say whether `hidden` computes what the model's own forward does."""
    return (
        fastloop.supported(net)
        and type(net).__name__ == "LlamaForCausalLM"
        and not (net.config.attention_bias or net.config.mlp_bias)
        and net.dtype == torch.float32
        and net.config.vocab_size <= _VOCABULARY
    )


@contextmanager
def products(how: str) -> Iterator[None]:
    """Let float32 products be `fast` (oneDNN, where it is twice as fast) or as torch has them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if how == "fast" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def lay(texts: Sequence[Text]) -> Run:
    """Lay rows out, those of like length side by side."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i].tokens))
    tokens, places, masks, starts = [], [], [], [0] * len(texts)
    at = 0
    for block in (order[i : i + _ROWS] for i in range(0, len(order), _ROWS)):
        width = _up(len(texts[block[-1]].tokens), _WIDTH)
        rows = torch.zeros(3, len(block), width, dtype=torch.long)
        for i, row in enumerate(block):
            rows[:, i, : len(texts[row].tokens)] = torch.tensor(texts[row])
            starts[row] = at + i * width
        tokens.append(rows[0].flatten())
        places.append(rows[1].flatten())
        masks.append(_mask(rows[2]))
        at += rows[0].numel()
    spare = torch.zeros(_up(at, _RUN) - at, dtype=torch.long)
    return Run(torch.cat([*tokens, spare]), torch.cat([*places, spare]), masks, starts)


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


def _mask(parts: Tensor) -> Tensor:
    """Hide what comes later and what is of another answer; parts are (rows, width)."""
    width = parts.shape[1]
    seen = torch.ones(width, width, dtype=torch.bool).tril()
    if parts.any():
        of, by = parts[:, None, :], parts[:, :, None]
        seen = seen & ((of == 0) | (of == by))
    mask = torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))
    return mask.expand(len(parts), width, width)[:, None]


def hidden(net: Any, run: Run) -> Tensor:
    """Return the last hidden states, (places, hidden size), with gradient where it is enabled."""
    body, config = net.model, net.config
    counts = (config.num_attention_heads, config.num_key_value_heads)
    states = F.embedding(run.tokens, body.embed_tokens.weight)
    turns = [t[0, :, None] for t in body.rotary_emb(states, run.places[None])]
    for layer in body.layers:
        a, m = layer.self_attn, layer.mlp
        qkv = torch.cat((a.q_proj.weight, a.k_proj.weight, a.v_proj.weight))
        q, k, v = _heads(states, layer.input_layernorm, qkv, counts, *turns)
        mixed = _attend(q, k, v, run.masks)
        wide = torch.cat((m.gate_proj.weight, m.up_proj.weight))
        norm = layer.post_attention_layernorm
        states = _mix(states, mixed, a.o_proj.weight, norm, wide, m.down_proj.weight)
    return _normed(states, body.norm)


def _heads(
    states: Tensor, norm: Any, qkv: Tensor, counts: tuple[int, int], cos: Tensor, sin: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return q, k, v, (places, heads, width of a head), q and k rotated by their places' angles."""
    n, few = counts
    joint = F.linear(_normed(states, norm), qkv).view(len(states), n + 2 * few, -1)
    q, k, v = joint.split((n, few, few), 1)
    k = _turned(k, cos, sin)
    if few < n:
        k, v = (t.repeat_interleave(n // few, 1) for t in (k, v))
    return _turned(q, cos, sin), k, v


def _mix(
    states: Tensor, mixed: Tensor, out: Tensor, norm: Any, wide: Tensor, down: Tensor
) -> Tensor:
    """Add what attention and then the feed-forward part make of the states."""
    states = states + F.linear(mixed, out)
    gate, up = F.linear(_normed(states, norm), wide).chunk(2, -1)
    return states + F.linear(F.silu(gate) * up, down)


def _normed(states: Tensor, norm: Any) -> Tensor:
    return F.rms_norm(states, states.shape[-1:], norm.weight, norm.variance_epsilon)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    a, b, cos, sin = x[..., :half], x[..., half:], cos[..., :half], sin[..., :half]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def _attend(q: Tensor, k: Tensor, v: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """Attend within each row of each block; returns (places, hidden size)."""
    n, each, done, at = q.shape[1], q.shape[2], [], 0
    for mask in masks:
        width = mask.shape[-1]
        rows = mask.shape[0]
        part = slice(at, at := at + rows * width)
        x, y, z = (t[part].view(rows, width, n, each).transpose(1, 2) for t in (q, k, v))
        weights = torch.matmul(x * each**-0.5, y.transpose(2, 3)) + mask
        mixed = torch.matmul(weights.softmax(-1), z)
        done.append(mixed.transpose(1, 2).reshape(rows * width, n * each))
    return torch.cat([*done, q.new_zeros(len(q) - at, n * each)])
