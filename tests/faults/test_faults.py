"""Four rounds of faults: each case once, at moments drawn from the seed."""

import os
import subprocess
import sys

import pytest

from tests.blocks import ROOT


@pytest.mark.slow
def test_nothing_is_lost(tmp_path):
    """Whatever strikes, a command goes on or says in two lines why not, and no work is lost."""
    words = [sys.executable, "-m", "tests.faults", "--rounds", "4"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("| 1 | 0 |") > 15
