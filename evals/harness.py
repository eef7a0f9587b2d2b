"""The one door to lm-eval: any of its tasks, on the live model, as rows of the ledger.

What is not used, and why: `simple_evaluate` (reseeds the global random state, builds an index of
14,000 files), its response cache (the key ignores the weights), automatic batch sizes (28 s of
probing). Documents the ledger holds are not run again; the rest runs in chunks, each committed. The
model's chat template is used where it has one. `NAME@metric,filter` picks a metric; otherwise the
task's first one counts, under its first filter.
"""

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from evals.asking import Ask, answer_all, ask_of
from evals.export import ask_exported
from evals.generate import Answerer, Completion, Settings
from evals.hub import hub_or_cache
from evals.kept import keep, kept, name_of
from evals.ledger import Cell, Ledger, Row
from evals.runner import Progress
from evals.samples import asked_of, metric_of, sample_row
from merger.errors import EvalError
from merger.registry import unknown

_ASKED = "2"  # how contexts and budgets are read: another number, and old answers are not reused
_CHUNK = 256  # documents between two commits
_BUILDERS = frozenset({"json", "csv", "parquet", "text", "arrow"})  # they read local files
_ROWS = 64  # rows of lm-eval's own batches


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval's bars, prints, logs and warnings off the screen."""
    before, sink = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(sink), redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Wanted(NamedTuple):
    """A task name, and the metric and filter asked for, if any."""

    task: str
    metric: str | None
    filter: str | None


def parse_name(name: str) -> Wanted:
    """Read `NAME`, `NAME@metric` or `NAME@metric,filter`."""
    task, _, choice = name.partition("@")
    metric, _, chosen = choice.partition(",")
    return Wanted(task, metric or None, chosen or None)


def evaluate_lm_eval(
    answerer: Answerer,
    fingerprint: str,
    name: str,
    *,
    ledger: Ledger,
    limit: int | None = None,
    only: Mapping[str, str] | None = None,
    include_path: str | None = None,
    progress: Progress | None = None,
    pay: Callable[[int], None] = lambda n: None,
) -> list[Row]:
    """Return a row for each document of an lm-eval task (of all its members, for a group).

    `limit` takes the first documents, `only` those with these ids, each with the split it is in.
    `pay` is called with the number of documents before they are run, never for none. Raises
    `EvalError` where the task is unknown or cannot be loaded (most of them need the network once).
    """
    wanted, lm, rows = parse_name(name), None, []
    cells = cells_of(answerer, fingerprint, name, include_path)
    for prefix, task in _load(wanted.task, include_path).items():
        cell, items = cells[prefix], _items(task)
        splits = {i: only[prefix + i] for i in items if prefix + i in only} if only else {}
        if only is not None:
            items = {i: items[i] for i in splits}
        items = dict(islice(items.items(), limit))
        missing = ledger.missing(cell, list(items))
        if progress and len(missing) < len(items):
            progress(len(items) - len(missing), f"{task.task_name}: from the ledger")
        if missing:
            pay(len(missing))
        for start in range(0, len(missing), _CHUNK):
            lm = lm or _model(answerer)
            chunk = [items[item] for item, _ in missing[start : start + _CHUNK]]
            made, asked = _run(lm, answerer, task, chunk, wanted)
            told = {i: facts | {"split": splits.get(i, "")} for i, facts in asked.items()}
            ledger.put_items(cell.task, cell.version, told)
            ledger.put(cell, made)
            if progress:
                progress(len(made), task.task_name)
        found = ledger.rows(cell, items)
        rows += [replace(found[i, 0], item=prefix + i) for i in items]
    return rows


def cells_of(
    answerer: Answerer, fingerprint: str, name: str, include_path: str | None = None
) -> dict[str, Cell]:
    """Return the ledger cell of a task, or of each in a group, by the beginning of its rows' ids.

    The contract is the task's whole configuration and our choices.
    """
    wanted, found = parse_name(name), {}
    for prefix, task in _load(wanted.task, include_path).items():
        config = re.sub(r" at 0x[0-9a-f]+", "", repr(task.dump_config()))  # where functions lie
        facts = [config, str(answerer.voice.chat), _ASKED]
        facts += [wanted.metric or "", wanted.filter or "", version("lm-eval")]
        contract = sha256("\x00".join(facts).encode()).hexdigest()[:12]
        place = (f"lm_eval:{task.task_name}", str(task.VERSION), contract)
        found[prefix] = Cell(fingerprint, *place, answerer.voice.key(Settings(), 0))
    return found


def documents(name: str, include_path: str | None = None) -> list[str]:
    """Return the ids of a task's documents, as its rows will have them."""
    tasks = _load(parse_name(name).task, include_path)
    return [prefix + item for prefix, task in tasks.items() for item in _items(task)]


def own_task(name: str, include_path: str | None) -> bool:
    """Say whether a task is defined in the user's own folder, not among lm-eval's benchmarks."""
    return bool(include_path) and parse_name(name).task in _manager(include_path).task_index


