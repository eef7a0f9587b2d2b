"""A trial, scored: look after look on the same items, stopped as soon as it has clearly lost.

Rivals are the incumbent (the best candidate so far that saw every item) and a fixed reference,
which luck cannot have picked. Both are read from the studies and the ledger, not from this
process's memory, so that workers and resumed runs race against the same marks.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from search import racing
from search.candidate import Candidate
from search.objective import Objective, Scores, means
from search.trial import Outcome, Trial, best_of
from search.world import Answers, World, health, scores


@dataclass
class Contest:
    """Scores proposals on the search pool; call it with a trial.

    `floors` are the least scores of tasks, if any: staying below them is a broken constraint.
    """

    world: World
    trials: Callable[[], Iterable[Trial]]
    objective: Objective
    reference: Candidate
    rule: str
    floors: Mapping[str, float] = field(default_factory=dict)
    watch: Callable[[Trial], None] = lambda trial: None
    _full: dict[str, Scores] = field(default_factory=dict, repr=False)

    def __call__(self, trial: Trial) -> Outcome:
        """Score a trial; the outcome tells how many items it saw and why it was stopped."""
        candidate, per_task = trial.candidate, self.world.pools.sizes["search"]
        open_to = self.rule != "none" and self.objective.kind != "pareto"
        raced = open_to and trial.facts.get("raced", True)
        orders = self.orders() if raced else {}
        rivals = self.rivals(candidate) if raced else {}
        rivals = {name: racing.reordered(marks, orders) for name, marks in rivals.items()}
        for end in racing.looks(per_task, len(self.world.tasks))[:-1] if rivals else ():
            answers = self.world.answers(candidate, "search", end, orders=orders)
            seen = scores(answers)
            self._show(trial, seen, next(iter(rivals.values())), orders)
            if lost := self._lost(seen, rivals, orders):
                rival = rivals[lost[0]]
                found = racing.paired_estimate(seen, rival, orders)
                return self._outcome(candidate, answers, found, rival, lost)
        answers = self.world.answers(candidate, "search")
        reference = self._marks(self.reference) if self.rule != "none" else scores(answers)
        return self._outcome(candidate, answers, means(scores(answers)), reference)

    def _show(
        self, trial: Trial, seen: Scores, rival: Scores, orders: dict[str, racing.Order]
    ) -> None:
        """Tell who watches how far a trial is, and by how much it leads its rival so far."""
        gap = self.objective.value(racing.paired_estimate(seen, rival, orders)) - self.objective.of(
            rival
        )
        facts = {"items": sum(map(len, seen.values())), "of": sum(map(len, rival.values()))}
        self.watch(replace(trial, facts=facts | {"gap": gap}))

    def _outcome(
        self,
        candidate: Candidate,
        answers: Answers,
        found: dict[str, float],
        rival: Scores,
        lost: tuple[str, float] | None = None,
    ) -> Outcome:
        floors = {f"floor:{t}": least - found[t] for t, least in self.floors.items()}
        facts: dict[str, Any] = {
            "fingerprint": self.world.fingerprint(candidate),
            "items": sum(map(len, answers.values())),
            "means": found,
            "error_of_mean": racing.paired_error(scores(answers), rival, self.objective.weights),
            "health": health(answers),
            "raced_out": lost is not None,
        }
        facts |= {"floors": floors} if floors else {}
        facts |= {"lost_to": lost[0], "evidence": lost[1]} if lost else {}
        return self.objective.values(found), facts

    def orders(self) -> dict[str, racing.Order]:
        """Return the order of the items of each task, as the warm starts suggest it."""
        warm = [t for t in self.trials() if t.full and not t.facts.get("raced", True)]
        table = [self._marks(t.candidate) for t in warm] or [self._marks(self.reference)]
        return {
            task.name: racing.arrange([m[task.name] for m in table]) for task in self.world.tasks
        }

    def rivals(self, candidate: Candidate) -> dict[str, Scores]:
        """Return the full marks of incumbent and reference, without the candidate itself."""
        best = best_of(self.trials(), self.objective)
        incumbent = best.candidate if best and not best.short else None
        table = {"incumbent": incumbent, "reference": self.reference}
        return {
            name: self._marks(rival)
            for name, rival in table.items()
            if rival and rival.key != candidate.key and (name, rival) != ("reference", incumbent)
        }

    def _marks(self, candidate: Candidate) -> Scores:
        if candidate.key not in self._full:
            self._full[candidate.key] = scores(self.world.answers(candidate, "search"))
        return self._full[candidate.key]

    def _lost(
        self, marks: Scores, rivals: dict[str, Scores], orders: dict[str, racing.Order]
    ) -> tuple[str, float] | None:
        for name, rival in rivals.items():
            weights = self.objective.race_weights(means(rival))
            evidence = racing.worse(self.rule, marks, rival, weights)
            if evidence is None and self.rule == "sign" and name == "incumbent":
                evidence = racing.hopeless(marks, rival, orders, weights)
            if evidence is not None:
                return name, evidence
        return None
