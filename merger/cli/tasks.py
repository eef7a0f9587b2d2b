"""`merger tasks`: list, show, export and check items; the folder of tasks for plain lm-eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from merger.cli.app import app

tasks = typer.Typer(no_args_is_help=True, help="The tasks: what they ask, their items, checking.")
app.add_typer(tasks, name="tasks")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@tasks.command("list")
def list_tasks(as_json: AsJson = False) -> None:
    """List the tasks with their levels."""
    import evals.tasks  # noqa: F401  the folder fills the table
    from evals.task import TASKS
    from merger.cli.console import data, table

    facts: list[dict[str, Any]] = [
        {"task": t.name, "alias": t.alias, "version": t.version, "levels": list(t.levels)}
        for t in (TASKS[name] for name in TASKS)
    ]
    if as_json:
        data({"tasks": facts})
        return
    rows = [(f["task"], f["alias"], f["version"], _range(f["levels"])) for f in facts]
    table("", ("task", "alias", "version", "levels"), rows)


@tasks.command()
def show(
    task: Annotated[str, typer.Argument(help="A task's name or alias.")],
    level: Annotated[int | None, typer.Option(help="Level of the example (the first).")] = None,
    split: Annotated[str, typer.Option(help="Split of the example.")] = "train",
    seed: Annotated[int, typer.Option(help="Seed of the example.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show a task's prompt contract, an example, and how blind strategies score."""
    from evals.itemfile import item_document
    from evals.task import capacity, draw_item, get_task, items
    from merger.cli.console import data, out

    found = get_task(task)
    level = found.levels[0] if level is None else level
    item = draw_item(found, level=level, split=split, seed=seed, index=0)
    drawn = items(found, n=100, split=split, seed=seed, levels=(level,))
    blind = {
        name: sum(found.grade(guess(i), i).correct for i in drawn) / len(drawn)
        for name, guess in found.baselines.items()
    }
    room = capacity(found, level, seconds=2.0)
    if as_json:
        contract = {"system": found.system, "prefill": found.prefill, "contract": found.contract}
        facts = {"task": found.name, "version": found.version, "levels": list(found.levels)}
        data(
            facts
            | contract
            | {"item": item_document(item), "baselines": blind}
            | {"capacity": room._asdict()}
        )
        return
    out(f"{found.name} {found.version}, levels {_range(found.levels)}, contract {found.contract}")
    out(f"\nsystem\n{_indent(found.system)}")
    out(f"\nuser (level {level})\n{_indent(item.prompt)}")
    out(f"\nassistant begins with {found.prefill!r}; one right answer is\n{_indent(item.answer)}")
    chance = 100 * found.chance.get(level, 0.0)
    out(f"\nblind strategies, % right of 100 such items (chance: {chance:.0f})")
    for name, share in blind.items():
        out(f"    {name} {100 * share:.0f}")
    told = f"{room.distinct:,} in {room.drawn:,} draws"
    out(f"\nat least {room.at_least:,} distinct instances at this level ({told})")


@tasks.command()
def export(
    task: Annotated[str, typer.Argument(help="A task's name or alias.")],
    out: Annotated[Path, typer.Option(help="The file to write, one JSON object a line.")],
    level: Annotated[str | None, typer.Option(help="As 1, 1-3 or 1,2 (all, in turn).")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of items.")] = 100,
    split: Annotated[str, typer.Option(help="train, search, select, confirm, test.")] = "train",
    seed: Annotated[int, typer.Option(help="Seed of the items.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write items to a file: id, task, version, level, split, prompt, answer, certificate."""
    from evals.itemfile import item_document
    from evals.jsonl import write_table
    from evals.suite import parse_levels
    from evals.task import get_task, items
    from merger.cli.console import data, say

    found = get_task(task)
    drawn = items(found, n=n, split=split, seed=seed, levels=parse_levels(level))
    write_table(out, [item_document(item) for item in drawn])
    if as_json:
        data({"task": found.name, "n": len(drawn), "out": str(out)})
    else:
        say(f"{len(drawn)} items of {found.name} in {out}")


@tasks.command()
def check(
    items: Annotated[Path, typer.Argument(help="Items, as `export` writes them.")],
    answers: Annotated[Path, typer.Argument(help='Answers, {"id": …, "text": …} a line.')],
    reward: Annotated[str, typer.Option(help="paper, upstream or binary.")] = "paper",
    out: Annotated[Path | None, typer.Option(help="Write here (stdout).")] = None,
    as_json: AsJson = False,
) -> None:
    """Score answers: one object a line with id, format, parsed, correct, reward."""
    from evals.itemfile import check_answers
    from evals.jsonl import write_table
    from merger.cli.console import data, say
    from merger.cli.console import out as emit

    scored = check_answers(items, answers, reward=reward)
    if out is not None:
        write_table(out, scored)
    elif as_json:
        data({"answers": scored})
    else:
        for row in scored:
            emit(json.dumps(row))
    right = sum(row["correct"] for row in scored)
    say(f"{right} of {len(scored)} right ({100 * right / max(len(scored), 1):.1f} %)")


@tasks.command()
def audit(
    data_path: Annotated[Path, typer.Argument(metavar="DATA", help="A file or folder of data.")],
    as_json: AsJson = False,
) -> None:
    """Count what is wrong with a data set: ambiguity, labels, duplicates, leakage, shortcuts."""
    from evals.audit import audit as run
    from merger.cli.console import data, out, table

    reports = run(data_path)
    if as_json:
        data({"files": [vars(report) for report in reports]})
        return
    for report in reports:
        rows = [
            (finding, str(count), f"{100 * count / report.n:.1f}")
            for finding, count in report.found.items()
        ]
        middle, longest = report.characters
        told = f"questions of {middle} characters (median) to {longest}"
        out(f"{report.file}: {report.n} items of {report.kind}, {told}")
        table("", ("finding", ">items", ">%"), rows)


@tasks.command("lm-eval-path")
def lm_eval_path(
    out: Annotated[Path | None, typer.Option(help="Folder to fill (in the user's cache).")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Items a task.")] = 200,
    split: Annotated[str, typer.Option(help="Split of the items.")] = "test",
    seed: Annotated[int, typer.Option(help="Seed of the items.")] = 0,
    level: Annotated[str | None, typer.Option(help="As 1-3 or 1,2 (all).")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Budget (the task's).")] = None,
) -> None:
    """Write our tasks as lm-eval YAML and print the folder for `lm_eval --include_path`."""
    from evals.export import write_folder
    from evals.suite import parse_levels
    from merger.cli.console import out as emit

    levels = parse_levels(level)
    emit(str(write_folder(out, n=n, split=split, seed=seed, levels=levels, budget=max_new_tokens)))


def _range(levels: Any) -> str:
    return f"{min(levels)}-{max(levels)}" if len(levels) > 1 else str(*levels)


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
