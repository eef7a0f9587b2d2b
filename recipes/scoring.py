"""The eval stage: models on tasks, item by item, paired with the first model named.

Rows go to the run's ledger, where the searches of the same run find them and which a killed stage
continues from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.generate import Answerer, Settings, load_model
from evals.ledger import Ledger, Row
from evals.paired import compare_rows
from evals.runner import summarize
from evals.suite import Entry, Subject, parse_levels, parse_suite
from merger.checkpoint import open_checkpoint
from recipes.job import Facts, Here

Scores = dict[str, list[Row]]


@dataclass(frozen=True)
class Questions:
    """What is asked and how answers are drawn; `levels` as 1-2 or 1,3."""

    tasks: tuple[str, ...]
    split: str = "test"
    n: int | None = None
    levels: str | None = None
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    device: str = "cpu"
    seed: int = 0

    def entries(self) -> list[Entry]:
        """Return the tasks with their items; raises where one is not known."""
        levels = parse_levels(self.levels)
        names = ",".join(self.tasks)
        return parse_suite(names, split=self.split, n=self.n, seed=self.seed, levels=levels)

    def settings(self) -> Settings:
        """Return how answers are drawn."""
        kept = (self.max_new_tokens, self.samples, self.temperature, self.top_p, self.seed)
        return Settings(*kept)


def score(models: Mapping[str, Path], asked: Questions, here: Here) -> Facts:
    """Score models by name, write scores.json into the stage's folder, and return what it says."""
    ledger, entries = Ledger(here.ledger), asked.entries()
    found: dict[str, Scores] = {}
    marks: dict[str, str] = {}
    for name, path in models.items():
        subject = _subject(name, path, asked.device, ledger)
        marks[name] = subject.fingerprint
        total = sum(entry.size for entry in entries) * asked.samples
        with here.screen.progress(f"{here.name}: {name}", total) as bar:
            found[name] = {
                entry.name: entry.rows(
                    subject, ledger=ledger, settings=asked.settings(), progress=bar.step
                )
                for entry in entries
            }
        here.say(_line(name, found[name]))
    document = {"models": _table(found, marks), "pairs": _pairs(found)}
    here.out.mkdir(parents=True, exist_ok=True)
    (here.out / "scores.json").write_text(json.dumps(document, indent=1) + "\n")
    return document


def _subject(name: str, path: Path, device: str, ledger: Ledger) -> Subject:
    checkpoint = open_checkpoint(path)
    fingerprint = checkpoint.fingerprint()
    checkpoint.close()
    ledger.name(fingerprint, name)
    model, tokenizer = load_model(path, device=device)
    return Subject(fingerprint, Answerer(model, tokenizer), path)


def _line(name: str, scores: Scores) -> str:
    parts = [f"{task} {100 * summarize(rows).mean:.1f}" for task, rows in scores.items()]
    return f"{name}  {'  '.join(parts)}"


def _table(found: Mapping[str, Scores], marks: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "model": name,
            "fingerprint": marks[name],
            "tasks": {task: asdict(summarize(rows)) for task, rows in scores.items()},
        }
        for name, scores in found.items()
    ]


def _pairs(found: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Compare every model with the first on the same items."""
    (first, reference), *others = found.items()
    return [
        {"a": first, "b": name, **compare_rows(task, reference[task], rows).document()}
        for name, scores in others
        for task, rows in scores.items()
    ]
