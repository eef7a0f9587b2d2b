"""`merger eval`: score models on tasks, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from merger.cli.app import app

if TYPE_CHECKING:
    from evals.ledger import Ledger, Row
    from evals.suite import Entry, Subject
    from merger.cli.console import Progress

Scores = dict[str, list["Row"]]


Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders, aliases, Hub ids.")]
Tasks = Annotated[str, typer.Option(help="Tasks, lm_eval:NAME or items.jsonl, comma-separated.")]
Split = Annotated[str, typer.Option(help="train, search, select, confirm or test.")]
Number = Annotated[
    int | None,
    typer.Option("--n", min=1, help="Items a task (100 of ours; all of a file or of lm-eval's)."),
]
Levels = Annotated[
    str | None, typer.Option(help="As 1-3 or 1,2 (all; of a bundled family, those it trained on).")
]
Samples = Annotated[int, typer.Option(min=1, help="Answers an item; above 1 set --temperature.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
TopP = Annotated[float, typer.Option(help="Nucleus cut.")]
Budget = Annotated[
    int | None, typer.Option(min=1, help="Tokens of an answer (the model's, else the task's).")
]
Check = Annotated[
    str, typer.Option(help="For .jsonl items: exact, number, math or package:function.")
]
IncludePath = Annotated[str | None, typer.Option(help="Folder of lm-eval task YAML.")]
Store = Annotated[str, typer.Option(help="Ledger: a path or a SQLAlchemy URL.")]
Family = Annotated[str | None, typer.Option(help="Family that aliases come from.")]
EngineName = Annotated[str, typer.Option(help="auto, fast or hf.")]
BatchTokens = Annotated[
    int, typer.Option(min=0, help="Places of keys and values in a batch (0: what fits 1 GiB).")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …")]
Dtype = Annotated[str, typer.Option(help="auto (as stored), float32, bfloat16 …")]
Threads = Annotated[int, typer.Option(min=0, help="Of torch (0: probe 1 against all).")]
Seed = Annotated[int, typer.Option(help="Of the items and of sampling.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command("eval")
def evaluate(
    models: Models,
    tasks: Tasks = "ded,ind,abd",
    split: Split = "test",
    n: Number = None,
    levels: Levels = None,
    samples: Samples = 1,
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    max_new_tokens: Budget = None,
    check: Check = "exact",
    include_path: IncludePath = None,
    store: Store = "evals.sqlite",
    family: Family = None,
    engine: EngineName = "auto",
    batch_tokens: BatchTokens = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    threads: Threads = 0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Score models on tasks. What the ledger holds is never paid for again."""
    from evals.generate import Settings
    from evals.ledger import Ledger
    from evals.suite import parse_levels, parse_suite
    from merger.cli.console import data, progress, say

    settings = Settings(max_new_tokens, samples, temperature, top_p, seed)
    ledger = Ledger(store)
    wanted = parse_levels(levels) or _trained_levels(models, family)
    entries = parse_suite(
        tasks, split=split, n=n, seed=seed, levels=wanted, check=check, include_path=include_path
    )
    _set_threads(threads)
    found: dict[str, tuple[str, Scores]] = {}
    total = sum(e.size for e in entries) * samples
    try:
        for model in models:
            subject = _subject(model, ledger, family, (device, dtype, engine, batch_tokens))
            with progress(model, total) as bar:
                found[model] = subject.fingerprint, _score(entries, subject, ledger, settings, bar)
    except KeyboardInterrupt:
        say(f"paused: {store} keeps every answer so far; the same command continues")
        raise
    say(f"ledger: {store}")
    if as_json:
        data({"models": [_document(m, *f) for m, f in found.items()], **_paired(found)})
    else:
        _show(found)


def _trained_levels(models: list[str], family: str | None) -> dict[str, tuple[int, ...]] | None:
    """Return the levels of the one bundled family that all models are of, by task; else None."""
    from pathlib import Path

    from evals.task import get_task
    from merger.cli.console import say
    from merger.experts import DEFAULT_FAMILY, families, local_aliases

    known, used = families(), set()
    for model in models:
        name, _, member = model.rpartition(":")
        name = name or family or DEFAULT_FAMILY
        foreign = Path(model).exists() or model in local_aliases() or name not in known
        used.add(None if foreign or member not in known[name].members else name)
    if len(used) != 1 or (only := used.pop()) is None:
        return None
    trained = {get_task(t).name: tuple(levels) for t, levels in known[only].levels.items()}
    told = ", ".join(f"{t} {'-'.join(map(str, levels))}" for t, levels in trained.items())
    say(f"levels that {only} was trained on: {told}; --levels asks for others")
    return trained


