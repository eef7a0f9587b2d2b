"""A live model that becomes any merge in place, bit for bit what `merger merge` would write.

Base and experts stay in memory in their stored form; every `apply` recomputes all weights from them
by the engine's own walk (never by increments, so no error can build up) and keeps surveys such as
TIES thresholds as long as the knobs they depend on stay the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from merger.checkpoint import (
    Checkpoint,
    fingerprint_of,
    open_models,
    tensor_digest,
    torch_dtype,
)
from merger.checkpoint.align import align
from merger.device import free_memory
from merger.engine import Budget, Sink, run_plan
from merger.engine.run import Facts
from merger.errors import MismatchError
from merger.experts import resolve
from merger.plan import Plan, Step, make_plan
from merger.spec import MergeSpec

_PLACE = torch.int32
_ROOM = 1 << 30  # arithmetic of one block at a time; the models themselves are held anyway


class Loaded(Checkpoint):
    """A checkpoint read into memory once; of the disk it then knows the hashes alone.

    With a `ground`, a tensor is held by the entries that differ from the ground's, where these are
    so few that they and their places take less memory; it reads back bit for bit.
    """

    def __init__(
        self, checkpoint: Checkpoint, device: str = "cpu", ground: Loaded | None = None
    ) -> None:
        self.path, self.config = checkpoint.path, checkpoint.config
        self.tensors, self.notes = checkpoint.tensors, checkpoint.notes
        self._digest, self._ground = checkpoint.digest, ground
        self._held: dict[str, Tensor] = {}
        self._places: dict[str, Tensor] = {}  # of the entries held, in order
        for name in self.tensors:
            self._hold(name, checkpoint.read(name).view(-1).to(device))

    def _hold(self, name: str, whole: Tensor) -> None:
        self._held[name], info = whole, self.tensors[name]
        like = self._ground and self._ground.tensors.get(name)
        if self._ground and like and (like.dtype, like.shape) == (info.dtype, info.shape):
            # Bits, not numbers: -0.0 and 0.0 are two things.
            bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
            ours, theirs = whole, self._ground.entries(name, 0, info.numel)
            kind = bits[whole.element_size()]
            (places,) = torch.where(ours.view(kind) != theirs.view(kind))
            if len(places) * (_PLACE.itemsize + whole.element_size()) < info.nbytes:
                self._held[name] = whole[places]
                self._places[name] = places.to(_PLACE if info.numel < 2**31 else torch.int64)

    def entries(self, name: str, start: int, end: int) -> Tensor:
        """Return entries of a tensor: not to be written to."""
        held, places = self._held[name], self._places.get(name)
        if places is None or self._ground is None:
            return held[start:end]
        ends = torch.tensor((start, end), dtype=places.dtype, device=places.device)
        first, last = torch.searchsorted(places, ends).tolist()
        block = self._ground.entries(name, start, end).clone()
        block[places[first:last].long() - start] = held[first:last]
        return block

    @property
    def nbytes(self) -> int:
        """The memory that its tensors take."""
        return sum(t.nbytes for t in (*self._held.values(), *self._places.values()))

    def digest(self, name: str) -> str:
        """Return the hash that the checkpoint on disk gives."""
        return self._digest(name)

    def close(self) -> None:
        """Hold on to the tensors; there is no file to close."""


class Resident:
    """A live module with the base and the experts that its weights can be made from.

    Args:
        module: any module whose state dict has the checkpoints' tensor names; its dtype should be
            the one that merges are written in (a wider one holds them exactly, a narrower one is
            refused).
        models: names of all models that specs will speak of: folders, aliases or Hub ids; the
            first is the base, which adapters are read through.
        vocab: `base` or `union` brings other vocabularies to the base's, as a merge does; the
            module's embeddings get as many rows.
        device: where base and experts are held and merged.
        sparse: hold experts by the entries that differ from the base's, where these are few;
            slower, and by default done where the memory there is would not hold them whole.
    """

    def __init__(
        self,
        module: nn.Module,
        models: list[str] | tuple[str, ...],
        *,
        vocab: str = "error",
        device: str = "cpu",
        sparse: bool | None = None,
    ) -> None:
        self.module, self.device = module, device
        found = {m: resolve(m).path for m in models}
        self.aligned = align(open_models(found, models[0]), models[0], vocab)
        if self.aligned.rows is not None:
            resize: Any = module.resize_token_embeddings
            resize(self.aligned.rows, mean_resizing=False)
        given = self.aligned.checkpoints
        if sparse is None:
            whole = sum(info.nbytes for c in given.values() for info in c.tensors.values())
            sparse = whole + 4 * _ROOM > free_memory(device)
        ground = Loaded(given[models[0]], device)
        self._checkpoints = {models[0]: ground} | {
            name: Loaded(given[name], device, ground if sparse else None) for name in models[1:]
        }
        self._facts: Facts = {}
        self._written: list[Step] = []

    def apply(self, spec: MergeSpec) -> str:
        """Fill the module with a merge and return the fingerprint of its weights.

        Raises:
            MismatchError: the module lacks a tensor, or would have to round one.
        """
        plan = make_plan(spec, self._checkpoints)
        sink = module_sink(self.module, plan)
        budget = Budget(4 * _ROOM) if self.device == "cpu" else Budget(4 * _ROOM, 1 << 24)
        run_plan(
            plan, self._checkpoints, sink, budget=budget, device=self.device, facts=self._facts
        )
        self._written = list(plan.steps)
        return self.fingerprint()

    def fade(self, model: str, factor: Callable[[str], float]) -> str:
        """Move what `apply` wrote along the way from a model, tensor by tensor, and fingerprint it.

        A factor of 1 leaves a tensor, 0 puts the model's own there, 2 doubles the way; float32,
        rounded once. Tensors that the model lacks stay.
        """
        state, ground = _state(self.module), self._checkpoints[model]
        for step in self._written:
            if (kept := factor(step.name)) != 1 and step.name in ground.tensors:
                live = state[step.name]
                start = ground.read(step.name).view(live.shape).float()
                moved = start + kept * (live.float() - start) if kept else start
                live.copy_(moved.to(torch_dtype(step.dtype)))
        return self.fingerprint()

    def tensor(self, model: str, name: str) -> Tensor:
        """Return a tensor of one of the models held; not to be written to."""
        return self._checkpoints[model].read(name)

    def fingerprint(self) -> str:
        """Return the fingerprint that the written folder of the present weights would have."""
        state = _state(self.module)
        return fingerprint_of(
            (s.name, s.dtype, s.shape, tensor_digest(state[s.name].to(torch_dtype(s.dtype))))
            for s in self._written
        )


def module_sink(module: nn.Module, plan: Plan) -> Sink:
    """Return what copies rows into the parameters of a live module, once all are seen to fit."""
    state = _state(module)
    _check(state, plan)

    def put(name: str, row: int, block: Tensor) -> None:
        state[name].view(-1, block.shape[1])[row : row + block.shape[0]].copy_(block)

    return put


def _check(state: dict[str, Tensor], plan: Plan) -> None:
    remedy = "Load the module from the base's own folder."
    for step in plan.steps:
        live, law = state.get(step.name), ""
        if live is None:
            law = f"the model has no tensor named {step.name}"
        elif tuple(live.shape) != step.shape:
            law = f"{step.name} is {list(live.shape)} in the model, {list(step.shape)} merged"
        elif torch.promote_types(live.dtype, torch_dtype(step.dtype)) != live.dtype:
            law = f"{step.name} is {live.dtype} in the model, and merged as {step.dtype}"
            remedy = "Load the module in the dtype that merges are written in."
        if law:
            raise MismatchError(law, remedy)
    made = {state[s.name].data_ptr() for s in plan.steps}
    if stale := [n for n, t in state.items() if t.numel() and t.data_ptr() not in made]:
        law = f"the merge leaves {len(stale)} tensors of the model unfilled: {stale[0]} …"
        raise MismatchError(law, remedy)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {n: t.detach() for n, t in module.state_dict(keep_vars=True).items()}
