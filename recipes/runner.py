"""Run a recipe's stages in order, in one folder; what is finished is not done again.

A stage is finished when it ended and nothing that decides its result has changed since: its kind
and options with all defaults, the seed, and the content of the models it starts from. Otherwise it
runs, and continues what a killed run of the same stage left; what a stage of other settings left is
set aside, never removed. RUN holds recipe.yaml, state.json, ledger.sqlite and a folder per stage.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from merger.checkpoint.place import check_new
from merger.errors import RecipeError
from merger.experts import known_aliases, resolve
from merger.registry import unknown
from recipes import stages as _kinds  # noqa: F401  its functions fill the table of kinds
from recipes.job import Facts, Here, Job, make_job
from recipes.needs import Needs, Weights, weigh
from recipes.recipe import Recipe
from recipes.rl.folder import fingerprint, write_whole

if TYPE_CHECKING:
    from merger.screen import Screen

STATE = "state.json"


class Line(NamedTuple):
    """A stage in a plan: what it starts from, whether it is finished, the bytes it takes.

    `needs` has disk, scratch and memory in bytes, and is None where the model's size is unknown.
    """

    name: str
    kind: str
    models: tuple[str, ...]
    state: str
    needs: Needs | None


@dataclass
class Runner:
    """A recipe, checked whole, and the folder it runs in."""

    recipe: Recipe
    run: Path
    screen: Screen
    _done: dict[str, bool] = field(default_factory=dict)
    _prints: dict[Path, str] = field(default_factory=dict)

    @cached_property
    def jobs(self) -> dict[str, Job]:
        """Every stage as a checked job; raises for the first that cannot be run as written."""
        jobs: dict[str, Job] = {}
        for stage in self.recipe.stages:
            job = make_job(stage, self.recipe.seed)
            for other in (*job.models, *(job.stages or ())):
                self._check(stage.name, other, jobs, start=other in job.models)
            jobs[stage.name] = job
        return jobs

    def plan(self) -> list[Line]:
        """Return what a run would do and take, without doing, making or fetching anything."""
        lines = []
        for name, job in self.jobs.items():
            state = "finished" if self._finished(name) else "to do"
            if state == "to do" and any(p.exists() for p in self._places(name)):
                state = "to continue"
            weights = self._weights(name)
            needs = weights and job.needs.times(weights.parameters)
            read = (*job.models, *(job.stages or ()))
            lines.append(Line(name, self._kinds[name], read, state, needs))
        return lines

    def downloads(self) -> dict[str, int | None]:
        """Return the models that are not here, with the bytes to fetch where they are known."""
        named = self.recipe.experts
        return {
            f"{name} ({named[name]})" if name in named else name: found and found.download
            for name, found in self._weighed.items()
            if found is None or found.download
        }

    def missing(self) -> list[str]:
        """Return what is said of each local file that a stage reads and that is not there."""
        return [
            f"stage {name!r} reads {file}, and no such file is there"
            for name, job in self.jobs.items()
            for file in job.data
            if not Path(file).exists()
        ]

    def _weights(self, name: str) -> Weights | None:
        """Return what a model weighs: a stage's as much as the first it starts from."""
        if name not in self.jobs:
            return self._weighed[name]
        job = self.jobs[name]
        return self._weights(job.models[0]) if job.models else Weights(job.parameters)

    @cached_property
    def _weighed(self) -> dict[str, Weights | None]:
        """What the models weigh that no stage makes."""
        names = dict.fromkeys(m for job in self.jobs.values() for m in job.models)
        given = (name for name in names if name not in self.jobs)
        return {name: weigh(name, self.recipe.experts, self.recipe.family) for name in given}

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {stage.name: stage.kind for stage in self.recipe.stages}

    def go(self, only: str | None = None) -> dict[str, Facts]:
        """Run what is not finished and return every stage's facts; `only` runs one stage."""
        if only is not None and only not in self.jobs:
            raise unknown("stage", only, self.jobs)
        for law in self.missing():  # asks for the jobs: all checks come before the first stage
            raise RecipeError(law, "Put it there; the recipe's head may say where it comes from.")
        if not (self.run / "recipe.yaml").exists():
            check_new(self.run)
        self.run.mkdir(parents=True, exist_ok=True)
        write_whole(self.run / "recipe.yaml", self.recipe.to_yaml())
        for name in [only] if only else list(self.jobs):
            self._stage(name)
        return {name: mark["facts"] for name, mark in self._state.items() if "facts" in mark}

    @property
    def whole(self) -> bool:
        """Whether every stage is finished."""
        return all(map(self._finished, self.jobs))

    def ready(self, name: str) -> bool:
        """Say whether all that a stage reads is finished; raises where there is no such stage."""
        if name not in self.jobs:
            raise unknown("stage", name, self.jobs)
        return all(map(self._finished, self._needed(name)))

    def _stage(self, name: str) -> None:
        if self._finished(name):
            self.screen.say(f"{name}: finished before")
            return
        key, begin = self._key(name), time.monotonic()
        if self._state.get(name, {}).get("key") != key:
            self._set_aside(name)
            self._note(name, {"key": key})
        self.screen.say(f"{name}: {self._kinds[name]}")
        facts = self.jobs[name].run(self._here(name))
        seconds = round(time.monotonic() - begin, 1)
        self._note(name, {"key": key, "seconds": seconds, "facts": facts})
        self.screen.say(f"{name}: done in {seconds:.0f} s, {self.run / name}")

    def _here(self, name: str) -> Here:
        models = {model: self._path(model) for model in self.jobs[name].models}
        before = {n: mark["facts"] for n, mark in self._state.items() if "facts" in mark}
        return Here(name, self.run / name, self.run, models, self.screen, before)

    def _path(self, model: str) -> Path:
        """Return the folder of a model: what an earlier stage made, or one found by its name."""
        if model in self.jobs:
            folder = self.run / model / (self.jobs[model].model or ".")
            if not self._finished(model):
                law = f"stage {model!r} is not finished, and another starts from it"
                raise RecipeError(law, f"Run it first: --only {model}, or the whole recipe.")
            return folder
        return resolve(model, aliases=self.recipe.experts, family=self.recipe.family).path

    def _check(self, stage: str, other: str, before: Mapping[str, Job], *, start: bool) -> None:
        """Check that a stage may read another, or start from a model; fetch nothing."""
        aliases = known_aliases(self.recipe.experts, self.recipe.family)
        if other in before:
            if start and before[other].model is None:
                law = f"stage {stage!r}: {other!r} makes no model"
                raise RecipeError(law, "Name one that does.")
        elif other in self._kinds or not start:
            law = f"stage {stage!r} uses {other!r}, which does not come before it"
            raise RecipeError(law, "Put it before.")
        elif not (other in aliases or "/" in other or ":" in other or Path(other).is_dir()):
            error = unknown("model", other, {*before, *aliases})
            raise RecipeError(f"stage {stage!r}: {error.law}", error.remedy)

    def _finished(self, name: str) -> bool:
        """Say whether a stage and all it starts from are done; asked once until a mark changes."""
        if name not in self._done:
            mark = self._state.get(name, {})
            there = "facts" in mark and (self.run / name).exists()
            there = there and all(map(self._finished, self._needed(name)))
            self._done[name] = there and mark["key"] == self._key(name)
        return self._done[name]

    def _needed(self, name: str) -> list[str]:
        """Return the stages that a stage starts from or reads."""
        return [m for m in (*self.jobs[name].models, *self._read(name)) if m in self.jobs]

    def _key(self, name: str) -> str:
        """Hash what decides a stage's result."""
        job = self.jobs[name]
        inputs = {model: self._print(self._path(model)) for model in job.models}
        read = {stage: self._state.get(stage, {}).get("key") for stage in self._read(name)}
        known = {"kind": self._kinds[name], "record": job.record, "inputs": inputs, "read": read}
        text = json.dumps(known, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _print(self, folder: Path) -> str:
        """Return the hash of a model's content, read once: a 7B takes half a minute."""
        if folder not in self._prints:
            self._prints[folder] = fingerprint(folder)
        return self._prints[folder]

    def _read(self, name: str) -> tuple[str, ...]:
        """Return the stages that a stage reads; None in its job means all before it."""
        stages, order = self.jobs[name].stages, list(self.jobs)
        return tuple(order[: order.index(name)]) if stages is None else stages

    def _places(self, name: str) -> list[Path]:
        return [self.run / name, self.run / f"{name}.partial"]

    def _set_aside(self, name: str) -> None:
        """Move what a stage of other settings left out of the way."""
        for place in self._places(name):
            if place.exists():
                spare = (place.with_name(f"{place.name}.old{n}") for n in range(1, 1000))
                old = next(path for path in spare if not path.exists())
                place.rename(old)
                self.screen.say(f"{name}: its settings changed; the old one is {old}")

    @property
    def _state(self) -> dict[str, dict[str, Any]]:
        try:
            found = json.loads((self.run / STATE).read_text())
        except FileNotFoundError:
            return {}
        except ValueError:
            found = None
        marks = found.values() if isinstance(found, dict) else [found]
        if not all(isinstance(mark, dict) for mark in marks):
            law = f"{self.run / STATE} is damaged: it holds no marks of stages"
            raise RecipeError(law, "Remove it to run every stage again, or restore it.")
        return dict(found)

    def _note(self, name: str, mark: Mapping[str, Any]) -> None:
        """Write a stage's mark: whole, or not at all."""
        self._done.clear()
        self._prints.pop(self.run / name / (self.jobs[name].model or "."), None)
        marks = {**self._state, name: dict(mark)}
        write_whole(self.run / STATE, json.dumps(marks, indent=1) + "\n")
