"""The end of a search: the frozen winner meets its references once, and what stands is written.

A winner of stage 2 meets that of stage 1 as well, and leaves its place to it unless it is better.
Guard tasks, never searched on, are scored for these finalists only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search.candidate import Candidate
from search.confirm import STAGE_1, confirm, confirm_references, in_words, kept, overall
from search.objective import means
from search.world import World, scores

if TYPE_CHECKING:
    from search.protocol import Search


def conclude(search: Search) -> dict[str, Any]:
    """Compare the frozen winner with its references and write down what stands."""
    frozen = search.run.read("frozen.json")
    winner = Candidate.from_mapping(frozen["candidate"])
    rivals = confirm_references(frozen["best_expert"], search.options.experts)
    if "stage1" in frozen:
        rivals[STAGE_1] = Candidate.from_mapping(frozen["stage1"])
    total = (1 + len(rivals)) * search.options.n_confirm * len(search.world.tasks)
    with search.screen.progress("confirm", total) as steps:
        family = confirm(search.world, winner, rivals, search.objective, steps.step)
    same = rivals.keys() - {c.reference for c in family}
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
        "objective": str(search.objective),
        "confirm": [c.to_mapping() for c in family],
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
