"""From many trials to one verdict: shortlist, select, freeze, confirm.

The best of many noisy scores is mostly luck, so its score is never reported. A shortlist is
scored again on fresh `select` items; the best over both pools is frozen, on disk, before a
`confirm` item exists; then the frozen winner meets its references once, paired, with Holm's
correction. References are the base, the best single expert (as chosen on search items: choosing
it on confirm items would favour it), uniform and the paper's weights, and for a winner of stage 2
that of stage 1. Parsimony: a simple recipe stays unless it is beaten. Guard tasks, never searched
on, are scored for these finalists only.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evals.runner import Progress
from search.candidate import BASE, Candidate
from search.effects import BETTER, SAME, WORSE, Rows, corrected, versus
from search.objective import Objective, Scores, means
from search.posterior import Posterior, fit
from search.run import Run
from search.space import Space
from search.starts import average, fill, references
from search.trial import Trial, values_of
from search.variant import distinct
from search.world import World, scores

if TYPE_CHECKING:
    from search.protocol import Search

# A winner that does not beat one of these leaves its place to the first of them.
SIMPLE = ("paper", "uniform", "best expert")
STAGE_1 = "stage 1"  # a second stage stands only where it beats the first on confirm items
SPREAD = 1024  # points at which a surface is read


def shortlist(
    studies: Sequence[tuple[Space, Sequence[Trial]]], objective: Objective, size: int
) -> list[Candidate]:
    """Return the best candidates by posterior mean, one for each set of weights.

    Of each study, candidates that saw every search item; and, if a surface can be fitted, the point
    where it is highest, tried or not. Candidates that keep the floors stand before all others.
    """
    ranked: list[tuple[float, float, int, str, Candidate]] = []
    for space, trials in studies:
        value, surface = values_of(trials, objective), fit(space, trials, objective)
        full = [t for t in trials if t.full]
        guess = [value[t.number] for t in full]
        if surface and full:
            guess = surface([space.params(t.candidate) for t in full])[0].tolist()
            top, height = peak(space, surface)
            if height > max(guess):
                ranked.append((0.0, -height, len(trials), top.key, top))
        ranked += [
            (t.short, -v, t.number, t.facts["fingerprint"], t.candidate)
            for t, v in zip(full, guess, strict=True)
        ]
    ranked.sort(key=lambda row: row[:3])
    different: dict[str, Candidate] = {}
    for *_, mark, candidate in ranked:
        different.setdefault(mark, candidate)
    return list(dict.fromkeys(different.values()))[:size]


def peak(space: Space, surface: Posterior) -> tuple[Candidate, float]:
    """Return the candidate at which a surface is highest among many evenly spread points."""
    points = fill(space, SPREAD, 0)
    best = points[int(np.argmax(surface(points)[0]))]
    candidate = space.candidate(best)
    return candidate, float(surface([best])[0][0])


def select(
    world: World,
    candidates: Sequence[Candidate],
    objective: Objective,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the shortlist on select items; return the table and the best over both pools."""
    table: list[dict[str, Any]] = []
    for candidate in candidates:
        first = scores(world.answers(candidate, "search"))
        fresh = scores(world.answers(candidate, "select", None, progress))
        both = {task: np.r_[marks, fresh[task]] for task, marks in first.items()}
        pools = {"search": first, "select": fresh, "both": both}
        values = {name: objective.of(marks) for name, marks in pools.items()}
        table.append({"candidate": candidate.to_mapping(), "key": candidate.key, **values})
    best = max(range(len(table)), key=lambda i: (table[i]["both"], -i))
    return {"shortlist": table, "chosen": best}


