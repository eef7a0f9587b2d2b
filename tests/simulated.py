"""A simulated merge landscape with a known best point, on which whole protocols are compared.

An item is solved when its ease, a smooth hill over shares and scale, and a smooth response of its
own sum above 0; no models, no ledger. Everything is a function of the seed.
"""

from types import SimpleNamespace

import numpy as np

from evals.ledger import Row
from search.confirm import select, shortlist
from search.contest import Contest
from search.objective import means, parse
from search.space import Space
from search.starts import fill, references, warm_starts
from search.study import Study
from search.world import scores

EXPERTS = ("ded", "ind", "abd")
SPACE = Space(EXPERTS, scale=(0.4, 1.6))
AXES = ("ded:rest", "ind:abd", "scale")
REFERENCE = next(iter(references(EXPERTS).values()))
WAVES, ITEMS, CONFIRM = 24, 6000, 400
RIGHT, WRONG = (Row("", 0, "", "stop", 1, True, True, float(mark)) for mark in (1, 0))


class Landscape:
    """Stands in for a world: pools are parts of one permutation of the items."""

    def __init__(self, seed, n=200, confirm=CONFIRM):
        rng = np.random.default_rng(seed)
        self.top = np.array([rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.8, 1.2)])
        self.ease = rng.standard_normal(ITEMS) - 0.25
        self.turn, self.phase = rng.standard_normal((WAVES, 3)) * 2, rng.uniform(0, 6.28, WAVES)
        self.response = rng.standard_normal((ITEMS, WAVES)) * 0.35 / np.sqrt(WAVES / 2)
        order = np.random.default_rng(seed + 7).permutation(ITEMS)
        ends = np.cumsum([n, n, confirm])
        self.drawn = dict(
            zip(("search", "select", "confirm"), np.split(order, ends)[:3], strict=True)
        )
        self.rest = np.sort(order[2 * n :])
        self.tasks = (SimpleNamespace(name="t", alias="t"),)
        self.pools = SimpleNamespace(sizes={"search": n, "select": n, "confirm": confirm})
        self.paid, self._seen = 0, set()

    def solved(self, points, items):
        """Return the marks on these items at points, mappings of knobs: (points, items)."""
        x = np.array([[point[axis] for axis in AXES] for point in points])
        hill = -0.55 * ((x - self.top) ** 2).sum(1)
        waves = np.cos(x @ self.turn.T + self.phase)
        return (self.ease[items] + hill[:, None] + waves @ self.response[items].T > 0).astype(float)

    def marks(self, candidate, items):
        """Return the marks of a candidate on these items."""
        at_base = dict.fromkeys(AXES, 0)
        return self.solved([SPACE.params(candidate) if candidate.weights else at_base], items)[0]

    def truth(self, candidate):
        """Return the score on all items but those that a candidate is chosen on."""
        return float(self.marks(candidate, self.rest).mean())

    def best(self):
        """Return about the best true score there is."""
        return float(self.solved(fill(SPACE, 256, 0), self.rest).mean(1).max())

    def answers(self, candidate, pool, n=None, progress=None, orders=None):
        """Return rows; an answer is paid for once."""
        items = self.drawn[pool]
        items = items[orders["t"].places] if orders else items
        marks = self.marks(candidate, items[:n])
        new = {(candidate.key, pool, int(i)) for i in items[:n]} - self._seen
        self._seen |= new
        self.paid += len(new)
        return {"t": [RIGHT if mark else WRONG for mark in marks]}

    def fingerprint(self, candidate):
        """Return what stands for the weights."""
        return candidate.key


def searched(seed, budget=None, rule="sign", sampler="auto", trials=10_000, n=200):
    """Run the default protocol within a budget of item evaluations, or for so many trials.

    Returns the landscape, the frozen candidate, its confirm score, and the part of the search's
    item evaluations that racing saved.
    """
    world, objective = Landscape(seed, n), parse("mean", ["t"])
    after = 5 * n + 5 * CONFIRM  # the shortlist on select items, winner and references on confirm
    study = Study("memory://", SPACE, sampler=sampler, trials=trials, seed=seed)
    study.enqueue(warm_starts(EXPERTS), fill(SPACE, 6, seed))
    contest = Contest(world, study.trials, objective, REFERENCE, rule)
    study.run(contest, more=lambda: budget is None or world.paid + 100 < budget - after)
    saved = 1 - world.paid / (n * study.finished())
    short = shortlist([(SPACE, study.trials())], objective, 5)
    chosen = short[select(world, short, objective)["chosen"]]
    reported = means(scores(world.answers(chosen, "confirm")))["t"]
    return world, chosen, reported, saved


def luck(world):
    """Return by how much the confirm items flatter a recipe that was chosen on nothing."""
    return float(world.marks(REFERENCE, world.drawn["confirm"]).mean()) - world.truth(REFERENCE)


def argmax(seed, budget, n=200):
    """Run random search on fresh items for each trial, and take the best score seen."""
    world, rng = Landscape(seed), np.random.default_rng(seed)
    points = [
        SPACE.candidate({"ded:rest": rng.random(), "ind:abd": rng.random(),
                         "scale": rng.uniform(0.4, 1.6), "density": 1.0, "consensus": "mean"})
        for _ in range(budget // n)
    ]  # fmt: skip
    scored = [(world.marks(p, rng.choice(ITEMS, n, replace=False)).mean(), p) for p in points]
    reported, chosen = max(scored, key=lambda pair: pair[0])
    return world, chosen, float(reported)
