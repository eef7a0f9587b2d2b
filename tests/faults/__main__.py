"""Put every fault on every command for some rounds and print a table: `python -m tests.faults`.

Four rounds try each case once (a round takes every fourth), twenty try each five times, at other
moments. The table of docs/reliability.md is what this prints.
"""

import argparse
import os
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def main():
    """Return 0 where nothing was lost."""
    asked = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    asked.add_argument("--rounds", type=int, default=20, help="4 try each case once")
    asked.add_argument("--seed", type=int, default=0, help="of the moments")
    asked.add_argument("--only", default="", help="part of a case's name")
    options = asked.parse_args()
    from tests.faults.cases import CASES

    _warm()
    tried, lost = Counter(), Counter()
    for number in range(options.rounds):
        for place, case in enumerate(CASES):
            if place % 4 == number % 4 and options.only in " ".join(case):
                tried[case] += 1
                lost[case] += not _try(case, CASES[case][0], Random(f"{options.seed} {number}"))
    say = sys.stdout.write
    say("| fault | command | rounds | lost | recovered by |\n|---|---|---|---|---|\n")
    for (name, command), (_, recovered) in CASES.items():
        if tried[name, command]:
            counts = f"{tried[name, command]} | {lost[name, command]}"
            say(f"| {name} | {command} | {counts} | {recovered} |\n")
    return int(lost.total() > 0)


def _warm():
    """Import here all that a command needs, so that a forked one starts with it."""
    import torch
    import trl

    import merger.cli
    import recipes.runner
    from tests.faults.cases import EVAL, elsewhere

    torch.set_num_threads(1)
    assert trl.GRPOTrainer
    assert recipes.runner.Runner
    with elsewhere(), suppress(SystemExit):
        merger.cli.main(EVAL.split())


def _try(case, function, rng):
    here, begin = Path.cwd(), time.monotonic()
    with TemporaryDirectory(prefix="fault-") as folder:
        os.chdir(folder)
        try:
            function(rng)
        except Exception:  # noqa: BLE001  the other cases are tried all the same
            sys.stderr.write(f"LOST {' / '.join(case)}\n")
            traceback.print_exc()
            return False
        finally:
            os.chdir(here)
    sys.stderr.write(f"{' / '.join(case)}: {time.monotonic() - begin:.1f} s\n")
    return True


sys.exit(main())