@lru_cache(maxsize=8)
@_quiet()
def _load(name: str, include_path: str | None) -> dict[str, Any]:
    """Return the task of a name, or each of a group or tag, by the beginning of its rows' ids."""
    if include_path and not Path(include_path).is_dir():
        raise EvalError(f"there is no folder {include_path!r}", "Name the folder of task YAML.")
    manager = _manager(include_path)
    hub = any(map(_of_hub, manager.task_index.values()))
    if name not in manager.task_index:
        hub = True
        manager._index = _builtin() | manager.task_index
    if name not in manager.task_index:
        raise unknown("lm-eval task", name, manager.task_index)
    try:
        with hub_or_cache(needed=hub):
            tasks: dict[str, Any] = manager.load(name)["tasks"]
    except Exception as error:
        told = (str(error) or repr(error)).splitlines()[0]
        remedy = "Its data must be in the local cache: run it once with the network."
        raise EvalError(f"the lm-eval task {name!r} cannot be loaded: {told}", remedy) from error
    for task in tasks.values():
        task.set_config("num_fewshot", task.get_config("num_fewshot") or 0)
        task.set_fewshot_seed(1234)
    return {f"{n}/" if len(tasks) > 1 else "": task for n, task in tasks.items()}


def _of_hub(entry: Any) -> bool:
    """Say whether an entry of the user's own folder names data that may have to be fetched."""
    place = str((entry.cfg or {}).get("dataset_path") or "json")
    return place not in _BUILDERS and not Path(place).exists()


@_quiet()
def _manager(include_path: str | None) -> Any:
    """Return a task manager that knows the tasks of a folder only."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=False, include_path=include_path)


@_quiet()
def _builtin() -> dict[str, Any]:
    """Return the entries of the built-in tasks, from an index kept in the user's cache.

    Reading the 14,000 files takes some 15 s, the index a tenth of one. It belongs to one version of
    lm-eval in one place.
    """
    import lm_eval
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._index import Entry, Kind

    name = f"lm_eval-{name_of(version('lm-eval'), lm_eval.__file__)}"
    table: dict[str, Any] | None = kept(name)
    if table is None:
        index = TaskManager().task_index
        table = {n: [e.kind.name, str(e.yaml_path or ""), sorted(e.tags)] for n, e in index.items()}
        keep(name, table)
    return {
        name: Entry(name, Kind[kind], Path(path) if path else None, tags=set(tags))
        for name, (kind, path, tags) in table.items()
    }


@_quiet()
def _items(task: Any) -> dict[str, int]:
    """Return item id -> document number: the number and the hash that lm-eval's samples have."""
    from lm_eval.utils import handle_non_serializable, hash_string

    shape: dict[str, Any] = {"indent": 2, "default": handle_non_serializable, "ensure_ascii": False}
    texts = (json.dumps(doc, **shape) for doc in task.eval_docs)
    return {f"{number}#{hash_string(text)[:12]}": number for number, text in enumerate(texts)}


@_quiet()
def _model(answerer: Answerer) -> Any:
    """Wrap the live model for lm-eval; its text is generated by our own engine."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.utils import normalize_gen_kwargs

    class Live(HFLM):  # type: ignore[misc]
        """lm-eval's own wrapper but for generation; `made` keeps completions by (context, text)."""

        made: dict[tuple[str, str], Completion]
        told: Any  # the configuration of the task that runs

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            asked = [self.ask(request) for request in requests]
            if None in asked:  # an option that only `generate` knows
                return list(super().generate_until(requests, disable_tqdm))
            known = [ask for ask in asked if ask is not None]
            done = answer_all(answerer, known, encode=self.tok_encode)
            self.made |= {(r.args[0], c.text): c for r, c in zip(requests, done, strict=True)}
            return [c.text for c in done]

        def ask(self, request: Any) -> Ask | None:
            context, how = request.args
            exported = ask_exported(answerer, self.told, request.doc)
            return exported or ask_of(context, normalize_gen_kwargs(how, 256))

    sizes = {"batch_size": _ROWS, "max_length": answerer.context}
    live = Live(pretrained=answerer.model, tokenizer=answerer.tokenizer, **sizes)
    live.made = {}
    return live


@_quiet()
def _run(
    lm: Any, answerer: Answerer, task: Any, numbers: Sequence[int], wanted: Wanted
) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """Run some documents of one task: rows, what was asked. Unsorted, lm-eval mislabels them."""
    from lm_eval import evaluate

    lm.told, name = task.config, task.task_name
    result = evaluate(
        lm=lm,
        task_dict={"tasks": {name: task}, "groups": {}, "group_map": {}},
        samples={name: sorted(numbers)},
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=answerer.voice.chat,
        fewshot_as_multiturn=answerer.voice.chat,
    )
    rows: dict[str, Row] = {}
    asked: dict[str, dict[str, Any]] = {}
    for sample in (result or {}).get("samples", {}).get(name, []):
        if wanted.filter in (None, sample["filter"]):
            row = _row(sample, name, wanted, lm.made)
            rows.setdefault(row.item, row)
            asked.setdefault(row.item, asked_of(sample))
    if not rows:
        raise EvalError(f"{name} has no filter {wanted.filter!r}", "See its filter_list.")
    return list(rows.values()), asked


def _row(
    sample: dict[str, Any], name: str, wanted: Wanted, made: dict[tuple[str, str], Completion]
) -> Row:
    try:
        score = metric_of(sample, wanted.metric)
    except KeyError as error:
        law = f"{name} has no metric {wanted.metric or 'that is a number'!r}"
        raise EvalError(law, f"It reports {', '.join(sample['metrics'])}.") from error
    row = sample_row(sample, score)
    said = made.get((sample["arguments"][0][0], row.text))
    return replace(row, finish=said.finish, n_tokens=said.n_tokens) if said else row
