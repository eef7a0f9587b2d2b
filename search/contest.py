"""A trial, scored: look after look on the same items, stopped as soon as it has clearly lost.

Rivals are the incumbent (the best candidate so far that saw every item) and a fixed reference,
which luck cannot have picked. Both are read from the study and the ledger, not from this
process's memory, so that workers and resumed runs race against the same marks.
"""

from __future__ import annotations

from typing import Any

from search.candidate import Candidate
from search.objective import Objective, Scores, means
from search.racing import looks, paired_estimate, worse
from search.study import Study
from search.trial import Outcome, Proposal
from search.world import Answers, World, health, scores


class Contest:
    """Scores proposals on the search pool; call it with one."""

    def __init__(
        self, world: World, study: Study, objective: Objective, reference: Candidate, rule: str
    ) -> None:
        self.world, self.study, self.objective = world, study, objective
        self.reference, self.rule = reference, rule
        self._full: dict[str, Scores] = {}

    def __call__(self, proposal: Proposal) -> Outcome:
        """Score a proposal; the outcome tells how many items it saw and why it was stopped."""
        candidate, per_task = proposal.candidate, self.world.pools.sizes["search"]
        rivals = self.rivals(candidate) if proposal.raced and self.rule != "none" else {}
        mark = self.world.fingerprint(candidate)
        ends = looks(per_task, len(self.world.tasks))
        for end in ends[:-1]:
            answers = self.world.answers(candidate, "search", end)
            lost = self._lost(scores(answers), rivals)
            if lost:
                return self._outcome(
                    mark, answers, paired_estimate(scores(answers), rivals[lost[0]]), lost
                )
        answers = self.world.answers(candidate, "search")
        return self._outcome(mark, answers, means(scores(answers)), None)

    def _outcome(
        self, mark: str, answers: Answers, found: dict[str, float], lost: tuple[str, float] | None
    ) -> Outcome:
        facts: dict[str, Any] = {
            "fingerprint": mark,
            "items": sum(map(len, answers.values())),
            "means": found,
            "health": health(answers),
            "raced_out": lost is not None,
        }
        if lost:
            facts |= {"lost_to": lost[0], "evidence": lost[1]}
        return Outcome(self.objective.values(found), facts)

    def rivals(self, candidate: Candidate) -> dict[str, Scores]:
        """Return the full marks of incumbent and reference, without the candidate itself."""
        best = self.incumbent()
        table = {"incumbent": best, "reference": self.reference}
        return {
            name: self._marks(rival)
            for name, rival in table.items()
            if rival and rival.key != candidate.key and (name, rival) != ("reference", best)
        }

    def incumbent(self) -> Candidate | None:
        """Return the best candidate that saw every item, the earlier one of equals."""
        if self.objective.kind == "pareto":
            return None
        full = [t for t in self.study.trials() if t.full]
        return max(full, key=lambda t: (t.values[0], -t.number)).candidate if full else None

    def _marks(self, candidate: Candidate) -> Scores:
        if candidate.key not in self._full:
            self._full[candidate.key] = scores(self.world.answers(candidate, "search"))
        return self._full[candidate.key]

    def _lost(self, marks: Scores, rivals: dict[str, Scores]) -> tuple[str, float] | None:
        for name, rival in rivals.items():
            evidence = worse(self.rule, marks, rival, self.objective.race_weights(means(rival)))
            if evidence is not None:
                return name, evidence
        return None
