"""Open what the options name: models by name, the live merge, tasks, pools and the ledger.

Candidates and reports call experts by short names; configs say where they are (an absolute
folder, `family:alias`, a Hub id), so that winner.yaml can be merged from any folder.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evals.generate import Answerer, Settings, load_model
from evals.ledger import Ledger
from evals.task import Item, get_task
from evals.threads import best_threads
from merger.checkpoint import Checkpoint, dtype_name, open_models
from merger.checkpoint.align import align
from merger.checkpoint.sidecar import dominant
from merger.checkpoint.vocab import check_vocabularies
from merger.engine import DictSink, run_plan
from merger.engine import opened as opened_spec
from merger.errors import SearchError, UsageError
from merger.experts import family_of, resolve
from merger.geometry import lineage, measure
from merger.resident import Resident
from merger.spec import MergeSpec, spec_from_mapping
from search.export import merge_config
from search.run import Fingerprints, Options, Run
from search.scorers import Opened, Scorer, deal, open_task
from search.variant import Merge, Variant
from search.world import Holder, Pools, World

# Parameters beyond which a model is sampled, and entries of each tensor then read.
_LARGE, _SAMPLE = 1_000_000_000, 1_000_000
CHECKED = 20  # merges between two checks against the merge engine


@dataclass(frozen=True)
class Models:
    """The models of a search: what configs call them, where they lie, how each was found."""

    names: Mapping[str, str]
    base: str
    folders: Mapping[str, Path]
    choices: tuple[str, ...]
    vocab: str = "error"

    def config(self, merge: Merge, dtype: str | None) -> dict[str, Any]:
        """Return the merge config of a candidate or variant."""
        if isinstance(merge, Variant):
            return self.worded(merge.named(self.names, self.base, dtype))
        return self.worded(merge_config(merge, self.names, self.base, dtype))

    def worded(self, config: dict[str, Any]) -> dict[str, Any]:
        """Say in a config how vocabularies are brought to one; the base alone needs no word."""
        alone = self.vocab == "error" or "base_model" not in config
        return config if alone else config | {"tokenizer_source": self.vocab}

    @contextmanager
    def opened(self) -> Iterator[dict[str, Checkpoint]]:
        """Open all models while the block lasts, adapters through the base, which stands first."""
        found = open_models(self.folders, next(iter(self.folders)))
        try:
            yield found
        finally:
            for checkpoint in found.values():
                checkpoint.close()

    def fingerprints(self) -> dict[str, str]:
        """Return the content hash of each model's weights."""
        with self.opened() as found:
            return {name: checkpoint.fingerprint() for name, checkpoint in found.items()}


def find_models(options: Options) -> Models:
    """Resolve base and experts; UsageError where two names are one folder.

    Raises a MismatchError for experts whose vocabulary is not the base's, unless --vocab maps it.
    """
    found = {n: resolve(source, family=options.family) for n, source in options.sources.items()}
    folders = {name: r.path.absolute() for name, r in found.items()}
    if len(set(folders.values())) < len(folders):
        raise UsageError(f"{', '.join(folders)}: a model stands twice", "Name each model once.")
    if options.vocab == "error":
        check_vocabularies({name: path for name, path in folders.items() if path.is_dir()})
    names = {name: _portable(source, options) for name, source in options.sources.items()}
    choices = tuple(r.choice for r in found.values())
    experts = {e: names[e] for e in options.experts}
    return Models(experts, names[options.base], folders, choices, options.vocab)


def _portable(source: str, options: Options) -> str:
    """Return a source that means the same model without the option --family."""
    named = options.family and ":" not in source
    family = family_of(source, options.family) if named else None
    return f"{family.name}:{source}" if family else source


def tasks_of(options: Options, *, guard: bool = False) -> list[Opened]:
    """Return the tasks of a search (or its guards), with the items of those that are not drawn."""
    if options.objective_cmd and not guard:
        scorer = Scorer("command", command=options.objective_cmd)
        return [Opened(scorer, scorer.items(options.command_items))]
    names = options.guard if guard else options.tasks
    return [open_task(name, options.check, options.include_path) for name in names]


def default_levels(options: Options) -> dict[str, tuple[int, ...]]:
    """Return the levels that the models were trained on, by task, if all are of one family."""
    first, *others = [family_of(source, options.family) for source in options.sources.values()]
    levels = first.levels if first and all(other == first for other in others) else {}
    trained = {get_task(name).name: tuple(found) for name, found in levels.items()}
    own = {one.task.name for one in tasks_of(options) if not one.items}
    return {task: levels for task, levels in trained.items() if task in own}


