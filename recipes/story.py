"""The story of a run: what each stage gave, as report.json and, for people, report.md.

Of several runs of one recipe, which differ in their seed alone, the same: scores as means over
seeds, and each paired difference with its sign test over seeds, which takes a seed as one
observation and so speaks of new seeds, not of these models.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from evals.stats import mcnemar_exact
from recipes.job import Facts, Here
from recipes.rl.curve import ENDS, draw, read_curve

Lines = Iterator[str]
Stages = Mapping[str, Facts]


def write_story(here: Here) -> Facts:
    """Write report.json and report.md into the stage's folder from the stages before it."""
    trained = {n: read_curve(here.run / n) for n, facts in here.facts.items() if "first" in facts}
    here.out.mkdir(parents=True, exist_ok=True)
    drawn = draw(trained, here.out / "curves.png")
    document = {"schema": "merger.recipe-report/1", "stages": dict(here.facts)}
    text = [f"# {here.run.name}", *_trained(here.facts), *["", "![](curves.png)"][: 2 * drawn]]
    for name, facts in here.facts.items():
        if "verdict" in facts:
            text += ["", f"## {name}: search", "", f"**{facts['verdict']}**: {facts['words']}"]
        if "models" in facts:
            text += _scores(name, facts)
    here.say(f"written to {_write(here.out, document, text)}")
    return {}


def write_pooled(run: Path, seeds: Mapping[int, Stages], planned: Sequence[int]) -> Path:
    """Write report.json and report.md of runs by seed, of those planned; returns the latter."""
    first = next(iter(seeds.values()))
    pooled = {name: _pooled(name, seeds) for name, facts in first.items() if "models" in facts}
    left = [seed for seed in planned if seed not in seeds]
    many = f"{len(seeds)} of {len(planned)} seeds" if left else f"{len(seeds)} seeds"
    text = [f"# {run.name}, {many}: {', '.join(map(str, seeds))}"]
    if left:
        text += ["", f"Not finished: {', '.join(map(str, left))}. The tests below want them all."]
    for name, facts in pooled.items():
        text += _pooled_tables(name, facts, len(seeds))
    document = {
        "schema": "merger.recipe-seeds/1",
        "seeds": list(seeds),
        "left": left,
        "stages": pooled,
    }
    return _write(run, document, text)


def _write(folder: Path, document: Mapping[str, Any], text: Sequence[str]) -> Path:
    (folder / "report.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "report.md").write_text("\n".join(text) + "\n")
    return folder / "report.md"


def _grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in markdown under a line that says what it shows."""
    lines = [columns, ["---"] * len(columns), *rows]
    return ["", title, "", *(f"| {' | '.join(cells)} |" for cells in lines)] if rows else []


def _trained(stages: Stages) -> list[str]:
    rows = []
    for name, facts in stages.items():
        if "first" in facts:
            first, last = facts["first"], facts["last"]
            moves = [f"{first[k]:.2f} → {last[k]:.2f}" for k in ("correct", "worked")]
            length = f"{first['length']:.0f} → {last['length']:.0f}"
            rows.append([name, facts["task"], str(facts["steps"]), *moves, length])
    title = (
        f"Means over the first and the last {ENDS} steps of each run, on prompts not seen before."
    )
    columns = ["stage", "task", "steps", "correct", "worked", "tokens"]
    return ["", "## Reinforcement learning", *_grid(title, columns, rows)] if rows else []


def _scores(name: str, facts: Facts) -> Lines:
    """Draw the scores of an eval stage, then the paired differences with its first model."""
    tasks, against = list(facts["models"][0]["tasks"]), facts["models"][0]["model"]
    rows = [[m["model"], *(_cell(m["tasks"][t]) for t in tasks)] for m in facts["models"]]
    yield from _grid(f"## {name}: scores", ["model", *tasks], rows)
    rows = []
    for p in facts["pairs"]:
        low, high = (f"{100 * end:+.1f}" for end in p["ci95"])
        difference = [f"{100 * p['difference']:+.1f}", f"[{low}, {high}]", f"{p['p']:.3g}"]
        rows.append([p["b"], p["task"], str(p["n"]), *difference])
    columns = ["model", "task", "n", "difference", "95 %", "p"]
    yield from _grid(f"Against {against}, on the same items:", columns, rows)


def _cell(score: Mapping[str, Any]) -> str:
    low, high = score["ci95"]
    return f"{100 * score['mean']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _pooled(stage: str, seeds: Mapping[int, Stages]) -> Facts:
    """Return an eval stage's scores and differences by seed."""
    scores: dict[str, dict[str, list[float]]] = {}
    pairs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for seed, stages in seeds.items():
        for row in stages[stage]["models"]:
            for task, told in row["tasks"].items():
                scores.setdefault(row["model"], {}).setdefault(task, []).append(told["mean"])
        for pair in stages[stage]["pairs"]:
            kept = {"seed": seed, "difference": pair["difference"], "ci95": pair["ci95"]}
            pairs.setdefault(pair["b"], {}).setdefault(pair["task"], []).append(kept)
    against = next(iter(seeds.values()))[stage]["models"][0]["model"]
    tests = {b: {task: _test(each) for task, each in by.items()} for b, by in pairs.items()}
    return {"against": against, "scores": scores, "pairs": pairs, "tests": tests}


def _test(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean difference, on how many seeds it is above 0, and the two-sided sign test."""
    found = [pair["difference"] for pair in pairs]
    above, below = sum(d > 0 for d in found), sum(d < 0 for d in found)
    p = mcnemar_exact(above, below)
    return {"mean": mean(found), "above": above, "seeds": len(found), "p": p}


def _pooled_tables(stage: str, facts: Facts, seeds: int) -> Lines:
    tasks = list(next(iter(facts["scores"].values())))
    rows = [[m, *(_spread(by[t]) for t in tasks)] for m, by in facts["scores"].items()]
    yield from _grid(f"## {stage}: mean and standard deviation over seeds", ["model", *tasks], rows)
    rows = []
    for model, by_task in facts["tests"].items():
        for task, t in by_task.items():
            each = ", ".join(f"{100 * s['difference']:+.1f}" for s in facts["pairs"][model][task])
            cells = [f"{100 * t['mean']:+.1f}", each, f"{t['above']} of {seeds}", f"{t['p']:.3g}"]
            rows.append([model, task, *cells])
    columns = ["model", "task", "difference", "by seed", "above 0", "sign test p"]
    yield from _grid(f"Against {facts['against']}, on the same items:", columns, rows)


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"
