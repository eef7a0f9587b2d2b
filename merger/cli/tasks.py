"""merger tasks: list, show, export and check items; the folder of tasks for plain lm-eval.

Items go out as JSON lines with certificate and prompt, answers made elsewhere come back to be
scored, and `lm-eval-path` writes our tasks as YAML that a plain lm-eval reads. `audit` looks at
data of others.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from merger.api.limits import Count, Least
from merger.cli.app import app
from merger.cli.options import Json, command

tasks = typer.Typer(no_args_is_help=True, help="The tasks: what they ask, their items, checking.")
app.add_typer(tasks, name="tasks")

Items = Annotated[int, Least(1), "Number of items."]


@command("list", group=tasks)
def list_tasks(*, as_json: Json = False) -> None:
    """List the tasks with their levels.

    Example: merger tasks list
    """
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
    rows = [(*list(f.values())[:3], _range(f["levels"])) for f in facts]
    table("", ("task", "alias", "version", "levels"), rows)


@command("show", group=tasks)
def show(
    task: str,
    *,
    level: int | None = None,
    split: str = "train",
    seed: int = 0,
    as_json: Json = False,
) -> None:
    """Show a task's prompt contract, an example, and how blind strategies score.

    Example: merger tasks show deduction --level 2

    Args:
        task: A task's name or alias.
        level: Level of the example (the first).
        split: Split of the example.
        seed: Seed of the example.
    """
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
    room = capacity(found, level, draws=60_000, seconds=2.0)
    if as_json:
        names = ("name", "version", "levels", "system", "prefill", "contract")
        told = {"task" if name == "name" else name: getattr(found, name) for name in names}
        told |= {"item": item_document(item), "baselines": blind, "capacity": room._asdict()}
        data(told)
        return
    out(f"{found.name} {found.version}, levels {_range(found.levels)}, contract {found.contract}")
    out(f"\nsystem\n{_indent(found.system)}")
    out(f"\nuser (level {level})\n{_indent(item.prompt)}")
    out(f"\nassistant begins with {found.prefill!r}; one right answer is\n{_indent(item.answer)}")
    if blind:  # a task of a library has none
        chance = 100 * found.chance.get(level, 0.0)
        out(f"\nblind strategies, % right of 100 such items (chance: {chance:.0f})")
    for name, share in blind.items():
        out(f"    {name} {100 * share:.0f}")
    draws = f"{room.distinct:,} in {room.drawn:,} draws"
    out(f"\nat least {room.at_least:,} distinct instances at this level ({draws})")


@command("export", group=tasks)
def export(
    task: str,
    *,
    out: Path,
    level: str | None = None,
    n: Items = 100,
    split: str = "train",
    seed: int = 0,
    as_json: Json = False,
) -> None:
    """Write items to a file: id, task, version, level, split, prompt, answer, certificate.

    Example: merger tasks export ded --level 1 --n 100 --split test --out items.jsonl

    Args:
        task: A task's name or alias.
        out: The file to write, one JSON object a line.
        level: As 1, 1-3 or 1,2 (all, in turn).
        split: train, search, select, confirm, test.
        seed: Seed of the items.
    """
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


@command("check", group=tasks)
def check(
    items: Path,
    answers: Path,
    *,
    reward: str = "paper",
    out: Path | None = None,
    as_json: Json = False,
) -> None:
    """Score answers: one object a line with id, format, parsed, correct, reward.

    Example: merger tasks check items.jsonl answers.jsonl

    Args:
        items: Items, as `export` writes them.
        answers: Answers, {"id": …, "text": …} a line.
        reward: paper, upstream or binary.
        out: Write here (stdout).
    """
    from evals.itemfile import check_answers
    from evals.jsonl import write_table
    from merger.cli import console

    scored = check_answers(items, answers, reward=reward)
    if out is not None:
        write_table(out, scored)
    elif as_json:
        console.data({"answers": scored})
    else:
        for row in scored:
            console.out(json.dumps(row))
    right = sum(row["correct"] for row in scored)
    console.say(f"{right} of {len(scored)} right ({100 * right / max(len(scored), 1):.1f} %)")


@command("audit", group=tasks)
def audit(
    data_path: Annotated[Path, typer.Argument(metavar="DATA")], *, as_json: Json = False
) -> None:
    """Count what is wrong with a data set: ambiguity, labels, duplicates, leakage, shortcuts.

    Example: merger tasks audit data/

    Args:
        data_path: A file or folder of data.
    """
    from evals.audit import audit as run
    from merger.cli.console import data, out, table

    reports = run(data_path)
    if as_json:
        data({"files": [vars(report) for report in reports]})
        return
    for report in reports:
        found = report.found.items()
        middle, longest = report.characters
        told = f"questions of {middle} characters (median) to {longest}"
        out(f"{report.file}: {report.n} items of {report.kind}, {told}")
        rows = [(finding, str(count), f"{100 * count / report.n:.1f}") for finding, count in found]
        table("", ("finding", ">items", ">%"), rows)


@command("lm-eval-path", group=tasks)
def lm_eval_path(
    *,
    out: Path | None = None,
    n: Items = 200,
    split: str = "test",
    seed: int = 0,
    level: str | None = None,
    max_new_tokens: Count = None,
) -> None:
    """Write our tasks as lm-eval YAML and print the folder for `lm_eval --include_path`.

    Example: merger tasks lm-eval-path --level 1-2 --out my-tasks

    Args:
        out: Folder to fill (in the user's cache).
        split: Split of the items.
        seed: Seed of the items.
        level: As 1-3 or 1,2 (all).
        max_new_tokens: Budget (the task's).
    """
    from evals.export import write_folder
    from evals.suite import parse_levels
    from merger.cli.console import out as emit

    levels = parse_levels(level)
    emit(str(write_folder(out, n=n, split=split, seed=seed, levels=levels, budget=max_new_tokens)))


def _range(levels: Sequence[int]) -> str:
    return f"{min(levels)}-{max(levels)}" if len(levels) > 1 else str(*levels)


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
