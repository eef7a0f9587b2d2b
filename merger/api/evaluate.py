"""Evaluate by one call: models on tasks, every answer kept in a ledger and paid for once.

Everything is checked before a ledger is made or a model loaded; a model all of whose answers the
ledger holds is never loaded. The command `merger eval` takes its options from the signature here,
so help, command line and Python cannot say different things.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from merger.api.limits import Count, Least, Number, check_least
from merger.errors import UsageError
from merger.screen import QUIET, Screen

if TYPE_CHECKING:
    from evals.drafts import Drafts
    from evals.generate import Answerer, Settings
    from evals.ledger import Ledger, Row
    from evals.paired import Comparison
    from evals.resting import Notes
    from evals.suite import Entry, Subject
    from merger.checkpoint import Checkpoint


class Evaluated(NamedTuple):
    """One model: the name asked for, the fingerprint of its weights, task -> rows."""

    model: str
    fingerprint: str
    scores: "Mapping[str, Sequence[Row]]"

    def document(self) -> dict[str, Any]:
        """Return its part of `merger eval --json`: a task's n, mean, ci95, rates, all in [0, 1]."""
        from evals.summary import summarize

        told = {name: asdict(summarize(rows)) for name, rows in self.scores.items()}
        mean = sum(t["mean"] for t in told.values()) / len(told)
        return {"model": self.model, "fingerprint": self.fingerprint, "tasks": told, "mean": mean}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every answer with its score as one flat object."""
        for task, rows in self.scores.items():
            head = {"model": self.model, "fingerprint": self.fingerprint, "task": task}
            yield from (head | asdict(row) for row in rows)

    def compared(self, other: "Evaluated") -> "list[Comparison]":
        """Return the paired comparison with another model on each task, this one minus that."""
        from evals.paired import compare_rows

        return [compare_rows(name, other.scores[name], rows) for name, rows in self.scores.items()]

    def against(self, other: "Evaluated") -> list[dict[str, Any]]:
        """Return the same as JSON values."""
        return [{"a": other.model, "b": self.model, **c.document()} for c in self.compared(other)]


def evaluate(
    models: "str | Sequence[str]",
    tasks: Annotated[
        str, "Tasks, lm_eval:NAME, paper-7 or items.jsonl, with commas."
    ] = "ded,ind,abd",
    *,
    split: Annotated[str, "train, search, select, confirm or test."] = "test",
    n: Annotated[Count, "Items a task (100 of ours; all of a file or of lm-eval's)."] = None,
    levels: Annotated[str | None, "As 1-3 or 1,2 (all; of a family, those it trained on)."] = None,
    samples: Annotated[int, Least(1), "Answers an item; above 1 set --temperature."] = 1,
    temperature: Annotated[float, Least(0), "0 is greedy."] = 0.0,
    top_p: Annotated[float, "Nucleus cut."] = 1.0,
    max_new_tokens: Annotated[Count, "Tokens of an answer (the model's, else the task's)."] = None,
    check: Annotated[str, "Of .jsonl items: exact, number, math or package:function."] = "exact",
    include_path: Annotated[str | None, "Folder of lm-eval task YAML."] = None,
    data: Annotated[Path | None, "Folder with the files of paper-7."] = None,
    objective_cmd: Annotated[str | None, "A command that scores: './eval.sh {model}'."] = None,
    store: Annotated[str, "Ledger: a path or a SQLAlchemy URL."] = "evals.sqlite",
    family: Annotated[str | None, "Family whose aliases are used (tiny)."] = None,
    engine: Annotated[str, "auto, fast, hf or paged (CUDA)."] = "auto",
    batch_tokens: Annotated[Number, "Keys and values in a batch (0: what fits 1 GiB)."] = 0,
    device: Annotated[str, "cpu, cuda, cuda:1 …"] = "cpu",
    dtype: Annotated[str, "auto (as stored), float32, bfloat16 …"] = "auto",
    threads: Annotated[Number, "Of torch (0: probe 1 against all)."] = 0,
    seed: Annotated[int, "Of the items and of sampling."] = 0,
    screen: "Screen" = QUIET,
) -> list[Evaluated]:
    """Score models on tasks and return each with its rows, in the order asked.

    `models` are folders, aliases or Hub ids; `screen` shows progress.

    Raises:
        MergerError: the first thing wrong, said before a ledger is made or a model loaded.
    """
    check_least(evaluate, locals())
    from evals.drafts import Drafts
    from evals.generate import Settings
    from evals.ledger import Ledger
    from evals.suite import parse_levels, parse_suite

    settings = Settings(max_new_tokens, samples, temperature, top_p, seed)
    names = [models] if isinstance(models, str) else [str(m) for m in models]
    loading = _Loading(device, dtype, engine, batch_tokens, threads)
    found = _found(names, family, loading, screen)
    trained = None if levels else trained_levels(names, family)
    wanted = parse_levels(levels) or trained
    told: dict[str, Any] = {"include_path": include_path, "data": data, "command": objective_cmd}
    entries = parse_suite(tasks, split=split, n=n, seed=seed, levels=wanted, check=check, **told)
    for entry in entries:
        entry.check()
    _say_which(tasks, trained or {}, entries, screen)
    # A new ledger is made when the first model was loaded: a mistake leaves no file behind.
    ledger = None if _may_be_made(store) else Ledger(store)
    made, drafts = list[Evaluated](), Drafts()
    for name, notes in found.items():
        asked = _asked(name, notes, None if objective_cmd else loading, drafts, screen)
        ledger = ledger or Ledger(store)
        made.append(_evaluated(name, asked, entries, ledger, settings, screen))
    return made


@dataclass(frozen=True)
class _Loading:
    """How models are loaded."""

    device: str
    dtype: str
    engine: Any
    batch_tokens: int
    threads: int

    def load(self, drafts: "Drafts", path: Path) -> "Answerer":
        """Load a model's folder."""
        import torch

        from evals.generate import Answerer, load_model
        from evals.threads import best_threads

        torch.set_num_threads(self.threads or best_threads())
        model, tokenizer = load_model(path, device=self.device, dtype=self.dtype)
        how: dict[str, Any] = {"engine": self.engine, "batch_tokens": self.batch_tokens}
        return Answerer(model, tokenizer, drafts=drafts, **how)


