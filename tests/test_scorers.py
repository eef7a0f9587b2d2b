"""Scorers of the user's own: a command and lm-eval tasks drive a search like our own tasks."""

import json
import sys
import zlib
from functools import partial
from pathlib import Path

import pytest

from evals.ledger import Ledger
from merger.errors import UsageError
from merger.screen import QUIET
from search.objective import parse
from search.protocol import Search
from search.run import Options, Run
from search.scorers import Scorer, deal, refuse_benchmark
from search.study import Study
from search.world import Holder, Pools, World
from tests import synthetic
from tests.synthetic import EXPERTS

SCRIPT = """
import json, pathlib, sys, zlib
model, items = map(pathlib.Path, sys.argv[1:])
weights = json.loads((model / "candidate.json").read_text())["weights"]
share = weights.get("ded", 0) / max(1e-9, sum(weights.values()))
with open({log!r}, "a") as log:
    log.write(items.read_text())
for item in items.read_text().split():
    print(json.dumps({{"id": item, "score": float(zlib.crc32(item.encode()) % 100 < 90 * share)}}))
"""


class Saved:
    """Stands in for a live model: what is saved of it is the candidate."""

    def __init__(self, merged):
        self.merged = merged

    def save_pretrained(self, place):
        if self.merged.candidate is not None:
            text = json.dumps(self.merged.candidate.to_mapping())
            Path(place, "candidate.json").write_text(text)


@pytest.mark.slow
def test_a_command_drives_a_search(tmp_path):
    """A command that reads a folder is asked for the items of each look, and for none twice."""
    script, log = tmp_path / "eval.py", tmp_path / "log"
    script.write_text(SCRIPT.format(log=str(log)))
    command = f"{sys.executable} {script} {{model}} {{items}}"
    scorer = Scorer("command", command=command)
    options = Options(experts=EXPERTS, base="base", tasks=("command",), trials=10, n_search=60,
                      n_select=20, n_confirm=30, sampler="random", warm="none")  # fmt: skip
    run = Run(tmp_path / "r")
    run.create(options, {})
    merged = synthetic.Merged()
    answerer = synthetic.Answerer(merged)
    answerer.model, answerer.tokenizer = Saved(merged), Saved(merged)
    dealt = deal(scorer.items([f"q{i}" for i in range(120)]), options.sizes, "command")
    pools = Pools(options.sizes, dict.fromkeys(options.sizes, 0), {}, {"command": dealt})
    world = World(Holder(merged), answerer, [scorer], pools, Ledger(run.ledger))
    goal = parse("mean", ["command"])

    search = Search(run, world, partial(Study, run.storage, sampler="random"), goal, QUIET)
    document = search.go()
    assert document["confirm"][0]["n"] == 30
    confirm = {item.id for item in dealt["confirm"]}
    asked = log.read_text().split()
    first = next(i for i, item in enumerate(asked) if item in confirm)
    assert not confirm & set(asked[:first])
    best = search.best()
    share = best.candidate.shares["ded"]
    marks = [zlib.crc32(item.id.encode()) % 100 < 90 * share for item in dealt["search"]]
    assert best.values[0] == pytest.approx(sum(marks) / 60)


def test_public_benchmarks_are_refused(tmp_path):
    """Benchmarks of lm-eval and files called like one are no objectives unless insisted upon."""
    for name in ("lm_eval:gsm8k", "data/GSM8K-test.jsonl", "my_aime_2024.jsonl"):
        with pytest.raises(UsageError, match="public benchmark"):
            refuse_benchmark(name, None)
    refuse_benchmark("ded", None)
    refuse_benchmark("mine.jsonl", None)
    (tmp_path / "own.yaml").write_text(
        "task: own_sums\ndataset_path: json\noutput_type: generate_until\n"
    )
    refuse_benchmark("lm_eval:own_sums", str(tmp_path))
    with pytest.raises(UsageError):
        refuse_benchmark("lm_eval:gsm8k", str(tmp_path))


def test_a_scorer_knows_its_items_by_id():
    """Items of a scorer are addresses; a pool of them can be dealt like any file."""
    items = Scorer("lm_eval:x").items(["0#a", "1#b", "2#c"])
    dealt = deal(items, {"search": 1, "confirm": 2}, "x")
    assert sorted(i.id for pool in dealt.values() for i in pool) == ["0#a", "1#b", "2#c"]
