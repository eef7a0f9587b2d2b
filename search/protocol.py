"""The order of a search: prepare, search, select, freeze, confirm, verdict.

Each phase leaves its result in the run folder or the ledger and is passed over when it is there,
so a resumed run continues in the phase where it was killed. Whoever runs this gives a `Screen`,
so that nothing here knows about terminals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from evals.stats import mde
from merger.errors import SearchError
from search.candidate import BASE, Candidate
from search.confirm import (
    best_expert,
    confirm,
    confirm_references,
    freeze,
    in_words,
    kept,
    overall,
    select,
    shortlist,
)
from search.contest import Contest
from search.objective import Objective, means
from search.racing import FIRST_LOOK
from search.run import Options, Run
from search.starts import Start, fill, references, warm_starts
from search.study import Study, derive_seed
from search.trial import Trial
from search.world import World, scores

# Above this share of marks that change when a model is asked again, Δ is mostly noise.
NOISY = 0.01


# Called with a finished trial and the best one so far.
Told = Callable[[Trial, Trial | None], None]


class Steps(Protocol):
    """A piece of work that moves on by steps."""

    def step(self, n: int = 1, note: str = "") -> None:
        """Move on by n and show a note of a few words."""


class Screen(Protocol):
    """What a search needs of whoever shows it."""

    def say(self, text: str) -> None:
        """Show a line."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Steps]:
        """Show the progress of work with a known number of steps."""

    def trials(self, done: int, total: int) -> AbstractContextManager[Told]:
        """Show the trials as they finish; the manager gives what is called with each."""


