"""One recipe over several seeds: a run folder for each, and one report of them all.

RUN/seed-N is a run like any other, with the seed N. The series is as resumable as its runs: what is
finished is not done again, and several processes may take different seeds of one folder
(`--set seeds=[3]`); whoever then runs all of them only finds everything finished, and pools it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from recipes.job import Facts
from recipes.recipe import Recipe
from recipes.rl.folder import write_whole
from recipes.runner import Line, Runner
from recipes.story import write_pooled

if TYPE_CHECKING:
    from merger.screen import Screen


@dataclass
class Series:
    """A recipe with seeds, and the folder its runs stand in; used as a `Runner` is."""

    recipe: Recipe
    run: Path
    screen: Screen

    @cached_property
    def runners(self) -> dict[int, Runner]:
        """A runner for every seed."""
        return {
            seed: Runner(
                replace(self.recipe, seed=seed, seeds=()), self.run / f"seed-{seed}", self.screen
            )
            for seed in self.recipe.seeds
        }

    def plan(self) -> list[Line]:
        """Return the stages of all seeds, one line each, with how many seeds have finished it."""
        lines = []
        for same in zip(*(runner.plan() for runner in self.runners.values()), strict=True):
            done, first = sum(line.state == "finished" for line in same), same[0]
            needs = first.needs and first.needs._replace(disk=first.needs.disk * len(same))
            state = "finished" if done == len(same) else f"{done} of {len(same)}"
            lines.append(first._replace(state=state, needs=needs))
        return lines

    def downloads(self) -> dict[str, int | None]:
        """Return what the first run has to fetch: the seeds differ in nothing else."""
        return self.runners[self.recipe.seeds[0]].downloads()

    def missing(self) -> list[str]:
        """Return what is said of each local file that is not there."""
        return self.runners[self.recipe.seeds[0]].missing()

    def go(self, only: str | None = None) -> dict[str, Facts]:
        """Run what is not finished, seed by seed, and pool the seeds that are whole.

        `only` runs one stage, in the seeds where all that it reads is finished; `report` collects
        what there is so. Returns the facts by seed.
        """
        self.run.mkdir(parents=True, exist_ok=True)
        write_whole(self.run / "recipe.yaml", self.recipe.to_yaml())
        found = {}
        for seed, runner in self.runners.items():
            if only is None or runner.ready(only):
                self.screen.say(f"seed {seed}")
                found[seed] = runner.go(only)
            else:
                self.screen.say(f"seed {seed}: {only} reads stages that are not finished")
        whole = {s: f for s, f in found.items() if self.runners[s].whole}
        if whole:
            self.screen.say(f"pooled in {write_pooled(self.run, whole, self.recipe.seeds)}")
        return {f"seed-{seed}": facts for seed, facts in found.items()}
