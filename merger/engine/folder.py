"""A merge as a new model folder: weights, config, tokenizer, and the papers that rebuild it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from merger.checkpoint import Writer
from merger.checkpoint.sidecar import copy_sidecar, dominant
from merger.checkpoint.writer import SHARD_SIZE
from merger.engine.models import Opened, vocabulary_notes
from merger.engine.run import MEMORY, run_plan
from merger.engine.sinks import WriterSink
from merger.plan import Step
from merger.provenance import write_provenance


class Merged(NamedTuple):
    """A finished folder and what should be said about it."""

    out: Path
    notes: list[str]


def merge_to_folder(
    models: Opened,
    out: Path,
    *,
    memory: int = MEMORY,
    shard_size: int = SHARD_SIZE,
    device: str = "cpu",
    threads: int = 1,
    resume: bool = False,
    force: bool = False,
    allow_nan: bool = False,
    progress: Callable[[Step], None] | None = None,
) -> Merged:
    """Write a planned merge to a new folder, which gets its name only when it is whole.

    Args:
        models: the plan and its open models.
        out: the folder to make.
        memory: bytes that the whole process may hold.
        shard_size: bytes of weights per file at most.
        device: where the arithmetic runs.
        threads: torch threads for it.
        resume: keep the finished shards of a killed run of the same merge.
        force: replace an existing model folder.
        allow_nan: let NaN and infinities of the inputs through.
        progress: called after each tensor.

    Raises:
        OutputError: the place is taken, or the disk is full.
        MismatchError: the tokenizers differ.
        CheckpointError: an input holds NaN or infinity, or changed while it was read.
    """
    plan, spec = models.plan, models.plan.spec
    notes = [*plan.notes, *vocabulary_notes(models)]
    with Writer(
        out, plan.layout, shard_size, resume=resume, force=force, spec_hash=_identity(models)
    ) as writer:
        run_plan(
            plan,
            models.checkpoints,
            WriterSink(writer),
            memory=memory,
            device=device,
            threads=threads,
            allow_nan=allow_nan,
            progress=progress,
        )
        side = copy_sidecar(
            models.folder(spec.donor),
            writer.folder,
            dtype=dominant(plan.written) if spec.written_dtype else None,
            tokenizer=_tokenizer(models),
            changes=plan.config_changes,
        )
        write_provenance(writer.folder, spec.to_mapping(), models.checkpoints)
        writer.commit()
    notes += [f"config.json, {change}" for change in side.changed]
    notes += [f"{name} of {spec.donor} is not copied" for name in side.left]
    return Merged(writer.out, notes)


def _identity(models: Opened) -> str:
    """Hash what must be unchanged for finished shards to be of the same merge."""
    total = hashlib.sha256(models.plan.spec.hash().encode())
    for checkpoint in models.checkpoints.values():
        total.update(checkpoint.header_fingerprint().encode())
        for file in sorted({info.file for info in checkpoint.tensors.values()}):
            state = file.stat()
            total.update(f"{file.name} {state.st_size} {state.st_mtime_ns}".encode())
    return total.hexdigest()


def _tokenizer(models: Opened) -> Path | None:
    """Return the folder that gives the tokenizer, where it is not the donor's."""
    source = models.plan.spec.tokenizer_source
    if source in (None, "base", models.plan.spec.donor):
        return None
    return models.folder(str(source))
