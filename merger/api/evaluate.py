"""Evaluate by one call: models on tasks, every answer kept in a ledger and paid for once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from evals import generate
from evals.ledger import Ledger, Row
from evals.paired import Comparison, compare_rows
from evals.paper import LEFT_OUT, SUITE
from evals.runner import summarize
from evals.suite import Subject, parse_levels, parse_suite
from evals.task import get_task
from evals.threads import best_threads
from merger import experts
from merger.api.quiet import QUIET
from merger.checkpoint import open_checkpoint
from merger.device import check_device

if TYPE_CHECKING:
    from search.screen import Screen

Scores = Mapping[str, Sequence[Row]]


class Evaluated(NamedTuple):
    """One model: the name asked for, the fingerprint of its weights, task -> rows."""

    model: str
    fingerprint: str
    scores: Scores

    def document(self) -> dict[str, Any]:
        """Return its part of `merger eval --json`: a task's n, mean, ci95, rates, all in [0, 1]."""
        told = {name: asdict(summarize(rows)) for name, rows in self.scores.items()}
        mean = sum(t["mean"] for t in told.values()) / len(told)
        return {"model": self.model, "fingerprint": self.fingerprint, "tasks": told, "mean": mean}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield every answer with its score as one flat object."""
        for task, rows in self.scores.items():
            for row in rows:
                yield {"model": self.model, "fingerprint": self.fingerprint, "task": task} | asdict(
                    row
                )

    def compared(self, other: Evaluated) -> list[Comparison]:
        """Return the paired comparison with another model on each task, this one minus that."""
        return [compare_rows(name, other.scores[name], rows) for name, rows in self.scores.items()]

    def against(self, other: Evaluated) -> list[dict[str, Any]]:
        """Return the same as JSON values."""
        return [{"a": other.model, "b": self.model, **c.document()} for c in self.compared(other)]


def evaluate(
    models: str | Sequence[str],
    tasks: str = "ded,ind,abd",
    *,
    split: str = "test",
    n: int | None = None,
    levels: str | None = None,
    samples: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int | None = None,
    check: str = "exact",
    include_path: str | None = None,
    data: Path | None = None,
    objective_cmd: str | None = None,
    store: str = "evals.sqlite",
    family: str | None = None,
    engine: str = "auto",
    batch_tokens: int = 0,
    device: str = "cpu",
    dtype: str = "auto",
    threads: int = 0,
    seed: int = 0,
    screen: Screen = QUIET,
) -> list[Evaluated]:
    """Score models on tasks and return each with its rows, in the order asked.

    The options are those of `merger eval`. `models` are folders, aliases or Hub ids; `tasks` names,
    `lm_eval:NAME`, `paper-7` or files of items, with commas; `data` is a folder with a suite's
    files; `objective_cmd` scores the folder instead; `levels` as 1-3 or 1,2; `store` a path or a
    SQLAlchemy URL; `temperature` 0 is greedy; `threads` 0 probes. `screen` shows progress.

    Raises:
        MergerError: the first thing wrong, said before a ledger is made or a model loaded.
    """
    models = [models] if isinstance(models, str) else [str(m) for m in models]
    settings = generate.Settings(max_new_tokens, samples, temperature, top_p, seed)
    check_device(device)
    found = {name: experts.resolve(name, family=family) for name in models}
    for one in found.values():
        screen.say(one.choice)
        open_checkpoint(one.path).close()
    wanted = parse_levels(levels) or trained_levels(models, family, screen)
    told: dict[str, Any] = {"include_path": include_path, "data": data, "command": objective_cmd}
    entries = parse_suite(tasks, split=split, n=n, seed=seed, levels=wanted, check=check, **told)
    if SUITE in tasks.split(","):
        screen.say(LEFT_OUT)
    ledger = Ledger(store)
    torch.set_num_threads(threads or best_threads())
    how = (device, dtype, engine, batch_tokens)
    made = []
    for name, one in found.items():
        subject = _subject(name, one.path, ledger, None if objective_cmd else how, screen)
        with screen.progress(name, sum(e.size for e in entries) * samples) as bar:
            how_asked: dict[str, Any] = {"ledger": ledger, "settings": settings}
            scores = {e.name: e.rows(subject, progress=bar.step, **how_asked) for e in entries}
        made.append(Evaluated(name, subject.fingerprint, scores))
    return made


def trained_levels(
    models: Sequence[str], family: str | None, screen: Screen = QUIET
) -> dict[str, tuple[int, ...]] | None:
    """Return the levels of the one bundled family that all models are of, by task; else None."""
    known, used = experts.families(), set()
    for model in models:
        name, _, member = model.rpartition(":")
        name = name or family or experts.DEFAULT_FAMILY
        foreign = Path(model).exists() or model in experts.local_aliases() or name not in known
        used.add(None if foreign or member not in known[name].members else name)
    if len(used) != 1 or (only := used.pop()) is None:
        return None
    trained = {get_task(t).name: tuple(levels) for t, levels in known[only].levels.items()}
    told = ", ".join(f"{t} {'-'.join(map(str, levels))}" for t, levels in trained.items())
    screen.say(f"levels that {only} was trained on: {told}; --levels asks for others")
    return trained


def _subject(
    name: str, path: Path, ledger: Ledger, how: tuple[str, str, Any, int] | None, screen: Screen
) -> Subject:
    """Fingerprint a model, and load it where `how` is told."""
    with closing(open_checkpoint(path)) as checkpoint:
        fingerprint = checkpoint.fingerprint()
    ledger.name(fingerprint, name)
    if how is None:
        return Subject(fingerprint, None, path)
    device, dtype, engine, batch_tokens = how
    model, tokenizer = generate.load_model(path, device=device, dtype=dtype)
    answerer = generate.Answerer(model, tokenizer, engine=engine, batch_tokens=batch_tokens)
    if tokenizer.chat_template is None:
        screen.say(f"{name} has no chat template: it is asked with the bare texts of the prompt.")
    return Subject(fingerprint, answerer, path)
