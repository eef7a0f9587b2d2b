"""How many rows fit: the memory promise, kept by arithmetic before anything is read.

The budget covers the whole process, so what Python and torch already hold is taken off first. What
is left is shared by three: the blocks of the operator's arithmetic (one at a time, small enough to
stay in the processor's cache), tensors held so that several survey passes read them once, and rows
on their way in and out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from merger.checkpoint import ITEMSIZE
from merger.device import check_device
from merger.errors import UsageError
from merger.operators import OPERATORS
from merger.plan import Plan, Step

# Entries of one expert in a block: 256 Ki float32 are 1 MiB, which stays in a core's own cache.
CACHE_BLOCK = 1 << 18
DEVICE_BLOCK = 1 << 24
_SHARES = 4  # arithmetic, held now, held next, in flight
LEAST = 32 << 20
# Measured 2026-11: hashing and writing threads, what torch takes at its first use; and the tallies
# that a survey keeps for each expert.
_FIXED = 80 << 20
_SURVEYED = 24 << 20


@dataclass(frozen=True)
class Budget:
    """Bytes that a run may use on top of what the process already holds."""

    working: int
    block: int = CACHE_BLOCK

    @classmethod
    def of(cls, memory: int, plan: Plan, *, device: str = "cpu") -> Budget:
        """Return the budget that a limit on the whole process leaves for a plan.

        Raises a UsageError where nearly nothing is left.
        """
        check_device(device)
        taken = resident_bytes() + overhead(plan)
        if memory - taken < LEAST:
            law = f"a memory budget of {memory:,} bytes is too little: {taken:,} are taken before"
            raise UsageError(law, f"Give at least --memory {-(-(taken + LEAST) // 10**6)}MB.")
        return cls(memory - taken, CACHE_BLOCK if device == "cpu" else DEVICE_BLOCK)

    @property
    def share(self) -> int:
        """Bytes for each of the uses."""
        return self.working // _SHARES

    def cut(self, step: Step) -> Step:
        """Return the step as it is walked: rows longer than a block are seen entry by entry.

        An operator whose rows belong together keeps them.
        """
        whole = step.operator and OPERATORS[step.operator].laws.rowwise(step.knobs)
        if step.cols <= self.block or whole:
            return step
        return replace(step, shape=(step.rows * step.cols, 1))

    def block_rows(self, step: Step) -> int:
        """Return how many rows of a step, already cut, are taken at a time."""
        if not step.operator:
            return max(1, min(step.rows, (8 << 20) // max(1, step.nbytes // max(1, step.rows))))
        row = step.cols * entry_bytes(step)
        if row > self.share:
            law = f"one row of {step.name} needs {row:,} bytes, and the budget gives {self.share:,}"
            raise UsageError(law, f"Give --memory {-(-row * (_SHARES + 1) // 10**9)}GB or more.")
        fitting = min(self.share // row, -(-self.block // max(1, step.cols)))
        return max(1, min(step.rows, fitting))

    def holds(self, step: Step, read_bytes: int) -> bool:
        """Say whether all tensors of a step may be held in memory in their stored form."""
        return read_bytes <= self.share

    def peak(self, plan: Plan) -> int:
        """Return a bound on what the run will use, as predicted for `explain`."""
        cut = map(self.cut, plan.merged)
        arithmetic = max((self.block_rows(s) * s.cols * entry_bytes(s) for s in cut), default=0)
        held = max((min(self.share, step_bytes(s)) for s in plan.steps), default=0)
        return resident_bytes() + overhead(plan) + arithmetic + 3 * held


def overhead(plan: Plan) -> int:
    """Bytes that a run takes whatever its blocks."""
    experts = max((len(s.sources) for s in plan.merged), default=0)
    return _FIXED + (_SURVEYED * experts if plan.spec.operator.survey else 0)


def entry_bytes(step: Step) -> int:
    """Bytes of arithmetic per entry: k experts twice (values, task vectors), base, float64 sums."""
    k = len(step.sources)
    return 4 * (2 * k + 2) + 8 * 5 + 2 * ITEMSIZE[step.dtype]


def step_bytes(step: Step) -> int:
    """Return about how many bytes a step reads, taking every source to be as wide as the output."""
    return step.nbytes * len(step.inputs)


def resident_bytes() -> int:
    """Return the memory that this process holds now, or an estimate where it cannot be asked."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError):
        return 400 << 20
    return pages * os.sysconf("SC_PAGE_SIZE")
