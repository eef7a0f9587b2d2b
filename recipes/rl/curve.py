"""The learning curve: a row per step, kept as it is made, read back, told in a line, and drawn.

A row is written at each step, so a killed run has its curve up to the kill. The ends are averaged
over ten steps, since one batch says little. Columns are TRL's metrics under short names.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from merger.errors import RecipeError

CURVE = "curve.jsonl"
RECORD = "settings.json"
# Steps at either end of a curve that are averaged to compare them.
ENDS = 10
# Column of the curve -> name among the trainer's metrics.
METRICS = {
    "reward": "rewards/reward/mean",
    "correct": "rewards/correct/mean",
    "format": "rewards/format/mean",
    "worked": "rewards/worked/mean",
    "kl": "kl",
    "entropy": "entropy",
    "length": "completions/mean_length",
    "truncated": "completions/clipped_ratio",
    "grad_norm": "grad_norm",
}
_TOLD = ("reward", "correct", "format", "worked", "length")
Row = Mapping[str, Any]


def make_row(step: int, metrics: Row, **more: Any) -> dict[str, Any]:
    """Return a row: the step, what the caller adds, and the metrics that there are.

    `length` is in tokens, `entropy` in nats per token; `worked` is the share of answers that wrote
    anything before `</think>`.
    """
    values = {
        short: metrics[name] for short, name in METRICS.items() if metrics.get(name) is not None
    }
    return {"step": step, **more, **{key: round(float(v), 6) for key, v in values.items()}}


def line(row: Row, steps: int) -> str:
    """Say a step in one line."""
    return (
        f"step {row['step']}/{steps}  level {row['level']}  reward {row['reward']:+.2f}  "
        f"correct {row['correct']:.0%}  worked {row['worked']:.0%}  length {row['length']:.0f}  "
        f"{row['seconds']:.1f} s"
    )


def read_curve(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder's curve; a last line that a kill cut off is none.

    Raises a `RecipeError` for a line that is no step.
    """
    path = folder / CURVE
    text = path.read_text(errors="replace") if path.exists() else ""
    lines = enumerate(text[: text.rfind("\n") + 1].splitlines(), 1)
    return [_object(line, f"{path}:{number}", "step", *_TOLD) for number, line in lines]


def read_record(folder: Path) -> dict[str, Any]:
    """Return the settings of a run of RL; `RecipeError` where they are damaged."""
    return _object((folder / RECORD).read_text(errors="replace"), str(folder / RECORD))


def _object(text: str, where: str, *numbers: str) -> dict[str, Any]:
    """Return the JSON object that a text is, with numbers under these keys."""
    found = None
    with suppress(ValueError):
        found = json.loads(text)
    whole = isinstance(found, dict) and all(isinstance(found.get(n), int | float) for n in numbers)
    if not whole or not found:
        remedy = "Restore it, or remove the folder to train again."
        raise RecipeError(f"{where} is damaged: it is not what a training writes", remedy)
    return dict(found)


def tell(model: Path) -> dict[str, Any]:
    """Return the facts of a model that RL made: its task, its first and its last steps."""
    rows, settings = read_curve(model), read_record(model)
    facts = {key: settings[key] for key in ("task", "algorithm", "reward")}
    return facts | {"steps": len(rows), "first": mean(rows[:ENDS]), "last": mean(rows[-ENDS:])}


def mean(rows: Sequence[Row]) -> dict[str, float]:
    """Average the columns that tell how a run went."""
    return {key: round(sum(row[key] for row in rows) / max(1, len(rows)), 4) for key in _TOLD}


def thinned(rows: Sequence[Row], column: str, width: int) -> list[float]:
    """Return a column as at most `width` means over neighbouring steps."""
    per, values = -(-len(rows) // width), iter([row[column] for row in rows])
    parts = iter(lambda: list(islice(values, per)), [])
    return [sum(part) / len(part) for part in parts]


def draw(curves: Mapping[str, Sequence[Row]], path: Path) -> bool:
    """Draw runs by name as a picture of reward, right answers and length; False without matplotlib.

    Each step is a faint line, the mean of its neighbours a strong one.
    """
    if find_spec("matplotlib") is None or not any(curves.values()):
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    for axes, column in zip(figure.subplots(1, 3), ("reward", "correct", "length"), strict=True):
        for name, rows in curves.items():
            (drawn,) = axes.plot([r["step"] for r in rows], [r[column] for r in rows], alpha=0.25)
            smooth = thinned(rows, column, 20)
            places = [r["step"] for r in rows][:: -(-len(rows) // 20)]
            axes.plot(places, smooth, color=drawn.get_color(), label=name)
        axes.set(title=column, xlabel="step")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    return True
