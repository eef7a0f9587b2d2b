"""Where a gain comes from: the sections that `merger ablate` adds to a report.

An ablation is a search over a designed list of merges, scored after the winner was frozen through
the same ledger, so what is known is free. A section is a generator: it yields the merges it needs,
by label, is sent their answers, and yields a record of tables and figures. Sections register
themselves; files named ablation_*.py hold them. Families of tests are corrected by Holm inside a
section.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Any, NamedTuple

from evals.generate import Settings
from merger.registry import unknown
from search.asked import Wanted
from search.candidate import BASE
from search.confirm import best_expert
from search.effects import EFFECT, Pairs, Rows, against, blind, effects, forest, gain
from search.likelihood import Likelihood
from search.objective import Objective, Scores, parse
from search.scorers import Scorer
from search.starts import average, references
from search.tables import ORDER, Section, grid, section
from search.template import one_turn
from search.trial import Trial
from search.variant import Merge, distinct
from search.world import Answers, World, scores

FILES = ("experts", "curves", "parts", "items")


class Need(NamedTuple):
    """A merge to be scored: on which pool, and in which world (`greedy` is that of the search)."""

    merge: Merge
    pool: str = "confirm"
    world: str = "greedy"


class Cost(NamedTuple):
    """What is still to be paid: merges made, answers generated, answers read for likelihoods."""

    merges: int
    answers: int
    readings: int


Needs = dict[Any, Need]
Found = Mapping[Any, Answers]


class Absent(Exception):  # noqa: N818  not a mistake of anybody
    """A section that this run cannot have; the text says why, and what would give it."""


class Effort(NamedTuple):
    """How much is scored: points of curves, scales of operators, samples, items a task at most."""

    curve: tuple[float, ...] = (0.5, 1.5, 2.0)
    between: tuple[float, ...] = (0.25, 0.5, 0.75)
    density: tuple[float, ...] = (1.0, 0.5, 0.2, 0.1, 0.05)
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    operators: tuple[str, ...] = ()  # empty: all that fit
    warm: int = 4  # samples of the robustness check
    seeds: int = 2
    items: int | None = None


FULL = Effort()
QUICK = Effort(
    curve=(0.5, 1.5),
    between=(0.5,),
    density=(1.0, 0.5, 0.1),
    scales=(1.0, 1.5),
    operators=("linear", "ties", "dare_linear", "ram", "sce", "karcher", "model_stock"),
    warm=2,
    seeds=1,
    items=40,
)


class Facts(NamedTuple):
    """What sections read besides scores: trials, models, logs of training, the run's history."""

    trials: Sequence[Trial] = ()
    geometry: Callable[[], Any] | None = None
    change: Callable[[Merge], Mapping[str, Any]] | None = None  # what a merge costs, a cast leaves
    tensors: Sequence[str] = ()
    logs: Mapping[str, Sequence[Sequence[float]]] = {}  # by start: curves, one a seed
    run: Mapping[str, Any] = {}


