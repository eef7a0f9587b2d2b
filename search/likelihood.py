"""How likely a merge finds right answers: a smooth companion of accuracy along curves.

The texts are answers of the single experts that were verified as right, taken from the experts in
turn so that none lends its voice to all; an item nobody solved has no text and is left out. Only
reading is paid for. What was read is kept in the run folder, by fingerprint and item.
"""

from collections.abc import Sequence

from evals.ledger import Row
from evals.loglik import log_likelihoods
from evals.task import Item, Task
from search.run import Run
from search.starts import average
from search.variant import Merge
from search.world import Answers, World

FILE = "likelihoods.json"


class Likelihood:
    """Reads the experts' right answers with a merge; rows hold nats a token where scores stand."""

    def __init__(self, world: World, experts: Sequence[str], run: Run) -> None:
        self.world, self.experts, self.run = world, experts, run
        self.tasks = [t for t in world.tasks if isinstance(t, Task)]
        self._known: dict[str, dict[str, list[float]]] = run.read(FILE) or {}

    def missing(self, merge: Merge, pool: str, n: int | None = None) -> int:
        """Return how many answers are still to be read."""
        known = self._known.get(self.world.holder.known.get(merge.key, ""), {})
        wanted = [i.id for t in self.tasks for i in self.world.pools.items(pool, t)[:n]]
        return sum(item not in known for item in wanted)

    def answers(self, merge: Merge, pool: str, n: int | None = None) -> Answers:
        """Return a row for every item that an expert solved: `correct` is nats a token."""
        mark = self.world.fingerprint(merge)
        if self.missing(merge, pool, n):
            texts = self._texts(pool, n)
            self.world.holder.hold(merge)
            known = self._known.setdefault(mark, {})
            for task in self.tasks:
                known |= self._read(task, self.world.pools.items(pool, task)[:n], texts[task.name])
            self.run.write(FILE, self._known)
        known = self._known[mark]
        return {
            task.name: [
                Row(i.id, 0, "", "stop", int(known[i.id][1]), True, True, known[i.id][0])
                for i in self.world.pools.items(pool, task)[:n]
                if known[i.id]
            ]
            for task in self.tasks
        }

    def _texts(self, pool: str, n: int | None) -> dict[str, dict[str, str]]:
        """Return by task and item the right answer of the first expert whose turn it is."""
        said = [self.world.answers(average([name]), pool, n) for name in self.experts]
        texts: dict[str, dict[str, str]] = {}
        for task in self.tasks:
            found = texts.setdefault(task.name, {})
            for turn, rows in enumerate(zip(*(s[task.name] for s in said), strict=True)):
                order = [rows[(turn + j) % len(rows)] for j in range(len(rows))]
                right = [row for row in order if row.correct >= 1 and row.text]
                if right:
                    found[right[0].item] = right[0].text
        return texts

    def _read(
        self, task: Task, items: Sequence[Item], texts: dict[str, str]
    ) -> dict[str, list[float]]:
        told = [item for item in items if item.id in texts]
        answerer = self.world.answerer
        pairs = [(answerer.prompt(task, item), texts[item.id]) for item in told]
        found: dict[str, list[float]] = {item.id: [] for item in items}
        for item, read in zip(told, log_likelihoods(answerer, pairs), strict=True):
            found[item.id] = [read.mean, float(read.n_tokens)]
        return found
