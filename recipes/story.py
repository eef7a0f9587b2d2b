"""The story of a run: what each stage gave, as report.json and, for people, report.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.job import Facts, Here
from recipes.rl.folder import CURVE, RECORD

# Steps at either end of a learning curve that are averaged to compare them.
ENDS = 10


def tell(model: Path) -> Facts:
    """Return the facts of a model that RL made: its task, its first and its last steps."""
    rows = [json.loads(line) for line in (model / CURVE).read_text().splitlines()]
    settings = json.loads((model / RECORD).read_text())
    facts = {"task": settings["task"], "algorithm": settings["algorithm"], "steps": len(rows)}
    return facts | {"first": _mean(rows[:ENDS]), "last": _mean(rows[-ENDS:])}


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    keys = ("reward", "correct", "format", "worked", "length")
    return {key: round(sum(row[key] for row in rows) / max(1, len(rows)), 4) for key in keys}


def write_story(here: Here) -> Facts:
    """Write report.json and report.md into the stage's folder from the stages before it."""
    here.out.mkdir(parents=True, exist_ok=True)
    document = {"schema": "merger.recipe-report/1", "stages": dict(here.facts)}
    (here.out / "report.json").write_text(json.dumps(document, indent=1) + "\n")
    text = "\n".join(_markdown(here.run.name, here.facts))
    (here.out / "report.md").write_text(text + "\n")
    here.say(f"written to {here.out / 'report.md'}")
    return {}


def _markdown(title: str, stages: Mapping[str, Facts]) -> Iterator[str]:
    yield f"# {title}"
    trained = {name: facts for name, facts in stages.items() if "first" in facts}
    if trained:
        yield from _trained(trained)
    for name, facts in stages.items():
        if "verdict" in facts:
            yield from ("", f"## {name}: search", "", f"**{facts['verdict']}**: {facts['words']}")
        if "models" in facts:
            yield from _scores(name, facts)


def _trained(stages: Mapping[str, Facts]) -> Iterator[str]:
    yield from ("", "## Reinforcement learning", "")
    yield f"Means over the first and the last {ENDS} steps of each run, on prompts not seen before."
    yield from (
        "",
        "| stage | task | steps | correct | worked | tokens |",
        "|---|---|---|---|---|---|",
    )
    for name, facts in stages.items():
        first, last = facts["first"], facts["last"]
        moves = [f"{first[k]:.2f} → {last[k]:.2f}" for k in ("correct", "worked")]
        length = f"{first['length']:.0f} → {last['length']:.0f}"
        yield f"| {name} | {facts['task']} | {facts['steps']} | {' | '.join(moves)} | {length} |"


def _scores(name: str, facts: Facts) -> Iterator[str]:
    """Draw the scores of an eval stage, then the paired differences with its first model."""
    tasks = list(facts["models"][0]["tasks"])
    yield from ("", f"## {name}: scores", "", f"| model | {' | '.join(tasks)} |")
    yield "|---" * (1 + len(tasks)) + "|"
    for row in facts["models"]:
        yield f"| {row['model']} | {' | '.join(_cell(row['tasks'][t]) for t in tasks)} |"
    if facts["pairs"]:
        yield from ("", f"Against {facts['pairs'][0]['a']}, on the same items:", "")
        yield "| model | task | n | difference | 95 % | p |\n|---|---|---|---|---|---|"
    for p in facts["pairs"]:
        low, high = p["ci95"]
        ends = f"[{100 * low:+.1f}, {100 * high:+.1f}]"
        head = f"| {p['b']} | {p['task']} | {p['n']} "
        yield f"{head}| {100 * p['difference']:+.1f} | {ends} | {p['p']:.3g} |"


def _cell(score: Mapping[str, Any]) -> str:
    low, high = score["ci95"]
    return f"{100 * score['mean']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
