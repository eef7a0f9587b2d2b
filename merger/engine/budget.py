"""How many rows fit: the memory promise, kept by arithmetic before anything is read.

The budget covers the whole process, so what Python and torch already hold is taken off first. What
is left is shared by the workers, each of which makes one tensor at a time by blocks small enough to
stay in a core's own cache, unless an operator needs whole rows and they are longer.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from merger.checkpoint import ITEMSIZE
from merger.device import check_device
from merger.errors import UsageError
from merger.operators import OPERATORS
from merger.plan import Plan, Step

MEMORY = 1_000_000_000  # bytes of a process, where no limit is given
# Entries of one expert in a block, what was fastest with 1 MiB of L2: where one pass takes what is
# stored, threads should seldom meet; where several go over float32, it should stay in the cache.
STORED_BLOCK, CACHE_BLOCK = 1 << 20, 1 << 18
DEVICE_BLOCK = 1 << 24
LEAST = 32 << 20
_MOST_WORKERS = 8
# Measured 2026-11: hashing threads and what torch takes at its first use; the histograms of a
# survey, for each expert and worker; and a worker's outputs and its allocator's waste.
_FIXED, _SURVEYED, _WORKER, _TORCH = 80 << 20, 24 << 20, 40 << 20, 190 << 20


@dataclass(frozen=True)
class Budget:
    """Bytes that a run may use on top of what the process already holds."""

    working: int
    block: int = CACHE_BLOCK
    workers: int = 1
    held: int = 0  # by the process already, with torch where it is still to be loaded

    @classmethod
    def of(
        cls,
        memory: int | None,
        plan: Plan,
        *,
        device: str = "cpu",
        threads: int | None = None,
        straight: bool = False,
    ) -> Budget:
        """Return the budget that a limit on the whole process leaves for a plan.

        Without one it is a gigabyte; half a one more than a process that holds much already.
        As many tensors are made at a time as `threads` says (by default, as there are cores; two
        at least, that reading and arithmetic overlap) and as the limit lets. `straight` says that
        torch need not be loaded.

        Raises:
            UsageError: nearly nothing is left, or a row that must be whole does not fit.
        """
        check_device(device)
        memory = memory or max(MEMORY, resident_bytes() + MEMORY // 2)
        block = STORED_BLOCK if plan.spec.operator.line else CACHE_BLOCK
        block = block if device == "cpu" else DEVICE_BLOCK
        most = min(threads or max(2, cores()), _MOST_WORKERS)
        held = resident_bytes() + (not straight and "torch" not in sys.modules) * _TORCH
        left = ((memory - held - overhead(plan, n), n) for n in range(most, 0, -1))
        tried = (cls(working, block, n, held) for working, n in left)
        budget = next(b for b in tried if b.workers == 1 or b._fits(plan))
        taken = memory - budget.working
        if budget.working < LEAST:
            law = f"a memory budget of {memory:,} bytes is too little: {taken:,} are taken before"
            raise UsageError(law, f"Give at least --memory {-(-(taken + LEAST) // 10**6)}MB.")
        rows = {s.name: s.cols * entry_bytes(s) for s in map(budget.cut, plan.merged)}
        if long := {n: needed for n, needed in rows.items() if needed > budget.share}:
            name = max(long, key=long.__getitem__)
            law = f"{plan.spec.method} needs whole rows, and one of {name} takes {long[name]:,} "
            law += f"bytes of the {budget.share:,} there are ({len(long)} such tensors)"
            needed = -(-(long[name] + taken + LEAST) // 10**8) / 10
            raise UsageError(law, f"Give --memory {needed:g}GB.")
        return budget

    def _fits(self, plan: Plan) -> bool:
        """Say whether every worker has room for blocks of the size that is fastest."""
        steps = map(self.cut, plan.merged)
        entries = ((s, max(s.cols, min(self.block, s.rows * s.cols))) for s in steps)
        return all(n * entry_bytes(s) <= self.share for s, n in entries)

    @property
    def share(self) -> int:
        """Bytes of one worker."""
        return self.working // self.workers

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
        fitting = self.share // max(1, step.cols * entry_bytes(step))
        return max(1, min(step.rows, fitting, -(-self.block // max(1, step.cols))))

    def peak(self, plan: Plan) -> int:
        """Return a bound on what the run will use, as predicted for `explain`."""
        cut = map(self.cut, plan.merged)
        arithmetic = max((self.block_rows(s) * s.cols * entry_bytes(s) for s in cut), default=0)
        return self.held + overhead(plan, self.workers) + self.workers * arithmetic


def cores() -> int:
    """Return how many cores this process may use."""
    given = getattr(os, "sched_getaffinity", None)
    return len(given(0)) if given else os.cpu_count() or 1


def overhead(plan: Plan, workers: int) -> int:
    """Bytes that a run takes whatever its blocks."""
    experts = max((len(s.sources) for s in plan.merged), default=0)
    return _FIXED + workers * (_WORKER + (_SURVEYED * experts if plan.spec.operator.survey else 0))


def entry_bytes(step: Step) -> int:
    """Bytes of arithmetic per entry.

    k experts twice (values, task vectors), base, sums in float64; and where rows belong together,
    ranks, draws or products of each expert. What is taken as it is stored has no second form.
    """
    k, operator = len(step.sources), OPERATORS[step.operator or ""]
    wide = 2 if operator.line else 5 + 3 * k * operator.laws.rowwise(step.knobs)
    return 8 * (k + 1) + 8 * wide + 2 * ITEMSIZE[step.dtype]


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
