"""Open the models of a spec by name, and make the plan: the common beginning of every merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from merger.checkpoint import Checkpoint, open_models
from merger.checkpoint.align import Aligned, align
from merger.checkpoint.vocab import check_vocabularies
from merger.experts import resolve
from merger.plan import Plan, make_plan
from merger.spec import MergeSpec


@dataclass(frozen=True)
class Opened:
    """A plan with the open models it reads, and the sentences on how each model was found."""

    plan: Plan
    checkpoints: Mapping[str, Checkpoint]
    choices: Mapping[str, str]
    inputs: Mapping[str, Checkpoint]  # as on disk, before vocabularies were brought to one
    aligned: Aligned

    def folder(self, model: str) -> Path:
        """Return the folder of a model (of the file's folder, where a file was named)."""
        path = self.checkpoints[model].path
        return path if path.is_dir() else path.parent


@contextmanager
def opened(
    spec: MergeSpec, *, aliases: Mapping[str, str] | None = None, family: str | None = None
) -> Iterator[Opened]:
    """Resolve, open and plan; the files are closed at the end of the block.

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
        aligned = _aligned(spec, inputs)
        plan = make_plan(spec, aligned.checkpoints)
        choices = {m: r.choice for m, r in found.items()}
        yield Opened(plan, aligned.checkpoints, choices, inputs, aligned)


def _aligned(spec: MergeSpec, inputs: Mapping[str, Checkpoint]) -> Aligned:
    """Bring vocabularies to one where tokenizer_source asks for it: base, union, or a model."""
    source = spec.tokenizer_source
    if source is None:
        return align(inputs, spec.donor, "error")
    if source in ("base", "union"):
        return align(inputs, spec.donor, source)
    return align(inputs, source, "base")


def vocabulary_notes(models: Opened) -> list[str]:
    """Check that all models speak one language; return what should be said about it."""
    if models.plan.spec.tokenizer_source is not None:
        return models.aligned.notes
    folders = {m: models.folder(m) for m in models.checkpoints}
    return check_vocabularies(folders)