class LiveMerge:
    """The resident model, addressed by candidates."""

    def __init__(self, resident: Resident, models: Models, dtype: str | None) -> None:
        self._resident, self._models, self._dtype = resident, models, dtype
        self._made = 0

    def apply(self, merge: Merge) -> str:
        """Merge in place; return the fingerprint of the weights.

        The first merge, and every twentieth after it, is held against the merge engine on files.
        """
        spec = spec_from_mapping(self._models.config(merge, self._dtype))
        mark = self._resident.apply(spec)
        if self._made % CHECKED == 0:
            self._check(spec)
        self._made += 1
        if isinstance(merge, Variant):
            mark = self._resident.fade(self._models.base, merge.factor)
        return mark

    def change(self, expert: str, name: str) -> Tensor:
        """Return what an expert changed in a tensor, float32."""
        both = (self._models.names[expert], self._models.base)
        mine, base = (self._resident.tensor(model, name).float() for model in both)
        return mine - base

    def _check(self, spec: MergeSpec) -> None:
        """Compare some tensors of the live model, bit for bit, with the engine's from files."""
        with opened_spec(spec) as models:
            steps = models.plan.steps
            plan = replace(models.plan, steps=steps[:: max(1, len(steps) // 8)][:8])
            sink = DictSink(plan)
            run_plan(plan, models.checkpoints, sink, device=self._resident.device)
        live = self._resident.module.state_dict()
        for name, tensor in sink.tensors.items():
            # Of a base alone the file has no rows for tokens of others.
            held = live[name].to("cpu", tensor.dtype).view(-1)[: tensor.numel()].view_as(tensor)
            if not torch.equal(held, tensor.cpu()):
                law = f"{name} of the live merge is not what the merge engine makes of the files"
                remedy = "Do not trust this run; report it with its manifest.json."
                raise SearchError(law, remedy)


def survey(models: Models) -> tuple[dict[str, float], list[str], str]:
    """Return the lengths of the task vectors, doubts of lineage, and the base's dtype.

    Tensors of large models are sampled.
    """
    base, *experts = models.folders
    with models.opened() as opened:
        tensors = opened[base].tensors.values()
        seen = align(opened, base, models.vocab).checkpoints
        table = {name: seen[name] for name in experts}
        sample = _SAMPLE if sum(info.numel for info in tensors) > _LARGE else None
        geometry = measure(seen[base], table, base_name=base, sample=sample)
    lengths = np.sqrt(np.diag(geometry.total().dots)).tolist()
    held: Counter[str] = Counter()
    for info in tensors:
        held[info.dtype] += info.nbytes
    doubts = [verdict.text for verdict in lineage(geometry) if not verdict.ok]
    return dict(zip(experts, lengths, strict=True)), doubts, dtype_name(dominant(held) or "F32")


def open_world(run: Run, models: Models) -> World:
    """Load the base as the live model, hold all models beside it, and open the ledger."""
    options = run.options
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.set_num_threads(best_threads())
    folder, dtype = models.folders[options.base], options.dtype or "auto"
    model, tokenizer = load_model(folder, device=options.device, dtype=dtype)
    names = [models.base, *models.names.values()]
    resident = Resident(model, names, vocab=options.vocab, device=options.device)
    for entry in resident.aligned.added:
        tokenizer.add_tokens(entry["content"], special_tokens=bool(entry.get("special")))
    tasks, sizes = tasks_of(options), options.sizes
    seeds = {"search": options.seed, "select": options.seed, "confirm": options.confirm_seed}
    return World(
        Holder(LiveMerge(resident, models, options.dtype), Fingerprints(run)),
        Answerer(model, tokenizer),
        [one.task for one in tasks],
        Pools(sizes, seeds, options.levels, _dealt(tasks, sizes)),
        Ledger(run.ledger),
        Settings(max_new_tokens=options.max_new_tokens),
    )


def _dealt(tasks: Sequence[Opened], sizes: Mapping[str, int]) -> dict[str, dict[str, list[Item]]]:
    """Return the items of the tasks that hold what they hold, by task and pool."""
    return {task.name: deal(items, sizes, task.name) for task, items in tasks if items}


def guards_of(options: Options, world: World) -> World | None:
    """Return the world of tasks that only finalists are scored on: as many confirm items each."""
    if not options.guard:
        return None
    tasks, n = tasks_of(options, guard=True), options.n_confirm
    dealt: dict[str, Any] = {}
    for one in tasks:  # a task that holds fewer gives all
        dealt |= _dealt([one], {"confirm": min(n, len(one.items))})
    pools = Pools({"confirm": n}, {"confirm": options.confirm_seed}, {}, dealt)
    return replace(world, tasks=[one.task for one in tasks], pools=pools)
