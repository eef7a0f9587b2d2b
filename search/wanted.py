"""The options of an ablation, one table for the command's help, recipes and Python.

Nothing heavy is imported here: `merger ablate --help` is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated


@dataclass(frozen=True)
class Wanted:
    """What is asked of an ablation; the last ones only of a merge config, which no search made."""

    sections: Annotated[str | None, "Only these, with commas."] = None
    quick: Annotated[bool, "Fewer items, points, samples."] = False
    plan: Annotated[bool, "Print what it costs and stop."] = False
    max_evals: Annotated[int | None, "Most merges to score; what needs more is left out."] = None
    samples: Annotated[int | None, "Samples an item for the oracle (one per expert)."] = None
    temperature: Annotated[float, "Temperature of sampled answers."] = 0.7
    margin: Annotated[float, "Points within which merges are as good."] = 2.0
    log: Annotated[list[str] | None, "Curves of a start: NAME=curve.jsonl[,curve.jsonl]."] = None
    seed: Annotated[int, "Of intervals, orders and fresh items."] = 0
    device: Annotated[str | None, "cpu or cuda."] = None
    out: Annotated[Path | None, "Of a config: the run folder."] = None
    base: Annotated[str, "Of a config that names none: the base."] = "base"
    family: Annotated[str | None, "Of a config: whose aliases."] = None
    tasks: Annotated[str, "Of a config: what to score on."] = "ded,ind,abd"
    include_path: Annotated[str | None, "Of a config: folder of lm-eval task YAML."] = None
    levels: Annotated[str | None, "Of a config: levels of the items."] = None
    items: Annotated[int, "Of a config: items per task."] = 100

    def folder(self, place: Path) -> Path:
        """Return the run folder of what is taken apart: itself, or a config's own."""
        if place.suffix not in (".yaml", ".yml"):
            return place
        return self.out or Path("runs") / f"ablate-{place.stem}"