def _found(
    models: Sequence[str], family: str | None, loading: _Loading, screen: Screen
) -> "dict[str, Notes]":
    """Return where each model lies and what is noted of it; one that is not noted is opened once.

    Says how each was found.
    """
    from evals.resting import Notes
    from merger.device import check_device
    from merger.experts import resolve

    if not models:
        raise UsageError("no model is named", "Name a folder, an alias or a Hub id.")
    check_device(loading.device)
    if loading.engine == "paged" and not loading.device.startswith("cuda"):
        law = f"engine 'paged' needs CUDA, and the device is {loading.device}"
        raise UsageError(law, "Use auto.")
    found = {name: resolve(name, family=family) for name in models}
    for one in found.values():
        screen.say(one.choice)
    table = {name: Notes(one.path, astuple(loading)) for name, one in found.items()}
    for notes in table.values():
        if not notes.found:
            _open(notes.folder).close()
    return table


def _asked(
    name: str, notes: "Notes", loading: _Loading | None, drafts: "Drafts", screen: Screen
) -> "Subject":
    """Return what is evaluated of a folder: no live model where there is no `loading`."""
    from evals.suite import Subject

    if loading is None:
        return Subject(_fingerprint(notes.folder), None, notes.folder)
    mark, answerer = notes.wake(_fingerprint, partial(loading.load, drafts))
    if not answerer.voice.chat:
        screen.say(f"{name} has no chat template: it is asked with the bare texts of the prompt.")
    return Subject(mark, answerer, notes.folder)


def _open(path: Path) -> "Checkpoint":
    from merger.checkpoint import open_checkpoint

    return open_checkpoint(path)


def _fingerprint(path: Path) -> str:
    with closing(_open(path)) as checkpoint:
        return checkpoint.fingerprint()


def _say_which(
    tasks: str, trained: Mapping[str, Sequence[int]], entries: "Sequence[Entry]", screen: Screen
) -> None:
    from evals.paper import LEFT_OUT, SUITE

    if SUITE in tasks.split(","):
        screen.say(LEFT_OUT)
    names = {entry.name for entry in entries}
    if tell := [f"{t} {'-'.join(map(str, lv))}" for t, lv in trained.items() if t in names]:
        screen.say(f"levels they were trained on: {', '.join(tell)}; --levels asks for others")


def _evaluated(
    name: str,
    subject: "Subject",
    entries: "Sequence[Entry]",
    ledger: "Ledger",
    settings: "Settings",
    screen: Screen,
) -> Evaluated:
    from evals.suite import answer_all

    ledger.name(subject.fingerprint, name)
    with screen.progress(name, sum(e.answers(settings) for e in entries)) as bar:
        how: dict[str, Any] = {"ledger": ledger, "settings": settings, "progress": bar.step}
        scores = answer_all(entries, subject, **how)
    return Evaluated(name, subject.fingerprint, scores)


def _may_be_made(store: str) -> bool:
    file = Path(store)
    return "://" not in store and not file.exists() and file.parent.is_dir()


def trained_levels(models: Sequence[str], family: str | None) -> dict[str, tuple[int, ...]] | None:
    """Return the levels of the one bundled family that all models are of, by task; else None."""
    from evals.task import get_task
    from merger.experts import family_of

    first, *others = (family_of(model, family) for model in models)
    if first is None or not first.levels or any(one != first for one in others):
        return None
    return {get_task(t).name: tuple(levels) for t, levels in first.levels.items()}
