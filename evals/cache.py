"""Keys and values of the rows being answered, in memory that is kept from one call to the next.

They lie in blocks of slots allocated once, a row from slot 0 with a length of its own: nothing is
copied as the text grows, and a row that is done is overwritten by a living one. A page never
touched costs a virtual machine more than filling it, so what a call used is given to the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK = 32  # slots to which attention is filled up


class Memory:
    """Buffers of finite numbers, from one call for the next; threads may share it."""

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return at least so many numbers, all finite."""
        while self._free:
            buffer = self._free.pop()
            if len(buffer) >= size and buffer.dtype == dtype:
                return buffer
        # Zeros of the system, which takes the memory of a page when it is first written.
        return torch.from_numpy(np.zeros(size * dtype.itemsize, np.uint8)).view(dtype)

    def give(self, buffer: Tensor) -> None:
        """Keep a buffer for the next caller."""
        self._free.append(buffer)


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
    buffer: Tensor
    count: int = 0

    @classmethod
    @torch.inference_mode()
    def make(cls, shape: tuple[int, ...], slots: int, dtype: torch.dtype, memory: Memory) -> Cache:
        """Return an empty cache for (layers, rows, heads, width) and this many slots a row."""
        layers, rows, heads, width = shape
        blocks = -(-slots // BLOCK)
        size = math.prod(shape) * blocks * BLOCK
        buffer = memory.take(2 * size, dtype)
        keys, values = buffer[: 2 * size].chunk(2)
        return cls(
            list(keys.view(layers, blocks, rows, heads, BLOCK, width)),
            list(values.view(layers, blocks, rows, heads, width, BLOCK)),
            torch.zeros(rows, dtype=torch.long),
            buffer,
        )

    def enter(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write a layer's (rows, slots, heads, width) keys and values behind the rows in use."""
        rows = slice(self.count, self.count + len(keys))
        for block, part in zip(self.keys[layer], keys.split(BLOCK, 1), strict=False):
            block[rows, :, : part.shape[1]] = part.transpose(1, 2)
        for block, part in zip(self.values[layer], values.split(BLOCK, 1), strict=False):
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
            used = int(self.lengths[source].max()) // BLOCK + 1
            for buffer in (*self.keys, *self.values):
                for block in buffer[:used]:
                    block[to] = block[source]
            self.lengths[to] = self.lengths[source]
        self.lengths[count : self.count] = 0
        self.count = count
        moved = dict(zip(holes, movers, strict=True))
        return [moved.get(i, i) for i in range(count)]
