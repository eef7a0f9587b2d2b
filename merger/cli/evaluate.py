"""`merger eval`: score models on tasks, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from merger.cli.app import app
from merger.cli.compare import labels, show_pairs, show_scores

Models = Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders, aliases, Hub ids.")]
Tasks = Annotated[
    str, typer.Option(help="Tasks, lm_eval:NAME, paper-7 or items.jsonl, with commas.")
]
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
Data = Annotated[Path | None, typer.Option(help="Folder with the files of paper-7.")]
Command = Annotated[
    str | None,
    typer.Option(help="Score by a command instead: './eval.sh {model}' prints JSONL rows."),
]
Export = Annotated[
    Path | None, typer.Option(help="Write every answer and score here: .csv, .parquet or .jsonl.")
]
Store = Annotated[str, typer.Option(help="Ledger: a path or a SQLAlchemy URL.")]
Family = Annotated[str | None, typer.Option(help="Family that aliases come from.")]
EngineName = Annotated[str, typer.Option(help="auto, fast, hf or paged (CUDA).")]
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
    data: Data = None,
    objective_cmd: Command = None,
    store: Store = "evals.sqlite",
    family: Family = None,
    engine: EngineName = "auto",
    batch_tokens: BatchTokens = 0,
    device: Device = "cpu",
    dtype: Dtype = "auto",
    threads: Threads = 0,
    seed: Seed = 0,
    export: Export = None,
    as_json: AsJson = False,
) -> None:
    """Score models on tasks. What the ledger holds is never paid for again."""
    asked = dict(locals())
    from evals.jsonl import check_table, write_table
    from merger.api.evaluate import evaluate as run
    from merger.cli.console import data as emit
    from merger.cli.console import say
    from merger.cli.screen import Screen

    del asked["as_json"], asked["export"]
    check_table(export)
    try:
        found = run(**asked, screen=Screen())
    except KeyboardInterrupt:
        say(f"paused: {store} keeps every answer so far; the same command continues")
        raise
    if export:
        write_table(export, [row for one in found for row in one.rows()])
    if as_json:
        pairs = [pair for one in found[1:] for pair in one.against(found[0])]
        emit({"models": [one.document() for one in found]} | ({"pairs": pairs} if pairs else {}))
    else:
        label = labels([one.model for one in found])
        first, *others = found
        show_scores({label[one.model]: one.scores for one in found})
        if others:
            show_pairs(label[first.model], {label[o.model]: o.compared(first) for o in others})
    say(_next([one.model for one in found], store))


def _next(models: Sequence[str], store: str) -> str:
    """Say what is kept where, and what to type next."""
    from evals.ledger import hidden

    store = hidden(store)
    if len(models) == 1:
        return f"ledger: {store}; another model on the same items: merger eval {models[0]} OTHER …"
    return f"ledger: {store}; next: merger compare {models[0]} {models[1]} --store {store} --flips"
