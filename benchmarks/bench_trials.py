"""How many trials an hour a search makes, beside what people do today, on the embedded family.

The same items, the same machine, one run; a trial is a merge and its score. With one thread each:
  merger     the resident model takes the weights, our engine answers, the ledger keeps the scores
  in-process the same weights in place, lm-eval's own HF model reused for every trial
  commands   mergekit-yaml writes a folder, then lm_eval loads and scores it, both as fresh commands
With the whole machine: `merger, a worker a core` (as --workers; processes that begin together, each
with its own share of the trials) and `commands, all threads`, what both programs take unasked.
No trial is stopped early, so racing is not in the ratio. Usage:
  python benchmarks/bench_trials.py --mergekit .../bin/mergekit-yaml [--lm-eval .../bin/lm_eval]
       [--n 100] [--trials 12] [--fresh 1]
Prints one JSON document; dated rows are kept in benchmarks/results.md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import yaml

from evals.export import write_folder
from evals.generate import Answerer
from search.ask import options_of
from search.asked import Asked
from search.candidate import Candidate
from search.export import mergekit_config
from search.live import Models, default_levels, find_models, open_world
from search.run import Options, Run
from search.space import Space
from search.starts import fill
from search.world import World

EXPERTS = ("ded", "ind", "abd")
TASKS = "merger_deduction,merger_induction,merger_abduction"
LEVELS, BUDGET = (1,), 192
ALL = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ONE = ALL | {"OMP_NUM_THREADS": "1"}


def main() -> None:
    """Time the three ways and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mergekit", type=Path, help="path of mergekit-yaml")
    parser.add_argument("--lm-eval", type=Path, default=Path(sys.executable).with_name("lm_eval"))
    parser.add_argument("--n", type=int, default=100, help="items a task")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--fresh", type=int, default=1, help="trials by commands")
    asked = parser.parse_args()
    os.environ.update(ONE)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        items = write_folder(
            folder / "tasks", n=asked.n, split="search", levels=LEVELS, budget=BUDGET
        )
        world, models, options = opened(folder, asked.n)
        points = [Space(EXPERTS).candidate(p) for p in fill(Space(EXPERTS), asked.trials, 0)]
        rows = {"merger": ours(world, points), "in-process": reused(world, points[0], items)}
        rows["merger, a worker a core"] = workers(asked.n, points)
        for name, env in (("commands", ONE), ("commands, all threads", ALL)):
            if asked.mergekit:
                found = (
                    commands(folder, point, models, options, items, asked, env)
                    for point in points[: asked.fresh]
                )
                rows[name] = min(found, key=lambda row: row["seconds"])
    for name, row in rows.items():
        beside = rows["merger, a worker a core" if name.endswith(("core", "threads")) else "merger"]
        row["trials_per_hour"] = round(3600 / row["seconds"], 1)
        row["times"] = round(row["seconds"] / beside["seconds"], 1)
    machine = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "items": 3 * asked.n}
    print(json.dumps(rows | {"machine": machine}, indent=1))


def opened(folder: Path, n: int) -> tuple[World, Models, Options]:
    """Open the world of a search over the embedded family."""
    options = options_of(
        Asked(experts=",".join(EXPERTS), items=f"{n}+1", seed=0, max_new_tokens=BUDGET)
    )
    levels = dict.fromkeys(default_levels(options), LEVELS)
    options, models = replace(options, levels=levels, dtype="float32"), find_models(options)
    run = Run(folder / "run")
    run.create(options, {})
    return open_world(run, models), models, options


def ours(world: World, points: list[Candidate]) -> dict[str, float]:
    """Return the seconds of a trial, and of its merge; the first, which warms up, is left out."""
    times, merges = [], []
    for candidate in points:
        begin = time.perf_counter()
        world.holder.hold(candidate)
        merges.append(time.perf_counter() - begin)
        world.answers(candidate, "search")
        times.append(time.perf_counter() - begin)
    seconds, merge = statistics.median(times[1:]), statistics.median(merges[1:])
    return {"seconds": seconds, "merge_seconds": merge, "merge_share": merge / seconds}


def workers(n: int, points: list[Candidate]) -> dict[str, float]:
    """Return the seconds of a trial where each core has a worker, all ready before the clock."""
    context, count = get_context("spawn"), len(os.sched_getaffinity(0))
    ready, shares = context.Barrier(count + 1), [points[i::count] for i in range(count)]
    team = [context.Process(target=worker, args=(n, share, ready)) for share in shares]
    for one in team:
        one.start()
    ready.wait()
    begin = time.perf_counter()
    ready.wait()
    return {"seconds": (time.perf_counter() - begin) / sum(len(s) - 1 for s in shares)}


def worker(n: int, points: list[Candidate], ready: Any) -> None:
    """Score candidates in a process of one thread; the first, which warms up, before the clock."""
    os.environ.update(ONE)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        world, _, _ = opened(Path(place), n)
        for i, candidate in enumerate(points):
            world.answers(candidate, "search")
            if i == 0:
                ready.wait()
        ready.wait()


def reused(world: World, candidate: Candidate, items: Path) -> dict[str, float]:
    """Return the seconds of a trial by lm-eval in this process, its model object kept."""
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    answerer: Answerer = world.answerer
    lm = HFLM(pretrained=answerer.model, tokenizer=answerer.tokenizer, batch_size=64,
              max_length=answerer.context)  # fmt: skip
    manager = TaskManager(include_defaults=False, include_path=str(items))
    loaded = [manager.load(name)["tasks"] for name in TASKS.split(",")]
    found = {
        "tasks": {n: t for one in loaded for n, t in one.items()},
        "groups": {},
        "group_map": {},
    }
    begin = time.perf_counter()
    world.holder.hold(candidate)
    evaluate(lm=lm, task_dict=found, bootstrap_iters=0, apply_chat_template=True)
    return {"seconds": time.perf_counter() - begin}


def commands(
    folder: Path,
    candidate: Candidate,
    models: Models,
    options: Options,
    items: Path,
    asked: argparse.Namespace,
    more: dict[str, str],
) -> dict[str, float]:
    """Return the seconds of a trial by fresh commands: merge to the disk, load, score."""
    names = {name: str(models.folders[name]) for name in EXPERTS}
    config, _ = mergekit_config(candidate, names, str(models.folders[options.base]), "float32")
    (folder / "merge.yaml").write_text(yaml.safe_dump(config))
    shutil.rmtree(folder / "merged", ignore_errors=True)
    out, env = folder / "merged", _environment(more)
    score = [asked.lm_eval, "--model", "hf", "--tasks", TASKS, "--include_path", items,
             "--batch_size", "64", "--device", "cpu", "--apply_chat_template", "--model_args",
             f"pretrained={out},dtype=float32"]  # fmt: skip
    begin = time.perf_counter()
    subprocess.run([asked.mergekit, folder / "merge.yaml", out, "--quiet"], env=env, check=True,
                   capture_output=True)  # fmt: skip
    merged = time.perf_counter() - begin
    subprocess.run(score, env=env, check=True, capture_output=True, cwd=Path(__file__).parents[1])
    return {"seconds": time.perf_counter() - begin, "merge_seconds": merged}


def _environment(more: dict[str, str]) -> dict[str, str]:
    """Return the environment with these variables, and a number of threads only if they tell it."""
    return {k: v for k, v in os.environ.items() if k not in ONE} | more


if __name__ == "__main__":
    main()
