"""The options of a search and of an ablation, two tables for help, recipes and Python.

Nothing heavy is imported here: `merger search --help` is made of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated


@dataclass(frozen=True)
class Common:
    """What is asked for and kept as it is; the texts say what each is, in help and in errors."""

    family: Annotated[str | None, "Family whose aliases are used (tiny)."] = None
    check: Annotated[str, "How files are graded: exact, number, math, package:function."] = "exact"
    include_path: Annotated[str | None, "Folder of lm-eval task YAML."] = None
    objective_cmd: Annotated[str | None, "Score by a command: './eval.sh {model} {items}'."] = None
    objective: Annotated[str, "mean, min, weighted:ded=2,ind=1 or pareto."] = "mean"
    floor: Annotated[float | None, "Points below the base that no task may fall."] = None
    sampler: Annotated[str, "auto, gp, tpe, cmaes, nsga, random."] = "auto"
    racing: Annotated[str, "When a losing trial is stopped: sign, strict or none."] = "sign"
    space: Annotated[str, "shares (of 1, with a scale) or box (literal weights)."] = "shares"
    allow_negative: Annotated[bool, "Let experts be subtracted (literal weights)."] = False
    warm: Annotated[str, "losses, gradient (descend the loss of right answers) or none."] = "losses"
    stage2: Annotated[int, "Trials that bend the best merge over depth and modules."] = 0
    prefer: Annotated[str, "simple: a simple recipe stays unless beaten; best: the winner."] = (
        "simple"
    )
    storage: Annotated[str | None, "Study: journal:///…, sqlite:///…, postgresql+psycopg://…."] = (
        None
    )
    store: Annotated[str | None, "Ledger: a path or a database URL."] = None
    dtype: Annotated[str | None, "Dtype of the merge (the base's)."] = None
    vocab: Annotated[str, "Tokenizers that differ: error, base (by token) or union."] = "error"
    device: Annotated[str, "cpu or cuda."] = "cpu"
    max_new_tokens: Annotated[int | None, "Token budget of an answer."] = None


@dataclass(frozen=True)
class Asked(Common):
    """The options of a new search as texts, before anything is checked."""

    experts: Annotated[str | None, "Models to merge, with commas."] = None
    base: Annotated[str, "The model they started from."] = "base"
    tasks: Annotated[str, "With commas: tasks, files of items (.jsonl), lm_eval:NAME."] = (
        "ded,ind,abd"
    )
    guard: Annotated[str, "Tasks that only the finalists are scored on."] = ""
    levels: Annotated[str | None, "Levels of the items: 1-2 or 1,3."] = None
    items: Annotated[str, "Per task: search + confirm, or search + select + confirm."] = "100+200"
    mde: Annotated[float | None, "Confirm items enough to see so many points."] = None
    operators: Annotated[str, "Other operators to race first: ties,della,…."] = ""
    trials: Annotated[int | None, "Trials in all (60)."] = None
    time: Annotated[str | None, "Time in all: 90s, 10m, 1h."] = None
    seed: Annotated[int | None, "Seed; none: fresh confirm items."] = None
    allow_benchmark: Annotated[bool, "Search on a public benchmark all the same."] = False


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
