"""The eval stage: models on tasks, item by item, paired with the first model named.

Rows go to the run's ledger, where the searches of the same run find them and which a killed stage
continues from. Two ceilings may be asked for: an oracle that takes the best of several models'
answers (one each), and, as its control, the best of as many samples of one model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.drafts import Drafts
from evals.generate import Answerer, Settings, load_model
from evals.ledger import Ledger, Row
from evals.paired import compare_scores
from evals.stats import mean_interval
from evals.suite import Entry, Subject, answer_all, parse_levels, parse_suite
from evals.summary import item_means, summarize
from recipes.job import Facts, Here
from recipes.rl.folder import fingerprint, write_whole

MEAN = "mean"
Scores = Mapping[str, Mapping[str, float]]  # task -> item -> score


@dataclass(frozen=True)
class Questions:
    """What is asked and how answers are drawn; `levels` as 1-2 or 1,3.

    `oracle` names models of which the best answer to each item counts; `best` adds, for each model,
    the best of its samples.
    """

    tasks: tuple[str, ...]
    split: str = "test"
    n: int | None = None
    levels: str | None = None
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    device: str = "cpu"
    check: str = "exact"
    oracle: tuple[str, ...] = ()
    best: bool = False
    seed: int = 0

    def entries(self) -> list[Entry]:
        """Return the tasks with their items; raises where one is not known."""
        levels, names = parse_levels(self.levels), ",".join(self.tasks)
        how: dict[str, Any] = {"split": self.split, "n": self.n, "seed": self.seed}
        return parse_suite(names, levels=levels, check=self.check, **how)


def score(models: Mapping[str, Path], asked: Questions, here: Here) -> Facts:
    """Score models by name, write scores.json into the stage's folder, and return what it says."""
    ledger, entries, drafts = Ledger(here.ledger), asked.entries(), Drafts()
    how = (asked.max_new_tokens, asked.samples, asked.temperature, asked.top_p, asked.seed)
    kept: dict[str, Any] = {"ledger": ledger, "settings": Settings(*how)}
    total = sum(entry.answers(kept["settings"]) for entry in entries)
    table: list[dict[str, Any]] = []
    found: dict[str, Scores] = {}
    firsts: list[Scores] = []
    for name, path in models.items():
        mark = fingerprint(path)
        ledger.name(mark, name)
        answerer = Answerer(*load_model(path, device=asked.device), drafts=drafts)
        subject = Subject(mark, answerer, path)
        with here.screen.progress(f"{here.name}: {name}", total) as bar:
            rows = answer_all(entries, subject, progress=bar.step, **kept)
        found[name] = {task: item_means(answers) for task, answers in rows.items()}
        tasks = {task: asdict(summarize(answers)) for task, answers in rows.items()}
        table.append({"model": name, "fingerprint": mark, "tasks": tasks})
        shown = (f"{task} {100 * told['mean']:.1f}" for task, told in tasks.items())
        here.say(f"{name}  {'  '.join(shown)}")
        samples = [_sample(rows, s) for s in range(asked.samples)]
        firsts += samples[:1] if name in asked.oracle else []
        if asked.best:
            found[f"{name}, best of {asked.samples}"] = _best(samples)
    if firsts:
        found[f"best of {', '.join(asked.oracle)}"] = _best(firsts)
    table += [_row(name, scores) for name, scores in found.items() if name not in models]
    document = {"models": table, "pairs": _pairs(found)}
    here.out.mkdir(parents=True, exist_ok=True)
    write_whole(here.out / "scores.json", json.dumps(document, indent=1) + "\n")
    return document


def _sample(rows: Mapping[str, Sequence[Row]], number: int) -> Scores:
    return {
        task: {row.item: row.correct for row in answers if row.sample == number}
        for task, answers in rows.items()
    }


def _best(found: Sequence[Scores]) -> Scores:
    """Return, for each item, the best of several scores."""
    return {
        task: {i: max(one[task][i] for one in found) for i in found[0][task]} for task in found[0]
    }


def _row(name: str, scores: Scores) -> dict[str, Any]:
    """Return a row of the table for scores that no one model has."""
    tasks = {}
    for task, by_item in scores.items():
        each = list(by_item.values())
        mean = sum(each) / len(each)
        tasks[task] = {"n": len(each), "mean": mean, "ci95": list(mean_interval(each))}
    return {"model": name, "fingerprint": None, "tasks": tasks}


def _pairs(found: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Compare every model with the first on the same items, by task and over the tasks' mean."""
    (first, reference), *others = found.items()
    return [
        {"a": first, "b": name, **compare_scores(task, whole[task], other[task]).document()}
        for name, scores in others
        for whole, other in [(_with_mean(reference), _with_mean(scores))]
        for task in whole
    ]


def _with_mean(scores: Scores) -> Scores:
    """Add all tasks as one, where they have as many items each, so that each counts the same."""
    if len(scores) < 2 or len({len(by_item) for by_item in scores.values()}) > 1:
        return scores
    return {**scores, MEAN: {i: s for by_item in scores.values() for i, s in by_item.items()}}