@dataclass
class Ablation:
    """The winner taken apart."""

    world: World
    winner: Merge
    experts: tuple[str, ...]
    goal: Objective
    wanted: Wanted = field(default_factory=Wanted)
    facts: Facts = field(default_factory=Facts)
    likelihoods: Likelihood | None = None
    _worlds: dict[str, World | Likelihood] = field(default_factory=dict, repr=False)
    _lacking: dict[Need, int] = field(default_factory=dict, repr=False)

    @property
    def effort(self) -> Effort:
        """How much is scored."""
        return QUICK if self.wanted.quick else FULL

    @property
    def margin(self) -> float:
        """The difference that nobody would mind, in [0, 1]."""
        return self.wanted.margin / 100

    @property
    def objective(self) -> Objective:
        """What effects are measured in; minima do not add up, so for them it is the mean."""
        additive = self.goal.kind in ("mean", "weighted")
        return self.goal if additive else parse("mean", self.goal.tasks)

    @cached_property
    def best(self) -> str:
        """The best single expert, as chosen on search items."""
        return best_expert(self.world, self.experts, self.objective)

    def contenders(self) -> dict[str, Merge]:
        """Return the winner, then what it is held against; each merge once."""
        table: dict[str, Merge] = {"winner": self.winner, "base": BASE}
        table |= {f"expert {name}": average([name]) for name in self.experts}
        table |= references(self.experts)
        return distinct(table)

    def alone(self, head: str = "", **where: str) -> Needs:
        """Return the need of every single expert, under its name."""
        return {f"{head}{name}": Need(average([name]), **where) for name in self.experts}

    def ask_drawn(self) -> None:
        """Refuse to sample, redraw or reword what others ask and grade."""
        if any(isinstance(task, Scorer) for task in self.world.tasks):
            raise Absent("Tasks of lm-eval and of a command are neither redrawn nor sampled.")

    def world_of(self, name: str) -> World | Likelihood:
        """Return a world by name: greedy, nll, oracle, warm-0, …, fresh (other items), template."""
        if name not in self._worlds:
            self._worlds[name] = self._world(name)
        return self._worlds[name]

    def _world(self, name: str) -> World | Likelihood:
        world, (kind, _, seed) = self.world, name.partition("-")
        match kind:
            case "nll" if self.likelihoods:
                return self.likelihoods
            case "fresh":
                seeds = {**world.pools.seeds, "confirm": self.wanted.seed + 1}
                return replace(world, pools=replace(world.pools, seeds=seeds, _drawn={}))
            case "template":
                return replace(world, tasks=[one_turn(task) for task in world.tasks])
            case "oracle" | "warm":
                tries = max(self.wanted.samples or 0, len(self.experts))
                tries = tries if kind == "oracle" else self.effort.warm
                budget, warmth = world.settings.max_new_tokens, self.wanted.temperature
                return replace(world, settings=Settings(budget, tries, warmth, 1.0, int(seed or 0)))
        return world

    def needs(self, names: Sequence[str]) -> Iterator[Need]:
        """Yield what sections read, each once, in the order of the sections."""
        every = (need for name in names for need in self._plan(name).values())
        yield from {(n.merge.key, n.pool, n.world): n for n in every}.values()

    def missing(self, need: Need) -> int:
        """Return how many answers a need still lacks; asked once until one is paid."""
        if need not in self._lacking:
            world = self.world_of(need.world)
            self._lacking[need] = world.missing(need.merge, need.pool, self._most(need))
        return self._lacking[need]

    def cost(self, names: Sequence[str]) -> Cost:
        """Return the most merges, answers and readings that are still to be made.

        Two merges that nobody has made yet may turn out to have the same weights.
        """
        lacking: dict[tuple[str, str, str], int] = {}
        for need in self.needs(names):
            if n := self.missing(need):
                # One model may have two names, and the oracle's samples serve the robustness check.
                world = need.world.replace("oracle", "warm-0")
                mark = self.world.holder.known.get(need.merge.key, need.merge.key)
                key = (mark, need.pool, world)
                lacking[key] = max(n, lacking.get(key, 0))
        read = sum(n for (_, _, world), n in lacking.items() if world == "nll")
        merges = len({mark for mark, _, _ in lacking})
        return Cost(merges, sum(lacking.values()) - read, read)

    def answers(self, need: Need) -> Answers:
        """Return the rows by task of a need; what is not in the ledger is paid for."""
        self._lacking.clear()  # others may need the same answers
        return self.world_of(need.world).answers(need.merge, need.pool, self._most(need))

    def _most(self, need: Need) -> int | None:
        return None if need.pool == "search" else self.effort.items

    def section(self, name: str) -> Section:
        """Compute a section; where it cannot be made, it says why."""
        title, make = parts()[name]
        steps = make(self)
        try:
            found = {label: self.answers(need) for label, need in next(steps).items()}
            return dict(steps.send(found), title=title)
        except Absent as reason:
            return section(str(reason), title=title, missing=True)

    def gain(self, gains: Scores, extra: float = 0.0) -> dict[str, Any]:
        """Return a gain by task and together, with interval and p; `extra` is a second error."""
        return gain(gains, self.objective, self.wanted.seed, extra)

    def effects(self, pairs: Pairs) -> Rows:
        """Return a row for each name: the first scores minus the second, with all statistics."""
        return effects(pairs, self.objective, margin=self.margin, seed=self.wanted.seed)

    def compared(self, name: str, title: str, pairs: Pairs, *notes: str) -> Section:
        """Return a section that is one family of differences: notes, table and figure."""
        rows = self.effects(pairs)
        told = (*notes, blind(rows, self.margin))
        return section(*told, tables=[grid(EFFECT, rows)], figures=[forest(name, title, rows)])

    def from_winner(self, name: str, title: str, found: Found, *notes: str) -> Section:
        """Return the section of how merges differ from the winner, which is among the found."""
        marks = {label: scores(rows) for label, rows in found.items()}
        whole = marks.pop("winner")
        return self.compared(name, title, against(marks, whole), *notes)

    def _plan(self, name: str) -> Needs:
        try:
            return dict(next(parts()[name].make(self)))
        except Absent:
            return {}


Steps = Generator[dict[Any, Any], Found, None]  # of a section: its needs, then its record


class Part(NamedTuple):
    """A section: its title, and what makes it."""

    title: str
    make: Callable[[Ablation], Steps]


_PARTS: dict[str, Part] = {}


def part(title: str) -> Callable[[Callable[[Ablation], Steps]], None]:
    """Register a function as the section of its name."""

    def register(make: Callable[[Ablation], Steps]) -> None:
        _PARTS[make.__name__.removesuffix("_")] = Part(title, make)

    return register


def parts() -> dict[str, Part]:
    """Return every section that can be made, by name."""
    for file in FILES:
        import_module(f"search.ablation_{file}")
    return _PARTS


def section_names(text: str | None) -> list[str]:
    """Read the names of sections, with commas; all of them for None."""
    known = sorted(parts(), key=ORDER.index)
    names = [n.strip() for n in text.split(",")] if text else known
    for name in names:
        if name not in known:
            raise unknown("section", name, known)
    return names


def affordable(ablation: Ablation, names: Sequence[str], most: int | None) -> list[str]:
    """Return the sections that `most` merges pay for, those that need fewest first."""
    kept: list[str] = []
    for name in sorted(names, key=lambda name: ablation.cost([name]).merges):
        if most is None or ablation.cost([*kept, name]).merges <= most:
            kept.append(name)
    return [n for n in names if n in kept]
