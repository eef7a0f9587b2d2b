"""The order of a search: prepare, search, select, freeze, confirm, verdict.

Each phase leaves its result in the run folder or the ledger and is passed over when it is there,
so a resumed run continues in the phase where it was killed. What the phases do stands in prepare,
contest and confirm. Whoever runs this gives a `Screen`, so that nothing here knows of terminals.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import count
from typing import Any

from merger.errors import SearchError
from merger.screen import Screen, Told
from search.candidate import OWN, Candidate
from search.confirm import STAGE_1, best_expert, conclude, freeze, select, shortlist
from search.contest import Contest
from search.live import Models, find_models
from search.objective import Objective
from search.posterior import fit
from search.prepare import announce, cost, prepare
from search.run import TRIALS, Options, Run
from search.samplers import derive_seed
from search.space import Box, Depth, Operators, Space
from search.starts import Start, fill, references, warm_starts
from search.study import NAME, Study
from search.trial import Trial, best_of, busy
from search.world import World

STAGE_2 = "stage2"  # the name of its study
OUTLOOK = 5  # full trials between two looks at what the best one is worth


@dataclass
class Search:
    """A search with everything open: its folder, world, studies and objective.

    `open_study` opens one by its space, name and trials. `helpers` is entered while trials are
    taken, after the warm starts are queued: other processes that join live inside it.
    """

    run: Run
    world: World
    open_study: Callable[..., Study]
    objective: Objective
    screen: Screen
    helpers: Callable[[], AbstractContextManager[object]] = nullcontext
    guards: World | None = None
    _outlook: tuple[int, dict[str, float]] = field(default=(0, {}), repr=False)
    _shown: set[tuple[str, int]] = field(default_factory=set, repr=False)  # trials

    @cached_property
    def options(self) -> Options:
        """The options in the manifest."""
        return self.run.options

    @cached_property
    def studies(self) -> dict[str, Study]:
        """The main study, those of other operators, and that of stage 2 where it has begun."""
        o = self.options
        literal = o.allow_negative or o.space == "box"
        space = Box(o.experts, negative=o.allow_negative) if literal else Space(o.experts)
        spaces = {NAME: space} | {n: Operators(o.experts, method=n) for n in o.operators}
        found = {n: self.open_study(s, name=n, trials=o.trials) for n, s in spaces.items()}
        begun = self.run.read("stage1.json")
        return found | ({STAGE_2: self._second(begun)} if begun else {})

    @cached_property
    def models(self) -> Models:
        """The models, as configs call them."""
        return find_models(self.options)

    @property
    def study(self) -> Study:
        """The main study."""
        return self.studies[NAME]

    @property
    def reference(self) -> Candidate:
        """The fixed reference that every candidate is raced against."""
        return next(iter(references(self.options.experts).values()))

    def trials(self) -> list[Trial]:
        """Return the trials of all studies, the main one's first."""
        return [trial for study in self.studies.values() for trial in study.trials()]

    def best(self) -> Trial | None:
        """Return the best trial that saw every item, the earlier one of equals."""
        return best_of(self.trials(), self.objective)

    def go(self) -> dict[str, Any]:
        """Run what is left of the search and return the confirm document."""
        if self.run.read("frozen.json") is None:
            prepared = self.run.manifest.get("prepared") or self._prepare()
            self._search(prepared)
            self._select()
        self.world.pools.sealed.discard("confirm")
        return self.run.read("confirm.json") or conclude(self)

    def work(self) -> None:
        """Take trials of the studies that are open, as one worker of several."""
        if "prepared" not in self.run.manifest:
            law = f"{self.run.path} is not prepared: its first scores are being made"
            raise SearchError(law, "Join once it has said what it costs.")
        self.study.budget = self._left()
        self._shown |= self._ended().keys()
        for name, study in self.studies.items():
            if name not in self.options.operators:
                origin = study.space.origin if isinstance(study.space, Depth) else None
                with self._box(study) as told:
                    self._run(study, told, origin)

    def _run(self, study: Study, told: Told, origin: Candidate | None = None) -> None:
        """Take trials of the main study, or of that around a winner of the first stage."""
        more = (lambda: True) if origin else self._in_time
        with self.helpers():
            study.run(self.contest(told, origin), more=more, told=partial(self._show, told))
        self._show(told)

    def _box(self, study: Study, about: str = "") -> AbstractContextManager[Told]:
        """Show the trials of a study; with the main one those of operators."""
        if study.name == STAGE_2:
            return self.screen.trials(study.finished(), study.budget, about or "stage 2")
        done = sum(s.finished() for n, s in self.studies.items() if n != STAGE_2)
        return self.screen.trials(done, self.options.most, about, self._seconds_left())

    def contest(self, told: Told, reference: Candidate | None = None) -> Contest:
        """Return what scores a proposal."""
        o, base = self.options, self.run.manifest.get("prepared", {}).get("base", {})
        floors = {} if o.floor is None else {t: m - abs(o.floor) / 100 for t, m in base.items()}
        fixed, watch = reference or self.reference, lambda trial: told(trial, None)
        return Contest(self.world, self.trials, self.objective, fixed, o.racing, floors, watch)

    def _prepare(self) -> dict[str, Any]:
        facts = prepare(self.world, self.options, self.reference, self.screen)
        self.run.note(prepared=facts)
        announce(facts, self.options, self.objective, self.screen)
        return facts

    def _search(self, prepared: dict[str, Any]) -> None:
        """Race other operators if asked for; then the warm starts and what the sampler proposes."""
        o, study = self.options, self.study
        if again := sum(s.recover() for s in self.studies.values()):
            self.screen.say(f"{again} interrupted trial(s) queued again.")
        starts = warm_starts(o.experts, self.run.manifest.get("norms"))
        starts += [Start(n, Candidate.from_mapping(c)) for n, c in prepared["starts"].items()]
        noise = prepared["aa"]["differ"] / prepared["aa"]["items"]
        about = f"{study.sampler_name} d={len(study.space.knobs())} · A/A noise {noise:.1%}"
        self._shown |= self._ended().keys()
        with self._box(study, about) as told:
            self._race(told)
            study.budget = self._left()
            self._queue(study, starts, min(10 + 2 * len(study.space.knobs()), o.trials // 2))
            self._run(study, told)

    def _queue(self, study: Study, starts: Sequence[Start], room: int) -> None:
        """Queue the starts that lie in the space, then points spread evenly up to `room` in all."""
        inside = [s for s in starts if study.space.holds(s.candidate)][: study.budget]
        seed = derive_seed(self.options.seed, study.name, "fill")
        study.enqueue(inside, fill(study.space, room - len(inside), seed))

    def _left(self) -> int:
        """Return the trials that operators have left to the main study."""
        spent = sum(self.studies[name].finished() for name in self.options.operators)
        return max(1, self.options.trials - spent)

    def _race(self, told: Told) -> None:
        """Let operators race: equal trials each, and the better half goes on.

        They take about half of the trials, and at most half of the time.
        """
        o, operators = self.options, [self.studies[name] for name in self.options.operators]
        left, share = operators, max(2, (o.most or TRIALS) // (4 * len(operators) or 1))
        more, contest = partial(self._in_time, (o.seconds or 0) / 2), self.contest(told)
        for rounds in count(1):
            for study in left:
                study.budget = share * rounds
                start = Start("defaults", Operators(o.experts, method=study.name).start())
                self._queue(study, [start], share // 2)
                study.run(contest, more=more, told=partial(self._show, told))
            if len(left) <= 1:
                return
            left = sorted(left, key=self._best_value, reverse=True)[: (len(left) + 1) // 2]
            self.screen.say(f"operators that go on: {', '.join(s.name for s in left)}")

    def _best_value(self, study: Study) -> float:
        best = best_of(study.trials(), self.objective)
        return self.objective.value(best.facts["means"]) - best.short if best else -1.0

    def _seconds_left(self) -> float:
        """Return the seconds that trials may still take if the verdict is to be in time."""
        o, prepared = self.options, self.run.manifest["prepared"]
        if o.seconds is None:
            return math.inf
        spent = prepared["seconds"] + busy(self._ended().values())
        return float(o.seconds - spent - cost(prepared, o)["after"])

    def _in_time(self, reserve: float = 0.0) -> bool:
        """Say whether one more trial leaves so many seconds of the time.

        The first of the main study always does: without one there is nothing to confirm.
        """
        done = self._ended().values()
        one = sum(t.seconds for t in done) / max(1, len(done))
        first = not reserve and not self.study.finished()
        return first or one + reserve < self._seconds_left()

    def _show(self, told: Told, _: object = None) -> None:
        """Show every trial that has ended since this was last called, whoever ran it."""
        best, ended = self.best(), self._ended()
        best = best and replace(best, facts={**best.facts, **self._worth(best)})
        for key in [key for key in ended if key not in self._shown]:
            told(ended[key], best)
        self._shown |= ended.keys()

    def _ended(self) -> dict[tuple[str, int], Trial]:
        ended = (t for t in self.trials() if t.state in ("COMPLETE", "FAIL"))
        return {(t.study, t.number): t for t in ended}

    def _worth(self, best: Trial) -> dict[str, float]:
        """Return what a surface over the trials says of the best: its value when asked anew."""
        trials, space = self.study.trials(), self.study.space
        full, (when, known) = sum(t.full for t in trials), self._outlook
        if full >= when + OUTLOOK and space.holds(best.candidate):
            if surface := fit(space, trials, self.objective):
                here = space.params(best.candidate)
                mean, spread = surface([here])
                gap = float(mean[0]) - self.objective.value(best.facts["means"])
                known = {"expected": gap, "expected_error": float(spread[0])}
                if best.candidate.key != self.reference.key and space.holds(self.reference):
                    known["beats"] = surface.chance(here, space.params(self.reference))
            self._outlook = (full, known)
        return known

    def _select(self) -> None:
        """Score the shortlist on fresh items, add a second stage if asked, freeze one winner."""
        o = self.options
        searched = [study for name, study in self.studies.items() if name != STAGE_2]
        first = self.run.read("stage1.json") or self._chosen(searched)
        best = first | {"best_expert": best_expert(self.world, o.experts, self.objective)}
        winner = Candidate.from_mapping(best["candidate"])
        if o.stage2 and winner.method == OWN and min(winner.shares.values(), default=0) > 0:
            best = self._stage2(best)
            winner = Candidate.from_mapping(best["candidate"])
        freeze(self.run, self.world, winner, best)
        self.screen.say(f"Frozen: {winner.describe()}")

    def _chosen(self, studies: Sequence[Study], size: int = 0) -> dict[str, Any]:
        """Return the shortlist's table, and the candidate that is best over search and select."""
        table = [(s.space, s.trials()) for s in studies]
        short = shortlist(table, self.objective, size or self.options.shortlist)
        if not short:
            raise SearchError("no trial saw every search item", "Raise --trials.")
        total = len(short) * self.options.n_select * len(self.world.tasks)
        with self.screen.progress("select", total) as steps:
            found = select(self.world, short, self.objective, steps.step)
        return found | {"candidate": short[found["chosen"]].to_mapping()}

    def _second(self, first: dict[str, Any]) -> Study:
        origin = Candidate.from_mapping(first["candidate"])
        space = Depth(origin.experts, origin=origin)
        return self.open_study(space, name=STAGE_2, trials=self.options.stage2)

    def _stage2(self, first: dict[str, Any]) -> dict[str, Any]:
        """Bend the winner over depth and modules; the first stage stays where nothing is won."""
        if self.run.read("stage1.json") is None:
            self.run.write("stage1.json", first)
            self.studies[STAGE_2] = self._second(first)
        study, origin = self.studies[STAGE_2], Candidate.from_mapping(first["candidate"])
        with self._box(study) as told:
            self._queue(study, [Start(STAGE_1, origin, raced=False)], study.budget // 2)
            self._run(study, told, origin)
        second = self._chosen([study], 3)
        values = [found["shortlist"][found["chosen"]]["both"] for found in (first, second)]
        if second["candidate"] == first["candidate"] or values[1] <= values[0]:
            self.screen.say("stage 2: nothing better than stage 1")
            return first
        return first | second | {"stage1": first["candidate"]}
