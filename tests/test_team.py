"""Several processes write one folder: the bytes of one process, and nobody waits for the dead."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints import llama_tensors, write_model

ROOT = Path(__file__).parents[1]


def launch(folder, out, *, size=2, flags=()):
    """Start the processes as torchrun does, and return what each ended with and said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "merger.cli", "merge", "--method", "ties", "--base", "base"]
    command += ["--expert", "ded=1", "--expert", "ind=0.3", "--set", "density=0.5"]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    runs = []
    for rank in range(size):
        env = os.environ | meeting | {"RANK": str(rank), "PYTHONPATH": str(ROOT)}
        run = [*command, "--shard-size", "1KB", *flags, str(out)]
        pipe = subprocess.PIPE
        runs.append(subprocess.Popen(run, cwd=folder, env=env, stderr=pipe, text=True))
    said = [run.communicate(timeout=120)[1] for run in runs]
    return [(run.returncode, text) for run, text in zip(runs, said, strict=True)]


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(tmp_path):
    """Weights, index and papers are the same; the first process alone speaks."""
    for i, name in enumerate(("base", "ded", "ind")):
        write_model(tmp_path / name, llama_tensors(i))
    (alone,) = launch(tmp_path, "one/out", size=1)
    first, second = launch(tmp_path, "two/out")
    assert (alone[0], first[0], second[0]) == (0, 0, 0), (alone, first, second)
    assert second[1] == ""
    one, two = (
        {f.name: f.read_bytes() for f in (tmp_path / n / "out").iterdir()} for n in ("one", "two")
    )
    assert len([n for n in one if n.endswith(".safetensors")]) > 4
    assert one == two


@pytest.mark.slow
def test_a_refusal_ends_all_processes(tmp_path):
    """Where OUT is taken the first process says so, the second does not wait, OUT is untouched."""
    for i, name in enumerate(("base", "ded", "ind", "out")):
        write_model(tmp_path / name, llama_tensors(i))
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    first, second = launch(tmp_path, "out")
    assert (first[0], second[0]) == (2, 2)
    assert "exists" in first[1]
    assert "another process" in second[1]
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    assert not (tmp_path / "out.partial").exists()
