"""The walk: for each step read blocks, survey, combine, round once, and put into the sink.

Several steps are made at a time, each by one thread from its first byte to its last: torch's own
threads would split every small sum, and nothing made by one thread can depend on their number.
Rows come from files by positioned reads; a survey of several passes reads them again, out of the
operating system's cache: to hold whole tensors here was no faster and took its memory twice. That
they are numbers is checked on the first pass.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from merger.checkpoint import Checkpoint, torch_dtype
from merger.checkpoint.dtypes import bytes_of
from merger.engine.budget import Budget
from merger.engine.straight import RawSink, Straight, stored_in
from merger.errors import CheckpointError, MergerError, MismatchError
from merger.late import Tensor, torch
from merger.operators import OPERATORS, Block, Pick, Place, Size, run_survey
from merger.plan import Plan, Source, Step

Facts = MutableMapping[tuple[Any, ...], Any]
_HANDED_ON = 1 << 19  # entries that go to the sink at once: small writes cost more


# Where rows go: called with a tensor's name, the first row, and rows (rows, cols) in the dtype that
# the plan states, each row once, in any order of tensors; their memory is used again. Of a row too
# long for memory come pieces: entries (n, 1), and the row counts entries.
Sink = Callable[[str, int, Tensor], None]


def discard(name: str, row: int, block: Tensor | memoryview) -> None:
    """Be the sink that keeps nothing: for sizes that no disk at hand can hold."""


class DictSink:
    """Whole tensors in memory, by name: for tests and for small models."""

    def __init__(self, plan: Plan) -> None:
        self.tensors = {
            step.name: torch.empty(step.shape, dtype=torch_dtype(step.dtype)) for step in plan.steps
        }

    def __call__(self, name: str, row: int, block: Tensor) -> None:
        """Copy the rows into their tensor."""
        self.tensors[name].view(-1, block.shape[1])[row : row + block.shape[0]] = block


def run_plan(
    plan: Plan,
    checkpoints: Mapping[str, Checkpoint],
    sink: Sink,
    *,
    raw: RawSink | None = None,
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
        sink: takes the rows.
        raw: takes bytes, of what can be made without tensors; without it, nothing is made so.
        memory: bytes that the whole process may hold; by default a gigabyte, and half a one more
            than a process that holds much already.
        budget: overrides `memory` by rows and shares worked out already.
        device: where the arithmetic runs.
        threads: tensors made at a time (as many as cores and memory let); no byte depends on it.
        allow_nan: let NaN and infinities of the inputs through.
        facts: surveys kept between runs on the same inputs, keyed by tensor and surveyed knobs.
        progress: called after each step.

    Raises:
        CheckpointError: an input holds NaN or infinity, or its file changed.
        UsageError: the memory is too little, or a row that must be whole does not fit.
    """
    straight = straight_steps(plan, checkpoints, device) if raw else set()
    with nullcontext() if (all_ := len(straight) == len(plan.steps)) else _one_thread():
        if budget is None:
            budget = Budget.of(memory, plan, device=device, threads=threads, straight=all_)
            _keep_freed()
        elif threads:
            budget = replace(budget, workers=threads)
        works = [_Work(s, checkpoints, budget, device, allow_nan) for s in plan.steps]
        runs = [w.straight(raw) if raw and w.step.name in straight else w.run for w in works]
        with ThreadPoolExecutor(budget.workers, "merge") as pool:
            made = [pool.submit(run, sink, facts) for run in runs]
            try:
                for step, done in zip(plan.steps, made, strict=True):
                    done.result()
                    if progress:
                        progress(step)
            finally:
                pool.shutdown(cancel_futures=True)


