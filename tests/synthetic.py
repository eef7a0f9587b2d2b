"""A world without models: an item is right when its ease and the merge's worth sum above 0.

The worth is a known function of the candidate (a hill over shares and scale, plus a smooth response
of every item of its own), so a test knows the best candidate and the true score of any other.
"""

import hashlib
import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import cache, partial

import numpy as np

from evals.answers import Verdict
from evals.generate import Completion, Settings, Voice
from evals.ledger import Ledger
from evals.task import Draft, Task
from merger.screen import QUIET
from search.candidate import Candidate
from search.objective import parse
from search.protocol import Search
from search.run import Options, Run
from search.study import Study
from search.variant import Variant
from search.world import Holder, Pools, World

EXPERTS = ("ded", "ind", "abd")
TOP = np.array([0.6, 0.3, 0.1])


def draw(rng, level):
    number = str(rng.randrange(10**9))
    return Draft(f"say {number}", number, f"{level}/{number}", {})


def grade(answer, item):
    return Verdict(parsed=True, correct=answer == item.answer)


def task(name):
    """Return a task whose items are numbers to be repeated."""
    return Task(name, name[:2], "1", (1, 2), "", draw, grade, lambda item: True, {}, 64)


TASKS = tuple(task(name) for name in ("first", "second", "third"))


def worth(candidate, height=0.8):
    """Return how good a candidate is, 0 for the base and `height` at the top of the hill."""
    if not candidate.weights:
        return 0.0
    p = np.array([candidate.shares.get(name, 0.0) for name in EXPERTS])
    bonus = 0.05 if candidate.consensus == "ram" else 0.0
    away = 2 * float(((p - TOP) ** 2).sum()) + (candidate.scale - 1.1) ** 2
    return height * (1 - away) + bonus - 0.05 * np.log(candidate.density) ** 2


@cache
def nature(name):
    """Return an item's ease and how it responds to shares and scale: its own, fixed for ever."""
    rng = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:12], 16))
    return rng.standard_normal() - 0.4, rng.standard_normal(4) * 0.3


def near(merge):
    """Return a candidate that stands in for a variant: its experts at its scale, less if reset."""
    if not isinstance(merge, Variant):
        return merge
    return Candidate.of(dict.fromkeys(merge.experts, 1), merge.scale * (0.7 if merge.reset else 1))


def solved(candidate, name, height=0.8):
    """Say whether the candidate gets the item right."""
    candidate = near(candidate)
    ease, response = nature(name)
    p = (
        [candidate.scale * candidate.shares.get(e, 0.0) for e in EXPERTS]
        if candidate.weights
        else [0] * 3
    )
    return bool(ease + worth(candidate, height) + response @ np.array([*p, candidate.scale]) > 0)


class Merged:
    """Stands in for a live model: it holds a candidate instead of weights."""

    def __init__(self):
        self.candidate, self.applied = None, 0

    def apply(self, candidate):
        self.candidate, self.applied = candidate, self.applied + 1
        return "w" + candidate.key


class Answerer:
    """Answers as the candidate in the model would; counts what it was asked for."""

    def __init__(self, merged, height=0.8, stop=None):
        self.merged, self.height, self.asked, self.stop = merged, height, [], stop

    voice = Voice("toy", "float32", "cpu", "words", 64, chat=True)

    def prompt(self, task, item):
        return f"{item.id}\x00{item.answer}"

    def encode(self, prompt):
        return prompt

    def fit(self, request):
        return replace(request, name=request.tokens)

    def run(self, requests, settings):
        for i in range(0, len(requests), 10):
            group = requests[i : i + 10]
            if self.stop:
                self.stop(len(self.asked))
            self.asked += [(self.merged.candidate.key, r.name.split("\x00")[0]) for r in group]
            yield [(replace(r, name=r.name.split("\x00")[0]), self.say(r.name)) for r in group]

    def answer(self, prompts, settings=None, *, default=64):
        return [self.say(p) for p in prompts]

    def say(self, prompt):
        name, answer = prompt.split("\x00")
        right = solved(self.merged.candidate, name, self.height)
        return Completion(f"</think><answer>{answer if right else 'no'}</answer>", 5, "stop")


def world(
    ledger=":memory:", n=30, confirm=60, height=0.8, stop=None, seed=0, confirm_seed=0, tasks=TASKS
):
    """Return a world over the three tasks with n search items each."""
    merged = Merged()
    sizes = {"search": n, "select": n, "confirm": confirm}
    pools = Pools(sizes, dict.fromkeys(sizes, seed) | {"confirm": confirm_seed})
    answerer = Answerer(merged, height, stop)
    return World(Holder(merged), answerer, tasks, pools, Ledger(ledger), Settings())


def truth(candidate: Candidate, n=20_000, height=0.8) -> float:
    """Return the score a candidate would have on very many items."""
    return float(np.mean([solved(candidate, f"truth/{i}", height) for i in range(n)]))


def search(folder, *, trials=12, n=30, confirm=40, sampler="random", height=0.8, objective="mean",
           stop=None, **options):  # fmt: skip
    """Open a search over the synthetic world in a folder, new or begun; `stop` after n answers."""
    run = Run(folder)
    names = tuple(t.name for t in TASKS)
    if not (folder / "manifest.json").exists():
        sizes = {"n_search": n, "n_select": n, "n_confirm": confirm}
        made = {
            "trials": trials,
            "warm": "none",
            "sampler": sampler,
            "objective": objective,
            **sizes,
            **options,
        }
        run.create(Options(experts=EXPERTS, base="base", tasks=names, **made), {})
    o = run.options
    goal = parse(o.objective, names)

    told = {"directions": goal.directions, "sampler": o.sampler, "seed": o.seed}
    study = partial(Study, run.storage, **told)
    place = world(run.ledger, n=o.n_search, confirm=o.n_confirm, height=height, stop=stop,
                  seed=o.seed, confirm_seed=o.confirm_seed)  # fmt: skip
    return Search(run, place, study, goal, QUIET)


def ledger_rows(folder):
    """Return (candidate key, item) of every answer in a run's ledger, in the order of writing."""
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
        rows = db.execute("select fingerprint, item from answers order by rowid").fetchall()
    return [(mark.removeprefix("w"), item) for mark, item in rows]


def kill_at(answers):
    """Return a stop that kills this process, as the kernel would, once so many answers are made."""

    def stop(asked):
        if asked >= answers:
            os.kill(os.getpid(), signal.SIGKILL)

    return stop


def interrupt_at(answers):
    """Return a stop that acts as Ctrl-C once so many answers are made."""

    def stop(asked):
        if asked >= answers:
            raise KeyboardInterrupt

    return stop
