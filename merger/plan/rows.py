"""Which input tensor stands behind which output tensor: equal names, or layers laid in slices.

Slices follow mergekit: their layers are numbered through, embeddings come from the first slice and
what follows the layers (final norm, head) from the last. Stacks other than the main one (a vision
tower) are taken from the first slice whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from merger.errors import SpecError
from merger.names import depth, layer_of, main_stack, module_of, stacks, with_layer
from merger.spec import MergeSpec, SliceSpec, SourceSpec

Tables = Mapping[str, Mapping[str, Any]]  # model -> tensor name -> TensorInfo


@dataclass(frozen=True)
class Row:
    """One output tensor before it is checked: the name it has in each model."""

    name: str
    part: SliceSpec | None
    depth: float
    renamed: Mapping[str, str]  # model -> tensor name, where it differs from `name`

    def source(self, model: str) -> str:
        """Return the tensor's name in a model."""
        return self.renamed.get(model, self.name)


def rows_of(spec: MergeSpec, tables: Tables, layers: int | None) -> Iterator[Row]:
    """Yield every output tensor, in the order of the donor's file.

    Args:
        spec: the merge.
        tables: the tensors of each model.
        layers: the donor's `num_hidden_layers`, where its config states it.
    """
    names = tables[spec.donor]
    counts = stacks(names)
    if not spec.slices:
        for name in names:
            yield Row(name, None, depth(name, counts), {})
        return
    yield from _sliced(spec, tables, main_stack(counts, layers))


def _sliced(spec: MergeSpec, tables: Tables, stack: str | None) -> Iterator[Row]:
    if stack is None:
        raise SpecError("slices need numbered layers, and the donor has none", "Use models.")
    first, last = spec.slices[0], spec.slices[-1]
    for name in tables[_ground(spec, first)]:
        layer = layer_of(name)
        if layer is None and module_of(name) == "embed":
            yield Row(name, first, 0.0, {})
        elif layer is not None and layer.stack != stack:
            counts = stacks(tables[_ground(spec, first)])
            yield Row(name, first, depth(name, counts), {})
    offset = 0
    for part in spec.slices:
        yield from _layers(part, _ground(spec, part), tables, stack, offset)
        offset += length(part)
    for name in tables[_ground(spec, last)]:
        if layer_of(name) is None and module_of(name) != "embed":
            yield Row(name, last, 0.0, {})


def _layers(part: SliceSpec, ground: str, tables: Tables, stack: str, offset: int) -> Iterator[Row]:
    """Yield the tensors of a slice's layers, numbered on from `offset`."""
    source = next(s for s in part.sources if s.model == ground)
    last = length(part) - 1
    for name in tables[ground]:
        layer = layer_of(name)
        if layer is None or layer.stack != stack or not _inside(layer.number, source):
            continue
        i = layer.number - source.layers[0]
        renamed = {s.model: with_layer(name, s.layers[0] + i) for s in part.sources}
        yield Row(with_layer(name, offset + i), part, i / last if last else 1.0, renamed)


def length(part: SliceSpec) -> int:
    """Return how many layers a slice gives."""
    first, last = part.sources[0].layers
    return last - first


def _inside(number: int, source: SourceSpec) -> bool:
    return source.layers[0] <= number < source.layers[1]


def _ground(spec: MergeSpec, part: SliceSpec) -> str:
    """Return the model whose names a slice follows: its base if listed, else its first source."""
    base = part.base or spec.base
    models = [s.model for s in part.sources]
    return base if base in models else models[0]
