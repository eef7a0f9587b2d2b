"""Facts about tensor names: layers, modules, filters, and the depth at which a gradient is read.

A tensor belongs to a layer if its name holds a whole number between dots; what stands before the
first such number names the stack (`model.layers`, `visual.blocks`), so that no table of
architectures is needed. Depth runs from 0 at a stack's first layer to 1 at its last. As in
mergekit, tensors outside any layer (embeddings, final norm, head) have depth 0, and a stack of one
layer has depth 1.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

_LAYER = re.compile(r"^(?:(?P<stack>.*?)\.)?(?P<index>\d+)(?=\.)(?P<rest>.*)$")
_DIGITS = re.compile(r"(\d+)")

MODULES = {
    "embed": ("embed_tokens", "wte", "word_embeddings", "tok_embeddings"),
    "head": ("lm_head", "output_layer"),
    "norm": ("norm", "ln_"),
    "attn": ("self_attn", "attention", ".attn", "linear_attn"),
    "mlp": ("mlp", "feed_forward", "ffn", "experts", ".moe"),
}


class Layer(NamedTuple):
    """A place in a stack of layers: `model.layers`, 3."""

    stack: str
    number: int


def layer_of(name: str) -> Layer | None:
    """Return the layer a tensor belongs to, or None for embeddings, final norm and head."""
    found = _LAYER.match(name)
    return Layer(found["stack"] or "", int(found["index"])) if found else None


def with_layer(name: str, index: int) -> str:
    """Return the name of the same tensor in another layer of its stack."""
    found = _LAYER.match(name)
    if not found:
        return name
    head = f"{found['stack']}." if found["stack"] else ""
    return f"{head}{index}{found['rest']}"


def stacks(names: Iterable[str]) -> dict[str, int]:
    """Return how many layers each stack has: its highest index and one."""
    counts: dict[str, int] = {}
    for layer in map(layer_of, names):
        if layer:
            counts[layer.stack] = max(counts.get(layer.stack, 0), layer.number + 1)
    return counts


def main_stack(counts: Mapping[str, int], expected: int | None = None) -> str | None:
    """Return the stack that `num_hidden_layers` speaks of, else the deepest, else None."""
    fitting = [stack for stack, count in counts.items() if count == expected]
    if fitting:
        return fitting[0]
    return max(counts, key=lambda stack: counts[stack], default=None)


def depth(name: str, counts: Mapping[str, int]) -> float:
    """Return where in its stack a tensor lies, from 0 to 1."""
    layer = layer_of(name)
    if layer is None:
        return 0.0
    last = counts[layer.stack] - 1
    return layer.number / last if last > 0 else 1.0


def matches(pattern: str | None, name: str) -> bool:
    """Say whether a filter takes a tensor: a plain part of its name, and `*` or None for all."""
    return pattern is None or pattern == "*" or pattern in name


def module_of(name: str) -> str:
    """Return the kind of module a tensor belongs to: embed, head, norm, attn, mlp or other."""
    # A norm inside an attention block is a norm: `self_attn.q_norm` moves like one.
    tail = name.rsplit(".", 2)[-2] if name.count(".") > 1 else name
    if "norm" in tail or tail.startswith("ln_"):
        return "norm"
    for kind, parts in MODULES.items():
        if any(part in name for part in parts):
            return kind
    return "other"


def placing(names: Iterable[str]) -> Callable[[str], str]:
    """Return a function from a tensor to its place: `layer 3`, or its module outside the layers.

    Where there are several stacks, each layer is named by its stack.
    """
    several = len(stacks(names)) > 1

    def place(name: str) -> str:
        found = layer_of(name)
        if found is None:
            return module_of(name)
        return f"{found.stack} {found.number}" if several else f"layer {found.number}"

    return place


def natural(name: str) -> tuple[object, ...]:
    """Return a sort key in which layer 2 comes before layer 10."""
    parts = _DIGITS.split(name)
    return tuple((int(p), "") if p.isdigit() else (-1, p) for p in parts)
