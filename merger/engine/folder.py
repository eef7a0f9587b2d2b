"""A merge as a new model folder: weights, config, tokenizer, and the papers that rebuild it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from merger.checkpoint import Writer
from merger.checkpoint.align import add_tokens
from merger.checkpoint.fingerprint import known, learn
from merger.checkpoint.folder import stating
from merger.checkpoint.place import check_apart
from merger.checkpoint.sidecar import copy_sidecar, dominant, write_template
from merger.checkpoint.writer import SHARD_SIZE
from merger.device import check_device
from merger.engine.models import Opened, vocabulary_notes
from merger.engine.run import run_plan
from merger.engine.sinks import DiscardSink, WriterSink
from merger.engine.team import Team
from merger.plan import Step
from merger.provenance import Input, check_inputs, write_provenance


class Merged(NamedTuple):
    """A finished folder and what should be said about it."""

    out: Path
    notes: list[str]


def merge_to_folder(
    models: Opened,
    out: Path,
    *,
    shard_size: int = SHARD_SIZE,
    device: str = "cpu",
    resume: bool = False,
    force: bool = False,
    team: Team | None = None,
    progress: Callable[[Step], None] | None = None,
    **walk: Any,
) -> Merged:
    """Write a planned merge to a new folder, which gets its name only when it is whole.

    Args:
        models: the plan and its open models.
        out: the folder to make.
        shard_size: bytes of weights per file at most.
        device: where the arithmetic runs.
        resume: keep the finished shards of a killed run of the same merge.
        force: replace an existing model folder.
        team: the processes that share the work; the first one returns the whole.
        progress: called after each tensor.
        walk: memory, threads, allow_nan, as for `run_plan`.

    Raises:
        OutputError: the place is taken, the disk is full, or another process has failed.
        MismatchError: the tokenizers differ.
        CheckpointError: an input holds NaN or infinity, or changed while it was read.
    """
    plan, spec = models.plan, models.plan.spec
    check_apart(out, (models.folder(model) for model in models.inputs))
    check_device(device)
    notes = [*plan.notes, *vocabulary_notes(models)]
    if spec.provenance is not None:
        check_inputs(spec.provenance, models.inputs)
    with team or Team() as team:
        if team.rank:
            team.hear("begun")
        key, share = _identity(models), (team.rank, team.size)
        with Writer(
            out, plan.layout, shard_size, resume=resume, force=force, share=share, spec_hash=key
        ) as writer:
            team.tell("begun")
            walk |= {"device": team.device(device), "progress": progress}
            run_plan(plan, models.checkpoints, WriterSink(writer), **walk)
            if team.rank:
                team.tell(f"done {team.rank}", known())
                return Merged(writer.out, notes)
            for other in range(1, team.size):
                learn(team.hear(f"done {other}"))
            notes += _papers(models, writer.folder, notes)
            writer.commit()
    return Merged(writer.out, notes)


def merge_to_nothing(models: Opened, **walk: Any) -> Merged:
    """Do a merge and keep nothing of it: to try sizes that no disk at hand can hold.

    The options are those of `run_plan`.
    """
    run_plan(models.plan, models.checkpoints, DiscardSink(), **walk)
    return Merged(Path(os.devnull), [*models.plan.notes, *vocabulary_notes(models)])


def _papers(models: Opened, folder: Path, notes: list[str]) -> list[str]:
    """Write all that stands beside the weights; return what more should be said."""
    plan, spec = models.plan, models.plan.spec
    side = copy_sidecar(
        models.folder(spec.donor),
        folder,
        dtype=dominant(plan.written) if spec.written_dtype else None,
        tokenizer=_tokenizer(models),
        changes={**plan.config_changes, **_vocabulary(models)},
    )
    if models.aligned.added:
        add_tokens(folder, models.aligned.added)
    if spec.chat_template is not None:
        write_template(folder, spec.chat_template)
    more = [f"config.json, {change}" for change in side.changed]
    more += [f"{name} of {spec.donor} is not copied" for name in side.left]
    dropped = [f"dropped {d.tensor} of {d.model}: {d.reason}" for d in plan.dropped]
    inputs = [Input(name, one, models.choices[name]) for name, one in models.inputs.items()]
    told = [*notes, *more, *dropped]
    write_provenance(folder, spec.to_mapping(), inputs, base=spec.base, notes=told)
    return more


def _identity(models: Opened) -> str:
    """Hash what must be unchanged for finished shards to be of the same merge."""
    total = hashlib.sha256(models.plan.spec.hash().encode())
    for checkpoint in models.checkpoints.values():
        total.update(checkpoint.header_fingerprint().encode())
        for file in sorted({info.file for info in checkpoint.tensors.values()}):
            state = file.stat()
            total.update(f"{file.name} {state.st_size} {state.st_mtime_ns}".encode())
    return total.hexdigest()


def _vocabulary(models: Opened) -> dict[str, int]:
    """Return the vocab_size that config.json must state, where vocabularies were brought to one."""
    config = models.checkpoints[models.plan.spec.donor].config or {}
    rows = models.aligned.rows
    return {"vocab_size": rows} if rows is not None and stating(config, "vocab_size") else {}


def _tokenizer(models: Opened) -> Path | None:
    """Return the folder that gives the tokenizer, where it is not the donor's."""
    source = models.plan.spec.tokenizer_source
    if source in (None, "base", "union", models.plan.spec.donor):
        return None
    return models.folder(str(source))
