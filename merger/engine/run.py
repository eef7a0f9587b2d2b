"""The walk: for each step read blocks, survey, combine, round once, and put into the sink.

Several steps are made at a time, each by one thread from its first byte to its last: torch's own
threads would split every small sum, and nothing made by one thread can depend on their number.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from merger.checkpoint import Checkpoint, torch_dtype
from merger.engine.blocks import Blocks
from merger.engine.budget import Budget
from merger.engine.sinks import Sink
from merger.errors import MergerError, MismatchError
from merger.operators import OPERATORS, Block, Size, run_survey
from merger.plan import Plan, Step

Facts = MutableMapping[tuple[Any, ...], Any]
Put = Callable[[Step, int, Tensor], None]
_HANDED_ON = 1 << 19  # entries that go to the sink at once: small writes cost more


def run_plan(
    plan: Plan,
    checkpoints: Mapping[str, Checkpoint],
    sink: Sink,
    *,
    memory: int | None = None,
    budget: Budget | None = None,
    device: str = "cpu",
    threads: int | None = None,
    allow_nan: bool = False,
    facts: Facts | None = None,
    progress: Callable[[Step], None] | None = None,
) -> None:
    """Make every tensor of a plan and put it into the sink.

    Args:
        plan: what to make.
        checkpoints: the models, by the names that the plan gives them.
        sink: takes the rows; tensors it has finished are left out.
        memory: bytes that the whole process may hold; by default a gigabyte, and half a one more
            than a process that holds much already.
        budget: overrides `memory` by rows and shares worked out already.
        device: where the arithmetic runs.
        threads: tensors made at a time, as far as memory lets; by default as there are cores. The
            result does not depend on them.
        allow_nan: let NaN and infinities of the inputs through.
        facts: surveys kept between runs on the same inputs, keyed by tensor and surveyed knobs.
        progress: called after each step.

    Raises:
        CheckpointError: an input holds NaN or infinity, or its file changed.
        UsageError: the memory is too little, or a row that must be whole does not fit.
    """
    if budget is None:
        budget = Budget.of(memory, plan, device=device, threads=threads)
        _keep_freed()
    elif threads:
        budget = replace(budget, workers=threads)
    wanted = [s for s in plan.steps if s.name not in sink.finished]
    works = [_Work(s, checkpoints, budget, device, allow_nan) for s in wanted]
    with _one_thread(), ThreadPoolExecutor(budget.workers, "merge") as pool:
        made = [pool.submit(work.run, sink.put, facts) for work in works]
        try:
            for step, done in zip(wanted, made, strict=True):
                done.result()
                if progress:
                    progress(step)
        finally:
            pool.shutdown(cancel_futures=True)


class _Work:
    """One step and its blocks."""

    def __init__(
        self,
        step: Step,
        checkpoints: Mapping[str, Checkpoint],
        budget: Budget,
        device: str,
        allow_nan: bool,
    ) -> None:
        self.whole, self.step = step, budget.cut(step)
        rows = budget.block_rows(self.step)
        self.blocks = Blocks(self.step, checkpoints, rows, device=device, allow_nan=allow_nan)
        self._allow_nan = allow_nan

    def run(self, put: Put, facts: Facts | None) -> None:
        """Make all rows of the step."""
        if self.step.operator is None:
            self._copy(put)
            return
        known = self._facts(facts)
        operator = OPERATORS[self.step.operator]
        for block, out, row in self._outputs(put):
            with _named(self.step):
                made = operator(
                    block.experts, block.base, knobs=self.step.knobs, facts=known, place=block.place
                )
            out[row : row + made.shape[0]].copy_(made)

    def _outputs(self, put: Put) -> Iterator[tuple[Block, Tensor, int]]:
        """Yield each block with the rows it is to fill; hand them on when there are enough."""
        step, blocks = self.step, self.blocks
        dtype, out = torch_dtype(step.dtype), torch.empty(0)
        rows = blocks.rows * max(1, _HANDED_ON // max(1, blocks.rows * step.cols))
        for block in blocks():
            row = block.place.start // step.cols
            if row % rows == 0:
                size = (min(rows, step.rows - row), step.cols)
                out = torch.empty(size, dtype=dtype)
            yield block, out, row % rows
            if row % rows + block.experts.shape[1] == out.shape[0]:
                if step.dtype == "F16" and not self._allow_nan:
                    _check_overflow(step, out)
                put(self.whole, row // rows * rows, out)

    def _facts(self, cache: Facts | None) -> Any:
        step = self.step
        operator = OPERATORS[step.operator or ""]
        if operator.survey is None:
            return None
        asked = tuple(step.knobs[n] for n in operator.survey_knobs)
        key = (operator.name, step.inputs, asked)
        if cache is not None and key in cache:
            return cache[key]
        size = Size(step.rows, step.cols, len(step.sources))
        with _named(step):
            found = run_survey(operator.surveyed(size, step.knobs), self.blocks)
        if cache is not None:
            cache[key] = found
        return found

    def _copy(self, put: Put) -> None:
        source, rows = self.step.sources[0], self.blocks.rows
        for row in range(0, self.step.rows, rows):
            end = min(row + rows, self.step.rows)
            put(self.whole, row, self.blocks.read(source, row, end))


def _check_overflow(step: Step, out: Tensor) -> None:
    if not torch.isfinite(out).all():
        law = f"{step.name} has entries beyond ±65504, which float16 cannot hold"
        raise MismatchError(law, "Write bfloat16 or float32: --dtype bf16.")


@contextmanager
def _named(step: Step) -> Iterator[None]:
    """Say which tensor an operator's complaint is about: operators know no names."""
    try:
        yield
    except MergerError as error:
        if step.name in error.law:
            raise
        raise type(error)(f"{step.name}: {error.law}", error.remedy) from error


def _keep_freed() -> None:
    """Let the C library keep the memory of a block for the next one, where it is glibc.

    By default it gives each back and takes it anew, page by page: half of a linear merge.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 8 << 20)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 32 << 20)  # M_TRIM_THRESHOLD


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
