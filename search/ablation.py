"""Which expert gave what: the sections that `merger ablate` adds to a report.

An ablation is a search over a designed list of candidates: everything is scored on the confirm
items, after the winner was frozen, through the same ledger, so what the search has paid for is
free. Every section states its n; families of tests are corrected by Holm inside their section.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from evals.generate import Settings
from merger.registry import unknown
from search.candidate import Candidate
from search.complement import agreement, joined, oracle, who_solves
from search.confirm import best_expert
from search.designs import averages, coalitions, renormalised, without
from search.objective import Objective, Scores
from search.paired import corrected, resampled, versus
from search.shapley import Values, shapley, synergy
from search.starts import average
from search.world import World, scores

Section = dict[str, Any]
SECTIONS = ("leave_one_out", "shapley", "shapley_uniform", "who_solves", "oracle")


def section_names(text: str | None) -> list[str]:
    """Read the names of sections, with commas; all of them for None."""
    names = [n.strip() for n in text.split(",")] if text else list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            raise unknown("section", name, SECTIONS)
    return names


class Ablation:
    """The winner taken apart on one pool of items."""

    def __init__(
        self,
        world: World,
        winner: Candidate,
        experts: tuple[str, ...],
        objective: Objective,
        samples: int = 0,
        temperature: float = 1.0,
    ) -> None:
        self.world, self.winner, self.experts = world, winner, experts
        # Shapley values add up, minima do not: what is shared out is then the mean.
        plain = Objective(
            "mean", objective.tasks, (1 / len(objective.tasks),) * len(objective.tasks)
        )
        self.objective = objective if objective.kind in ("mean", "weighted") else plain
        # As many tries for one expert as the oracle has: one from each.
        tries = max(samples, len(experts)) if samples else 0
        self.settings = Settings(samples=tries, temperature=temperature) if tries else None

    def needs(self, sections: Sequence[str]) -> Iterator[tuple[World, Candidate, str]]:
        """Yield what the sections read: a world (settings), a candidate and a pool each."""
        for name in sections:
            for candidate in self._candidates(name):
                world = self._sampled() if name == "oracle" else self.world
                yield world, candidate, "search" if name == "shapley_uniform" else "confirm"

    def cost(self, sections: Sequence[str]) -> tuple[int, int]:
        """Return the merges and the answers that the ledger does not hold yet."""
        wanted: dict[tuple[str, str, str], int] = {}
        for world, candidate, pool in self.needs(sections):
            key = (str(world.settings), candidate.key, pool)
            if key not in wanted:
                wanted[key] = world.missing(candidate, pool)
        missing = [n for n in wanted.values() if n]
        return len(missing), sum(missing)

    def section(self, name: str) -> Section:
        """Compute a section; its scores are paid for where the ledger does not hold them."""
        makers: Mapping[str, Callable[[], Section]] = {
            "leave_one_out": self.leave_one_out,
            "shapley": lambda: self._shares(coalitions(self.winner), "confirm"),
            "shapley_uniform": lambda: self._shares(averages(self.experts), "search"),
            "who_solves": self.who_solves,
            "oracle": self.oracle,
        }
        return makers[name]()

    def leave_one_out(self) -> Section:
        """Return what each expert's absence costs, under both readings of absence."""
        whole = self._scores(self.winner)
        family = [
            versus(f"{how}: {name}", self._scores(drop(self.winner, name)), whole, self.objective)
            for how, drop in self._ways()
            for name in self.winner.experts
        ]
        rows = [c.to_mapping() for c in corrected(family)]
        return {"rows": rows, "tests": len(rows), "winner": self.winner.describe()}

    def who_solves(self) -> Section:
        """Return who solves what, how far experts agree, and what the merge keeps."""
        alone = {name: self._scores(average([name])) for name in self.experts}
        merged = self._scores(self.winner)
        return {
            "n": len(joined(merged)),
            "rows": who_solves(alone, merged),
            "agreement": agreement(alone),
        }

    def oracle(self) -> Section:
        """Return the oracle's excess over pass@k; k is the number of experts."""
        if self.settings is None:
            return {"missing": "no sampled answers; --samples pays for them"}
        world, k = self._sampled(), len(self.experts)
        best = best_expert(self.world, self.experts, self.objective)
        sampled = {name: _samples(world, average([name]), k) for name in self.experts}
        first = {name: marks[:, 0] for name, marks in sampled.items()}
        found = oracle(first, best, sampled[best])
        return found | {"temperature": self.settings.temperature}

    def _ways(self) -> list[tuple[str, Callable[[Candidate, str], Candidate]]]:
        ways: list[tuple[str, Callable[[Candidate, str], Candidate]]]
        ways = [("drop to base", without)]
        if self.winner.consensus == "mean" and len(self.winner.experts) > 1:
            ways.append(("renormalise", renormalised))
        return ways

    def _candidates(self, name: str) -> list[Candidate]:
        alone = [average([n]) for n in self.experts]
        if name == "leave_one_out":
            parts = [drop(self.winner, n) for _, drop in self._ways() for n in self.winner.experts]
            return [self.winner, *parts]
        if name == "shapley":
            return list(coalitions(self.winner).values())
        if name == "shapley_uniform":
            return list(averages(self.experts).values())
        if name == "who_solves":
            return [*alone, self.winner]
        return alone if self.settings else []

    def _shares(self, table: Mapping[frozenset[str], Candidate], pool: str) -> Section:
        """Return every expert's Shapley share, and the synergy of every pair."""
        if not table:
            return {"missing": f"{2 ** len(self.experts)} merges are more than are made"}
        players = [n for n in self.experts if frozenset([n]) in table]
        marks = {members: self._scores(c, pool) for members, c in table.items()}
        tasks = self.objective.tasks
        values: dict[str, Values] = {
            t: {members: found[t] for members, found in marks.items()} for t in tasks
        }
        shares = {t: shapley(values[t], players) for t in tasks}
        links = {t: synergy(values[t], players) for t in tasks}
        pairs = list(next(iter(links.values())))
        full, none = frozenset(players), frozenset[str]()
        total = {t: values[t][full] - values[t][none] for t in tasks}
        return {
            "pool": pool,
            "n": sum(map(len, total.values())),
            "merges": len(table),
            "rows": [self._row([p], {t: shares[t][p] for t in tasks}) for p in players],
            "synergy": [
                self._row(list(pair), {t: links[t][pair] for t in tasks}) for pair in pairs
            ],
            "total": self._row([], total),
        }

    def _row(self, names: list[str], gains: Scores) -> Section:
        """Return a gain by task and together, with its interval over items."""
        by_task = {t: float(g.mean()) for t, g in gains.items()}
        nothing = {t: np.zeros_like(g) for t, g in gains.items()}
        draws = resampled(gains, nothing, self.objective)
        low, high = np.quantile(draws, (0.025, 0.975))
        together = self.objective.value(by_task)
        return {"experts": names, "tasks": by_task, "value": together, "ci95": [low, high]}

    def _scores(self, candidate: Candidate, pool: str = "confirm") -> Scores:
        return scores(self.world.answers(candidate, pool))

    def _sampled(self) -> World:
        return self.world.drawn(self.settings) if self.settings else self.world


def _samples(world: World, candidate: Candidate, k: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the marks (items, k) of the first k samples of all tasks."""
    parts = []
    for rows in world.answers(candidate, "confirm").values():
        marks = np.array([float(row.correct) for row in rows]).reshape(-1, world.settings.samples)
        parts.append(marks[:, :k])
    return np.concatenate(parts)