def straight_steps(plan: Plan, checkpoints: Mapping[str, Checkpoint], device: str) -> set[str]:
    """Return the names of the steps that can be made from bytes, without torch."""
    return {s.name for s in plan.steps if device == "cpu" and Straight.suits(s, checkpoints)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch from splitting what one thread makes; and load it, before memory is counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Work:
    """One step; called, it goes through its blocks anew."""

    def __init__(
        self,
        step: Step,
        checkpoints: Mapping[str, Checkpoint],
        budget: Budget,
        device: str,
        allow_nan: bool,
    ) -> None:
        self.step = budget.cut(step)
        self.rows, self._device = budget.block_rows(self.step), device
        self._checkpoints, self._allow_nan = checkpoints, allow_nan
        self._unchecked = not allow_nan
        taken = step.operator and device == "cpu" and OPERATORS[step.operator].laws.stored
        self._raw = taken and stored_in(step, checkpoints) == "BF16"
        stored = {checkpoints[s.model].tensors[s.tensor].dtype for s in step.inputs}
        self._dtype = "BF16" if self._raw else "F64" if "F64" in stored else "F32"

    def __call__(self, pick: Pick = range) -> Iterator[Block]:
        """Yield the blocks that are picked, in order; their memory is used again."""
        step, count = self.step, len(self.step.sources)
        shape = (len(step.inputs), min(self.rows, step.rows), step.cols)
        buffer = torch.empty(shape, dtype=torch_dtype(self._dtype), device=self._device)
        for i in pick(-(-step.rows // self.rows)):
            row, end = i * self.rows, min((i + 1) * self.rows, step.rows)
            stacked = buffer[:, : end - row]
            for source, rows in zip(step.inputs, stacked, strict=True):
                checkpoint: Any = self._checkpoints[source.model]
                if self._raw:
                    checkpoint.read_bytes(source.tensor, row * step.cols, bytes_of(rows))
                else:
                    rows.copy_(self._read(source, row, end), non_blocking=True)
            base = stacked[count] if step.base else None
            place = Place(row * step.cols, step.keys)
            self._check(stacked, place.start)
            yield Block(stacked[:count], base, place)
        self._unchecked = self._unchecked and pick is not range

    def straight(self, raw: RawSink) -> Callable[..., None]:
        """Return what makes the step from bytes, and looks at its numbers if some are none."""
        with _named(self.step):
            made = Straight(self.step, self._checkpoints, self.rows * self.step.cols)
        doubt = partial(self.run, discard, None) if self._unchecked else None
        return lambda *_: made.run(raw, doubt)

    def run(self, sink: Sink, facts: Facts | None) -> None:
        """Make all rows of the step."""
        step = self.step
        if step.operator is None:
            for row in range(0, step.rows, self.rows):
                end = min(row + self.rows, step.rows)
                sink(step.name, row, self._read(step.sources[0], row, end))
            return
        known, operator = self._facts(facts), OPERATORS[step.operator]
        rows = self.rows * max(1, _HANDED_ON // max(1, self.rows * step.cols))
        room = torch.empty(min(rows, step.rows), step.cols, dtype=torch_dtype(step.dtype))
        for block in self():
            first, row = divmod(block.place.start // step.cols, rows)
            out = room[: step.rows - first * rows]
            with _named(step):
                made = operator(
                    block.experts, block.base, knobs=step.knobs, facts=known, place=block.place
                )
            out[row : row + made.shape[0]].copy_(made)
            if row + made.shape[0] == out.shape[0]:
                if step.dtype == "F16" and not self._allow_nan and not torch.isfinite(out).all():
                    law = f"{step.name} has entries beyond ±65504, which float16 cannot hold"
                    raise MismatchError(law, "Write bfloat16 or float32: --dtype bf16.")
                sink(step.name, first * rows, out)

    def _facts(self, cache: Facts | None) -> Any:
        step, operator = self.step, OPERATORS[self.step.operator or ""]
        if operator.survey is None:
            return None
        key = (operator.name, step.inputs, tuple(step.knobs[n] for n in operator.survey_knobs))
        cache = {} if cache is None else cache
        if key not in cache:
            size = Size(step.rows, step.cols, len(step.sources))
            with _named(step):
                kept = cache.setdefault((operator.name, step.inputs), {})  # whatever the knobs
                cache[key] = run_survey(operator.surveyed(size, step.knobs), self, kept)
        return cache[key]

    def _read(self, source: Source, row: int, end: int) -> Tensor:
        """Return rows of one tensor as the step sees them, in their stored form."""
        return self._checkpoints[source.model].read(source.tensor, row, end, cols=self.step.cols)

    def _check(self, stacked: Tensor, start: int) -> None:
        """Refuse NaN and infinities, on the first pass."""
        # A sum is NaN or infinite if any entry is, and costs a tenth of looking at each; it can
        # overflow by itself, so only then every entry is looked at.
        if not self._unchecked or torch.isfinite(stacked.sum()):
            return
        for source, rows in zip(self.step.inputs, stacked, strict=True):
            for at in (~torch.isfinite(rows)).flatten().nonzero()[:1].tolist():
                cols = self._checkpoints[source.model].tensors[source.tensor].cols
                place = divmod(start + at[0], cols)
                law = f"{source.model}: {source.tensor} holds {float(rows.flatten()[at[0]])}"
                remedy = "Use a sound checkpoint, or merge such values on purpose with --allow-nan."
                raise CheckpointError(f"{law} (row {place[0]}, column {place[1]})", remedy)


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
