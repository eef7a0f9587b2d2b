"""A plan: the list of output tensors, each with its sources and operator, and what is left out.

Frozen and without weights: `explain`, the engine, the live model and the memory budget read the
same plan, and what it says before a byte is read is what is done. Every input tensor has a fate:
merged, copied or dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from merger.checkpoint.header import Shaped
from merger.spec import MergeSpec


@dataclass(frozen=True)
class Source:
    """One tensor of one model, as both are named where they come from."""

    model: str
    tensor: str


@dataclass(frozen=True)
class Step(Shaped):
    """One output tensor. Without an operator it is copied from its only source, bit for bit."""

    name: str
    operator: str | None
    sources: tuple[Source, ...]
    base: Source | None
    knobs: Mapping[str, Any]
    dtype: str  # header code of the written tensor
    shape: tuple[int, ...]
    keys: tuple[int, ...] = ()  # random streams, one per source

    @property
    def inputs(self) -> tuple[Source, ...]:
        """All tensors that are read: the experts' and the base's."""
        return (*self.sources, self.base) if self.base else self.sources


@dataclass(frozen=True)
class Drop:
    """An input tensor that has no part in the output, and why."""

    model: str
    tensor: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Everything a merge will do, in the order it will do it."""

    spec: MergeSpec
    steps: tuple[Step, ...]
    dropped: tuple[Drop, ...] = ()
    notes: tuple[str, ...] = ()
    config_changes: Mapping[str, Any] = field(default_factory=dict)
    fates: Mapping[str, int] = field(default_factory=dict)  # what became of the input tensors

    @property
    def merged(self) -> tuple[Step, ...]:
        """The steps that run an operator."""
        return tuple(s for s in self.steps if s.operator)

    @property
    def copied(self) -> tuple[Step, ...]:
        """The steps that copy a tensor as it is."""
        return tuple(s for s in self.steps if not s.operator)

    @property
    def nbytes(self) -> int:
        """Bytes of all written tensors."""
        return sum(s.nbytes for s in self.steps)

    @property
    def written(self) -> dict[str, int]:
        """Bytes written per dtype code."""
        table: dict[str, int] = {}
        for step in self.steps:
            table[step.dtype] = table.get(step.dtype, 0) + step.nbytes
        return table

    @property
    def layout(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """The written tensors as the writer wants them: (name, dtype code, shape)."""
        return [(s.name, s.dtype, s.shape) for s in self.steps]
