"""Open what the options name: models by name, the live merge, tasks, pools and the ledger.

Candidates and reports call experts by short names; configs say where they are (an absolute
folder, `family:alias`, a Hub id), so that winner.yaml can be merged from any folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.generate import Answerer, Settings, load_model
from evals.ledger import Ledger
from evals.task import Task, get_task
from merger.checkpoint import Checkpoint, dtype_name, open_checkpoint
from merger.checkpoint.sidecar import dominant
from merger.checkpoint.vocab import check_vocabularies
from merger.errors import SearchError, UsageError
from merger.experts import Family, families, local_aliases, resolve
from merger.geometry import lineage, measure
from merger.resident import Resident
from merger.spec import spec_from_mapping
from search.candidate import Candidate
from search.export import merge_config
from search.run import Options, Run
from search.world import Holder, Pools, World

# Parameters beyond which a model is sampled, and entries of each tensor then read.
_LARGE, _SAMPLE = 1_000_000_000, 1_000_000


@dataclass(frozen=True)
class Models:
    """The models of a search: what configs call them, where they lie, how each was found."""

    names: Mapping[str, str]
    base: str
    folders: Mapping[str, Path]
    choices: tuple[str, ...]

    def config(self, candidate: Candidate, dtype: str | None) -> dict[str, Any]:
        """Return the merge config of a candidate."""
        return merge_config(candidate, self.names, self.base, dtype)


def find_models(options: Options) -> Models:
    """Resolve base and experts; UsageError where two names are one folder."""
    found = {n: resolve(source, family=options.family) for n, source in options.sources.items()}
    folders = {name: r.path.absolute() for name, r in found.items()}
    if len(set(folders.values())) < len(folders):
        raise UsageError(f"{', '.join(folders)}: a model stands twice", "Name each model once.")
    family = families().get(options.family) if options.family else None
    names = {name: _portable(source, family) for name, source in options.sources.items()}
    choices = tuple(r.choice for r in found.values())
    return Models({e: names[e] for e in options.experts}, names[options.base], folders, choices)


def _portable(source: str, family: Family | None) -> str:
    """Return a source that means the same model without the option --family."""
    inside = family and source in family.members and source not in local_aliases()
    return f"{family.name}:{source}" if family and inside else source


def default_levels(tasks: tuple[Task, ...], family: str | None) -> dict[str, tuple[int, ...]]:
    """Return the levels that a bundled family was trained on, by task; empty where none is told."""
    known = families().get(family) if family else None
    trained = known.levels if known else {}
    table = {t.name: trained.get(t.alias) or trained.get(t.name) for t in tasks}
    return {task: tuple(levels) for task, levels in table.items() if levels}


class LiveMerge:
    """The resident model, addressed by candidates."""

    def __init__(self, resident: Resident, models: Models, dtype: str | None) -> None:
        self._resident, self._models, self._dtype = resident, models, dtype

    def apply(self, candidate: Candidate) -> str:
        """Merge in place; return the fingerprint of the weights."""
        return self._resident.apply(spec_from_mapping(self._models.config(candidate, self._dtype)))


@dataclass(frozen=True)
class Survey:
    """What the models are: content hashes, lengths of the task vectors, and doubts of lineage."""

    fingerprints: Mapping[str, str]
    norms: Mapping[str, float]
    doubts: tuple[str, ...]
    dtype: str


def survey(models: Models) -> Survey:
    """Read the models once; tensors of large models are sampled for lengths and lineage."""
    base, *experts = models.folders
    opened = {name: open_checkpoint(folder) for name, folder in models.folders.items()}
    try:
        size = sum(info.numel for info in opened[base].tensors.values())
        table = {name: opened[name] for name in experts}
        sample = _SAMPLE if size > _LARGE else None
        geometry = measure(opened[base], table, base_name=base, sample=sample)
        lengths = np.sqrt(np.diag(geometry.total().dots)).tolist()
        doubts = tuple(v.text for v in lineage(geometry) if not v.ok)
        marks = {name: checkpoint.fingerprint() for name, checkpoint in opened.items()}
        dtype = _dtype(opened[base])
    finally:
        for checkpoint in opened.values():
            checkpoint.close()
    return Survey(marks, dict(zip(experts, lengths, strict=True)), doubts, dtype)


def _dtype(checkpoint: Checkpoint) -> str:
    """Return the name of the float format that holds most of a checkpoint."""
    held: Counter[str] = Counter()
    for info in checkpoint.tensors.values():
        held[info.dtype] += info.nbytes
    return dtype_name(dominant(held) or "F32")


def fingerprints(models: Models) -> dict[str, str]:
    """Return the content hash of each model's weights."""
    marks = {}
    for name, folder in models.folders.items():
        checkpoint = open_checkpoint(folder)
        marks[name] = checkpoint.fingerprint()
        checkpoint.close()
    return marks


def check_same(stated: Mapping[str, str], found: Mapping[str, str], run: Run) -> None:
    """Refuse to go on with other weights than those a run began with."""
    changed = [name for name, mark in found.items() if stated.get(name) != mark]
    if changed:
        raise SearchError(
            f"{', '.join(changed)}: not the weights that {run.path} began with",
            "Put the models back, or begin another run.",
        )


def pools_of(options: Options) -> Pools:
    """Return the pools, items not drawn yet."""
    sizes = {"search": options.n_search, "select": options.n_select, "confirm": options.n_confirm}
    seeds = {"search": options.seed, "select": options.seed, "confirm": options.confirm_seed}
    return Pools(sizes, seeds, options.levels)


def open_world(run: Run, models: Models) -> World:
    """Load the base as the live model, hold all models beside it, and open the ledger.

    Raises a MismatchError for experts whose vocabulary is not the base's.
    """
    options = run.options
    check_vocabularies({name: path for name, path in models.folders.items() if path.is_dir()})
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    tasks = tuple(get_task(name) for name in options.tasks)
    folder, dtype = models.folders[options.base], options.dtype or "auto"
    model, tokenizer = load_model(folder, device=options.device, dtype=dtype)
    resident = Resident(model, [models.base, *models.names.values()], device=options.device)
    return World(
        Holder(LiveMerge(resident, models, options.dtype)),
        Answerer(model, tokenizer),
        tasks,
        pools_of(options),
        Ledger(run.ledger),
        Settings(max_new_tokens=options.max_new_tokens),
    )