def freeze(run: Run, world: World, candidate: Candidate, chosen: Mapping[str, Any]) -> None:
    """Write the winner and its hash into the run folder; only then are confirm items drawn."""
    told = candidate.to_mapping()
    facts = {
        "candidate": told,
        "sha256": hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest(),
        "key": candidate.key,
        "fingerprint": world.fingerprint(candidate),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    run.write("frozen.json", facts | dict(chosen))


def best_expert(world: World, experts: Sequence[str], objective: Objective) -> str:
    """Return the expert whose own scores on search items are best, the first of equals."""

    def value(name: str) -> float:
        return objective.of(scores(world.answers(average([name]), "search")))

    return max(experts, key=value)


def confirm(
    world: World,
    winner: Candidate,
    rivals: Mapping[str, Candidate],
    objective: Objective,
    progress: Progress | None = None,
) -> Rows:
    """Compare the winner with each reference that is not the same model, on confirm items."""

    def on_confirm(candidate: Candidate) -> Scores:
        return scores(world.answers(candidate, "confirm", None, progress))

    ours, mark = on_confirm(winner), world.fingerprint(winner)
    others = {n: rival for n, rival in rivals.items() if world.fingerprint(rival) != mark}
    return corrected([versus(n, ours, on_confirm(rival), objective) for n, rival in others.items()])


def overall(family: Rows, same: Collection[str] = ()) -> str:
    """Return the verdict of all: worse than any is worse, better than every one is better.

    A winner that is one of the references (`same` names it) has beaten it in nothing.
    """
    verdicts = {c["verdict"] for c in family} | ({SAME} if same else set())
    if WORSE in verdicts:
        return WORSE
    return BETTER if verdicts == {BETTER} else SAME


def kept(family: Rows, same: Collection[str] = (), prefer: str = "simple") -> str:
    """Return which recipe stands: "winner", or the first simple reference it does not beat.

    `same` names the references that are the winner itself: nothing simpler is looked for behind it.
    """
    verdicts = {c["reference"]: c["verdict"] for c in family}
    for name in (STAGE_1,) if prefer == "best" else (*SIMPLE, STAGE_1):
        if name in same:
            return "winner"
        if verdicts.get(name, BETTER) != BETTER:
            return name
    return "winner"


def in_words(family: Rows, stands: str, same: Collection[str] = ()) -> str:
    """Return the verdict as a sentence or two for people."""
    parts = [f"the same model as {', '.join(sorted(same))}"] if same else []
    for verdict, link in ((BETTER, "than"), (SAME, "from"), (WORSE, "than")):
        names = [c["reference"] for c in family if c["verdict"] == verdict]
        parts += [f"{verdict} {link} {', '.join(names)}"] if names else []
    blind = max((c["mde"] or 0.0 for c in family if c["verdict"] == SAME), default=0.0)
    n = family[0]["n"] if family else 0
    seen = f" (n={n} sees differences of {100 * blind:.1f} points)" if blind else ""
    text = f"The frozen winner is {'; '.join(parts)}{seen}."
    if stands != "winner":
        text += f" Kept: {stands}, the simpler recipe, which it does not beat."
    return text


def conclude(search: Search) -> dict[str, Any]:
    """Compare the frozen winner with its references and write down what stands."""
    frozen = search.run.read("frozen.json")
    winner = Candidate.from_mapping(frozen["candidate"])
    rivals = {"base": BASE, "best expert": average([frozen["best_expert"]])}
    rivals |= references(search.options.experts)
    if "stage1" in frozen:
        rivals[STAGE_1] = Candidate.from_mapping(frozen["stage1"])
    rivals = distinct(rivals)  # of one expert, the uniform average is that expert
    total = (1 + len(rivals)) * search.options.n_confirm * len(search.world.tasks)
    with search.screen.progress("confirm", total) as steps:
        family = confirm(search.world, winner, rivals, search.objective, steps.step)
    same = rivals.keys() - {c["reference"] for c in family}
    stands = kept(family, same, search.options.prefer)
    final = rivals.get(stands, winner)
    document = {
        "schema": "merger.confirm/1",
        "verdict": overall(family, same),
        "words": in_words(family, stands, same),
        "kept": stands,
        "winner": stated(final, search.world),
        "frozen": stated(winner, search.world),
        "references": {name: stated(c, search.world) for name, c in rivals.items()},
        "best_expert": frozen["best_expert"],
        "objective": search.objective.text,
        "confirm": family,
        "guard": guard(search, {"winner": winner} | rivals),
    }
    search.run.write("confirm.json", document)
    return document


def guard(search: Search, finalists: dict[str, Candidate]) -> dict[str, dict[str, float]]:
    """Score the finalists on the tasks that were never searched on; name -> task -> mean."""
    if search.guards is None:
        return {}
    search.guards.pools.sealed.clear()
    table = {}
    with search.screen.progress("guard", len(finalists)) as steps:
        for name, candidate in finalists.items():
            table[name] = means(scores(search.guards.answers(candidate, "confirm")))
            steps.step(1, name)
    for task in search.guards.tasks:
        told = ", ".join(f"{n} {100 * row[task.name]:.1f}" for n, row in table.items())
        search.screen.say(f"guard {task.alias}: {told}")
    return table


def stated(candidate: Candidate, world: World) -> dict[str, Any]:
    """Return a candidate as plain data, with its shares, name, key and fingerprint."""
    facts = {"shares": candidate.shares, "name": candidate.describe(), "key": candidate.key}
    return candidate.to_mapping() | facts | {"fingerprint": world.fingerprint(candidate)}
