"""A merge as a new model folder: weights, config, tokenizer, and the papers that rebuild it.

Shard by shard, the largest tensors first, through the writer, which gives the folder its name only
when all stands in it. Several processes share the shards; the first writes everything else. A
resumed run must be of the same spec, headers and files, or its finished shards do not count.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from merger.checkpoint import Checkpoint, Writer, open_models
from merger.checkpoint.align import MODES, Aligned, add_tokens, align
from merger.checkpoint.fingerprint import digest_all, known, learn
from merger.checkpoint.folder import stating
from merger.checkpoint.place import check_apart
from merger.checkpoint.sidecar import copy_sidecar, dominant, write_template
from merger.checkpoint.vocab import check_vocabularies
from merger.checkpoint.writer import SHARD_SIZE
from merger.device import check_device
from merger.engine.run import run_plan
from merger.engine.team import Team
from merger.experts import resolve
from merger.plan import Plan, Step, make_plan
from merger.provenance import Input, check_inputs, write_provenance
from merger.spec import MergeSpec


@dataclass(frozen=True)
class Opened:
    """A plan with the open models it reads, and the sentences on how each model was found."""

    plan: Plan
    checkpoints: Mapping[str, Checkpoint]
    choices: Mapping[str, str]
    inputs: Mapping[str, Checkpoint]  # as on disk, before vocabularies were brought to one
    aligned: Aligned

    @property
    def notes(self) -> list[str]:
        """What planning had to say; a MismatchError if the models do not speak one language."""
        if self.plan.spec.tokenizer_source is not None:
            return [*self.plan.notes, *self.aligned.notes]
        folders = {m: c.folder for m, c in self.checkpoints.items()}
        return [*self.plan.notes, *check_vocabularies(folders)]


@contextmanager
def opened(
    spec: MergeSpec, *, aliases: Mapping[str, str] | None = None, family: str | None = None
) -> Iterator[Opened]:
    """Resolve, open and plan: the common beginning of every merge; files are closed at the end.

    Raises:
        UnknownNameError: a model is no folder, alias or Hub id.
        CheckpointError: a model is missing, broken or of a kind that is not read.
        MismatchError: tensors or tokenizers do not fit together.
    """
    found = {m: resolve(m, aliases=aliases, family=family) for m in spec.models}
    with ExitStack() as stack:
        inputs = open_models({m: r.path for m, r in found.items()}, spec.base)
        for checkpoint in inputs.values():
            stack.callback(checkpoint.close)
        source = spec.tokenizer_source or "error"
        named = source in MODES  # else it names a model, whose vocabulary all get
        aligned = align(inputs, spec.donor if named else source, source if named else "base")
        plan = make_plan(spec, aligned.checkpoints)
        choices = {m: r.choice for m, r in found.items()}
        yield Opened(plan, aligned.checkpoints, choices, inputs, aligned)


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
) -> list[str]:
    """Write a planned merge to a new folder, which gets its name only when it is whole.

    Returns what should be said: what was dropped, copied or cast.

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
    check_apart(out, (one.folder for one in models.inputs.values()))
    check_device(device)
    notes = models.notes
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
            # Shard by shard, and large tensors first, that no thread ends alone with one.
            shards = {t.name: n for n, shard in enumerate(writer.shards) for t in shard.tensors}
            steps = sorted(plan.steps, key=lambda s: (shards[s.name], -s.nbytes))
            todo = replace(plan, steps=tuple(s for s in steps if s.name not in writer.finished))
            run_plan(todo, models.checkpoints, writer.write, raw=writer.put, **walk)
            if team.rank:
                team.tell(f"done {team.rank}", known())
                return notes
            for other in range(1, team.size):
                learn(team.hear(f"done {other}"))
            notes += _papers(models, writer.folder, notes)
            writer.commit()
    return [*writer.notes, *notes]


def _papers(models: Opened, folder: Path, notes: list[str]) -> list[str]:
    """Write all that stands beside the weights; return what more should be said."""
    plan, spec, rows = models.plan, models.plan.spec, models.aligned.rows
    donor = models.checkpoints[spec.donor]
    named = spec.tokenizer_source not in (None, *MODES)
    source = models.checkpoints[str(spec.tokenizer_source)] if named else donor
    sized = rows is not None and stating(donor.config, "vocab_size")
    side = copy_sidecar(
        donor.folder,
        folder,
        dtype=dominant(plan.written) if spec.written_dtype else None,
        tokenizer=None if source is donor else source.folder,
        changes={**plan.config_changes, **({"vocab_size": rows} if sized else {})},
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
    write_provenance(folder, spec.to_mapping(), inputs, told)
    return more


def _identity(models: Opened) -> str:
    """Hash what must be unchanged for finished shards to be of the same merge."""
    files = {i.file for c in models.checkpoints.values() for i in c.tensors.values()}
    states = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in sorted(files)]
    headers = [c.header_fingerprint() for c in models.checkpoints.values()]
    return digest_all(models.plan.spec.hash(), headers, states)
