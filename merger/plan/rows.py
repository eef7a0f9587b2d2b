"""Which input tensor stands behind which output tensor: equal names, or layers laid in slices.

Slices follow mergekit: their layers are numbered through, embeddings come from the first slice and
what follows the layers (final norm, head) from the last. What belongs to another stack (a vision
tower and all beside it) is taken from the first slice whole. A module is a part of the names: its
tensors begin with the module's name, and `default` is all that no other module takes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from merger.errors import SpecError
from merger.names import depth, layer_of, main_stack, module_of, stacks, with_layer
from merger.spec import ExpertSpec, MergeSpec, PartSpec

Tables = Mapping[str, Mapping[str, Any]]  # model -> tensor name -> TensorInfo


@dataclass(frozen=True)
class Row:
    """One output tensor before it is checked: the name it has in each model."""

    name: str
    part: PartSpec
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
    for module, parts in spec.modules.items():
        mine = tables_of(module, spec, tables)
        if parts[0].whole:
            names = mine[spec.ground(parts[0]) or parts[0].sources[0].model]
            counts = stacks(names)
            for name in names:
                yield Row(name, parts[0], depth(name, counts), {})
        else:
            yield from _sliced(spec, parts, mine, main_stack(stacks(mine[spec.donor]), layers))


def tables_of(module: str, spec: MergeSpec, tables: Tables) -> Tables:
    """Return the tensors of one module; a SpecError for a module without any, or a tensor."""
    if not module:
        return tables
    owners = {n: _owner(n, spec.modules) for n in {n for t in tables.values() for n in t}}
    if lost := sorted(n for n in tables[spec.donor] if not owners[n]):
        law = f"{len(lost)} tensors are in no module, {lost[0]} the first"
        raise SpecError(law, "Add a module named default for them.")
    found = {m: {n: i for n, i in t.items() if owners[n] == module} for m, t in tables.items()}
    if not found[spec.donor]:
        heads = sorted({n.split(".")[0] for n in tables[spec.donor]})
        law = f"the module {module} has no tensor in {spec.donor}"
        raise SpecError(law, f"Modules are what names begin with: {', '.join(heads)}.")
    return found


def _owner(name: str, modules: Mapping[str, Any]) -> str | None:
    fitting = [m for m in modules if name.startswith((f"{m}.", f"model.{m}."))]
    return max(fitting, key=len, default="default" if "default" in modules else None)


def _sliced(
    spec: MergeSpec, parts: Sequence[PartSpec], tables: Tables, stack: str | None
) -> Iterator[Row]:
    if stack is None:
        raise SpecError("slices need numbered layers, and the donor has none", "Use models.")
    for source in (s for part in parts for s in part.sources):
        there = stacks(tables[source.model]).get(stack, 0)
        if source.layers and source.layers[1] > there:
            law = f"layer_range {list(source.layers)} of {source.model}, whose {stack} has {there}"
            raise SpecError(law, f"Give a range from 0 to {there}.")
    first = tables[_ground(spec, parts[0])]
    counts = stacks(first)
    for name in first:
        if _place(name, stack, counts) < 0:
            yield Row(name, parts[0], depth(name, counts), {})
    offset = 0
    for part in parts:
        yield from _layers(part, _ground(spec, part), tables, stack, offset)
        offset += length(part)
    for name in tables[_ground(spec, parts[-1])]:
        if _place(name, stack, counts) > 0:
            yield Row(name, parts[-1], 0.0, {})


def _place(name: str, stack: str, counts: Mapping[str, int]) -> int:
    """Say whether a tensor stands before (-1), in (0) or after (1) the layers that are laid."""
    layer = layer_of(name)
    if layer is not None:
        return 0 if layer.stack == stack else -1
    # `model.visual.norm` goes with `model.visual.blocks`, though it is in no layer.
    others = {s.rpartition(".")[0] for s in counts} - {""}
    beside = any(name.startswith(f"{o}.") and not stack.startswith(f"{o}.") for o in others)
    return -1 if beside or module_of(name) == "embed" else 1


def _layers(part: PartSpec, ground: str, tables: Tables, stack: str, offset: int) -> Iterator[Row]:
    """Yield the tensors of a slice's layers, numbered on from `offset`."""
    start = next(_first(s) for s in part.sources if s.model == ground)
    last = length(part) - 1
    for name in tables[ground]:
        layer = layer_of(name)
        if layer is None or layer.stack != stack or not 0 <= layer.number - start <= last:
            continue
        i = layer.number - start
        renamed = {s.model: with_layer(name, _first(s) + i) for s in part.sources}
        yield Row(with_layer(name, offset + i), part, i / last if last else 1.0, renamed)


def length(part: PartSpec) -> int:
    """Return how many layers a slice gives."""
    first, last = part.sources[0].layers or (0, 0)
    return last - first


def _first(source: ExpertSpec) -> int:
    return source.layers[0] if source.layers else 0


def _ground(spec: MergeSpec, part: PartSpec) -> str:
    """Return the model whose names a slice follows: its base if listed, else its first source."""
    models = [s.model for s in part.sources]
    return next((m for m in models if m == spec.ground(part)), models[0])