@dataclass
class Search:
    """A search with everything open: its folder, world, study and objective.

    `helpers` is entered while trials are taken, after the warm starts are queued: other processes
    that join the study live inside it.
    """

    run: Run
    world: World
    study: Study
    objective: Objective
    screen: Screen
    norms: dict[str, float] | None = None
    helpers: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def options(self) -> Options:
        """The options in the manifest."""
        return self.run.options

    @property
    def reference(self) -> Candidate:
        """The fixed reference that every candidate is raced against."""
        return next(iter(references(self.options.experts).values()))

    def go(self) -> dict[str, Any]:
        """Run what is left of the search and return the confirm document."""
        if self.run.read("frozen.json") is None:
            prepared = self.run.manifest.get("prepared") or self._prepare()
            self._search(prepared)
            self._select()
        self.world.pools.sealed.discard("confirm")
        return self.run.read("confirm.json") or self._confirm()

    def contest(self) -> Contest:
        """Return what scores a proposal."""
        return Contest(self.world, self.study, self.objective, self.reference, self.options.racing)

    def _prepare(self) -> dict[str, Any]:
        """Score base and reference, measure noise and speed, and say what the run will cost."""
        begin, paid = time.monotonic(), self.world.paid
        pair = [("base", BASE), ("reference", self.reference)]
        n = self.options.n_search * len(self.world.tasks)
        found = []
        with self.screen.progress("prepare", 2 * n) as steps:
            for _, candidate in pair:
                found.append(scores(self.world.answers(candidate, "search", None, steps.step)))
        per_task = min(self.options.n_search, math.ceil(FIRST_LOOK / len(self.world.tasks)))
        asked, differ = self.world.again(self.reference, "search", per_task)
        seconds = time.monotonic() - begin
        gaps = np.concatenate([found[1][t] - found[0][t] for t in found[0]])
        facts = {
            "aa": {"items": asked, "differ": differ},
            "discordance": float((gaps != 0).mean()),
            "seconds": seconds,
            "seconds_per_answer": seconds / max(1, self.world.paid - paid + asked),
            "base": means(found[0]),
            "reference": means(found[1]),
        }
        self.run.note(prepared=facts)
        self._announce(facts)
        return facts

    def _announce(self, facts: dict[str, Any]) -> None:
        """Print the A/A row, the detectable difference and the cost."""
        say, o, tasks = self.screen.say, self.options, len(self.world.tasks)
        noise = facts["aa"]["differ"] / facts["aa"]["items"]
        say(
            f"A/A: {facts['aa']['differ']} of {facts['aa']['items']} marks differ when asked again."
        )
        if noise > NOISY:
            say(f"     warning: {noise:.1%} noise of the engine; no Δ below that means anything")
        share = facts["discordance"] or 0.1
        n = o.n_confirm * tasks
        seen = 100 * mde(n, math.sqrt(share))
        say(
            f"MDE: {n} confirm items see differences of {seen:.1f} points or more "
            f"(if {share:.0%} of marks differ, as between base and reference)."
        )
        most, rate = self.cost(facts), 1 / facts["seconds_per_answer"]
        if o.seconds is not None and o.seconds < most["seconds"]:
            say(f"Cost: trials until {_clock(o.seconds)} are used, at {rate:.1f} answers a second.")
            return
        say(
            f"Cost: at most {most['answers']} answers, about {_clock(most['seconds'])} "
            f"at {rate:.1f} answers a second; racing saves part of it."
        )

    def cost(self, facts: dict[str, Any]) -> dict[str, float]:
        """Return the answers and seconds the whole run takes if no trial is stopped early."""
        o, tasks = self.options, len(self.world.tasks)
        after = o.shortlist * o.n_select + (1 + len(self.reference_names)) * o.n_confirm
        answers = tasks * (o.trials * o.n_search + after)
        return {
            "answers": answers,
            "seconds": answers * facts["seconds_per_answer"],
            "after": tasks * after * facts["seconds_per_answer"],
        }

    @property
    def reference_names(self) -> list[str]:
        """The names of those the winner is confirmed against."""
        return ["base", "best expert", *references(self.options.experts)]

    def _search(self, prepared: dict[str, Any]) -> None:
        """Queue the warm starts, then let the sampler propose until the budget is used."""
        o = self.options
        again = self.study.recover()
        if again:
            self.screen.say(f"{again} interrupted trial(s) queued again.")
        starts = warm_starts(o.experts, self.norms)[: o.trials]
        starts = [s for s in starts if _inside(self.study, s)]
        dimensions = len(self.study.space.knobs())
        room = min(10 + 2 * dimensions, o.trials // 2) - len(starts)
        self.study.enqueue(starts, fill(self.study.space, room, derive_seed(o.seed, "fill")))
        reserve = self.cost(prepared)["after"] + prepared["seconds"]

        def more() -> bool:
            done = [t.seconds for t in self.study.trials() if t.state in ("COMPLETE", "FAIL")]
            spent = sum(done) + (sum(done) / len(done) if done else 0.0)
            return o.seconds is None or not done or spent + reserve < o.seconds

        with self.helpers(), self.screen.trials(self.study.finished(), o.trials) as told:
            self.study.run(self.contest(), more=more, told=lambda t: told(t, self.best()))

    def best(self) -> Trial | None:
        """Return the best trial that saw every item, the earlier one of equals."""
        full = [t for t in self.study.trials() if t.full]
        return max(full, key=lambda t: (self._value(t), -t.number)) if full else None

    def _value(self, trial: Trial) -> float:
        return self.objective.value(trial.facts["means"])

    def _select(self) -> None:
        """Score the shortlist on fresh items and freeze one winner."""
        short = shortlist(self.study.trials(), self.objective, self.options.shortlist)
        if not short:
            raise SearchError("no trial saw every search item", "Raise --trials.")
        best = best_expert(self.world, self.options.experts, self.objective)
        total = len(short) * self.options.n_select * len(self.world.tasks)
        with self.screen.progress("select", total) as steps:
            chosen = select(self.world, short, self.objective, steps.step)
        chosen |= {"best_expert": best}
        freeze(self.run, self.world, short[chosen["chosen"]], chosen)
        self.screen.say(f"Frozen: {short[chosen['chosen']].describe()}")

    def _confirm(self) -> dict[str, Any]:
        """Compare the frozen winner with its references and write down what stands."""
        frozen = self.run.read("frozen.json")
        winner = Candidate.from_mapping(frozen["candidate"])
        rivals = confirm_references(frozen["best_expert"], self.options.experts)
        total = (1 + len(rivals)) * self.options.n_confirm * len(self.world.tasks)
        with self.screen.progress("confirm", total) as steps:
            family = confirm(self.world, winner, rivals, self.objective, steps.step)
        same = rivals.keys() - {c.reference for c in family}
        stands = kept(family, same, self.options.prefer)
        final = rivals.get(stands, winner)
        document = {
            "schema": "merger.confirm/1",
            "verdict": overall(family, same),
            "words": in_words(family, stands, same),
            "kept": stands,
            "winner": _stated(final, self.world),
            "frozen": _stated(winner, self.world),
            "references": {name: _stated(c, self.world) for name, c in rivals.items()},
            "best_expert": frozen["best_expert"],
            "objective": str(self.objective),
            "confirm": [c.to_mapping() for c in family],
        }
        self.run.write("confirm.json", document)
        return document


def _stated(candidate: Candidate, world: World) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": candidate.describe(), "key": candidate.key}
    facts["fingerprint"] = world.fingerprint(candidate)
    return candidate.to_mapping() | {"shares": candidate.shares} | facts


def _inside(study: Study, start: Start) -> bool:
    try:
        study.space.params(start.candidate)
    except SearchError:
        return False
    return True


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
