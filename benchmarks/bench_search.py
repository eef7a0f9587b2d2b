"""What racing saves and costs, and whether the reported score flatters: simulated worlds.

Every world is searched twice by the default protocol with the default number of trials, once with
racing and once without: the same items, starts and seeds. Printed in points, each with its standard
error over worlds: the part of the item evaluations that racing saved, the true regret of both and
their difference, and the optimism of the reported score. The confirm items of a world are easy or
hard for every recipe alike, so what they give to the reference, which was chosen on nothing, is
stated beside it and taken off in the last row. Usage, from the root of the repository:
  python benchmarks/bench_search.py [--worlds 30] [--first 0] [--trials 60]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.simulated import luck, searched


def main() -> None:
    """Search every world with and without racing and print the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="seed of the first world")
    parser.add_argument("--trials", type=int, default=60)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [compared(seed, asked.trials) for seed in range(asked.first, asked.first + asked.worlds)]
    table = {}
    for name in rows[0]:
        found = 100 * np.array([row[name] for row in rows])
        error = found.std(ddof=1) / np.sqrt(len(found))
        table[name] = {"mean": round(float(found.mean()), 2), "error": round(float(error), 2)}
    print(
        json.dumps(
            {"worlds": asked.worlds, "first": asked.first, "trials": asked.trials} | table, indent=1
        )
    )


def compared(seed: int, trials: int) -> dict[str, float]:
    """Return what one world says, as shares."""
    world, chosen, reported, saved = searched(seed, trials=trials)
    other, slowly, _, _ = searched(seed, trials=trials, rule="none")
    best, truth, plain = world.best(), world.truth(chosen), luck(world)
    return {
        "saved by racing": saved,
        "regret with racing": best - truth,
        "regret without": best - other.truth(slowly),
        "difference of regrets": other.truth(slowly) - truth,
        "luck of the confirm items": plain,
        "reported score minus truth": reported - truth,
        "optimism, luck taken off": reported - truth - plain,
    }


if __name__ == "__main__":
    main()