def _set_threads(threads: int) -> None:
    import torch

    from evals.threads import best_threads

    torch.set_num_threads(threads or best_threads())


def _subject(
    name: str, ledger: Ledger, family: str | None, how: tuple[str, str, Any, int]
) -> Subject:
    """Find, fingerprint and load a model, and say what was chosen."""
    from evals.generate import Answerer, load_model
    from evals.suite import Subject
    from merger.checkpoint import open_checkpoint
    from merger.cli.console import say
    from merger.experts import resolve

    device, dtype, engine, batch_tokens = how
    found = resolve(name, family=family)
    say(found.choice)
    checkpoint = open_checkpoint(found.path)
    fingerprint = checkpoint.fingerprint()
    checkpoint.close()
    ledger.name(fingerprint, name)
    model, tokenizer = load_model(found.path, device=device, dtype=dtype)
    answerer = Answerer(model, tokenizer, engine=engine, batch_tokens=batch_tokens)
    if tokenizer.chat_template is None:
        say(f"{name} has no chat template: it is asked with the bare texts of the prompt.")
    return Subject(fingerprint, answerer, found.path)


def _score(
    entries: Sequence[Entry], subject: Subject, ledger: Ledger, settings: Any, bar: Progress
) -> Scores:
    """Return the rows of every entry."""

    def step(n: int, note: str) -> None:
        bar.total = max(bar.total, bar.done + n)  # how many documents lm-eval has, it tells late
        bar.step(n, note)

    return {
        e.name: e.rows(subject, ledger=ledger, settings=settings, progress=step) for e in entries
    }


def _document(model: str, fingerprint: str, scores: Scores) -> dict[str, Any]:
    """Build a model's part of the JSON document."""
    from evals.runner import summarize

    tasks: dict[str, dict[str, Any]] = {}
    for name, rows in scores.items():
        summary = summarize(rows)
        tasks[name] = {
            "n": summary.n,
            "mean": summary.mean,
            "ci95": list(summary.ci95),
            "truncated": summary.truncated,
            "no_answer": summary.no_answer,
            "format": summary.format,
            "tokens": summary.tokens,
        }
    mean = sum(t["mean"] for t in tasks.values()) / len(tasks)
    return {"model": model, "fingerprint": fingerprint, "tasks": tasks, "mean": mean}


def _paired(found: dict[str, tuple[str, Scores]]) -> dict[str, Any]:
    """Compare every model with the first, item by item; nothing for one model."""
    from evals.paired import compare_rows

    (first, (_, reference)), *others = found.items()
    pairs = [
        {"a": first, "b": model, **compare_rows(name, reference[name], rows).document()}
        for model, (_, scores) in others
        for name, rows in scores.items()
    ]
    return {"pairs": pairs} if pairs else {}


def _show(found: dict[str, tuple[str, Scores]]) -> None:
    """Print the tables."""
    from evals.paired import COLUMNS, compare_rows
    from evals.runner import summarize
    from merger.cli.console import table

    rows = []
    label = _labels(list(found))
    for model, (_, scores) in found.items():
        for name, answers in scores.items():
            s = summarize(answers)
            interval = f"[{100 * s.ci95.low:.1f}, {100 * s.ci95.high:.1f}]"
            cells = (label[model], name, str(s.n), f"{100 * s.mean:.1f}", interval)
            rows.append((*cells, f"{100 * s.truncated:.1f}", f"{100 * s.no_answer:.1f}"))
        if len(scores) > 1:
            mean = sum(summarize(a).mean for a in scores.values()) / len(scores)
            rows.append((label[model], "mean", "", f"{100 * mean:.1f}", "", "", ""))
    columns = ("model", "task", ">n", ">%", "95 %", ">truncated", ">no answer")
    table("", columns, rows)
    (first, (_, reference)), *others = found.items()
    lines = [
        (label[model], *compare_rows(name, reference[name], answers).cells())
        for model, (_, scores) in others
        for name, answers in scores.items()
    ]
    if lines:
        table(f"against {label[first]}, on the same items", ("model", *COLUMNS), lines)


def _labels(models: list[str]) -> dict[str, str]:
    """Shorten paths to their last part where that names one model only."""
    from pathlib import Path

    short = {m: Path(m).name or m for m in models}
    return {m: s if list(short.values()).count(s) == 1 else m for m, s in short.items()}
