"""How fast a merge is, and in how much memory: against the disk, a plain torch loop and mergekit.

All in one run, on synthetic bfloat16 models (base and three experts) with the shapes of a size:
  floor     read every input once, write the output once past the page cache, fsync: one thread
  merger    `merger merge` as a command; and without its start-up, to compare with the floor
  mergekit  the same YAML by the mergekit-yaml that is named, with its default options and with
            the fastest ones, in turn with ours: A B C A B C
  plain     with --plain, the loop most people write: whole tensors, float32 stack, full sorts
Usage: python benchmarks/bench_merge.py [--size 1.1b] [--layers N] [--operators linear,ties]
       [--folder DIR] [--mergekit .../bin/mergekit-yaml] [--rounds 2] [--memory 1GB] [--plain]
DIR (on the disk to test) keeps the models for the next time. Times are the best of the rounds, each
begun with what others wrote on the disk and all inputs read once, so that the cache holds them if
it can; peaks are the worst, of a whole process tree. Prints a JSON line and a row for
benchmarks/results.md for each operator.
"""

import argparse
import json
import mmap
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
import yaml
from bench_memory import MODELS, SIZES, shapes_of
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from merger.checkpoint import Writer
from merger.operators import OPERATORS

WEIGHTS = dict(zip(MODELS[1:], (1.0, 0.2, 0.1), strict=True))
DENSITY = {"ties", "dare_ties", "dare_linear", "della", "breadcrumbs", "consensus"}
SHARD = 1_000_000_000
FAST = ["--async-write", "--write-threads", "2", "--lazy-unpickle"]
OURS = (
    "import gc, sys, time; from merger.cli import main; gc.set_threshold(100_000)\n"
    "import merger.engine, {}\n"
    "start = time.perf_counter()\n"
    "try: main()\n"
    "finally: print(time.perf_counter() - start)"
)


class Run(tuple[float, float, int]):
    """Seconds in all, seconds without start-up (0 where not known), peak kilobytes."""


def main() -> None:
    """Make the models, take the times of each operator, print what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1.1b", choices=SIZES)
    parser.add_argument("--layers", type=int, help="layers at most")
    parser.add_argument("--operators", default="linear,task_arithmetic,ties")
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--folder", type=Path, help="where the models are, or are put and kept")
    parser.add_argument("--mergekit", type=Path, help="path of a mergekit-yaml to compare with")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-fast", action="store_true", help="mergekit's default options alone")
    parser.add_argument("--plain", action="store_true", help="time the plain loop too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = asked.folder or Path(place)
        make_models(folder, asked.size, asked.layers)
        for name in asked.operators.split(","):
            row = measure(folder, name, asked)
            print(json.dumps(row), flush=True)
            print("| " + " | ".join(str(v) for v in row.values()) + " |", flush=True)


def measure(folder: Path, name: str, asked: argparse.Namespace) -> dict[str, object]:
    """Time one operator every way there is."""
    config, inputs = write_config(folder, name), files_of(folder, name)
    settle(inputs)
    seconds = min(timed(lambda: disk(folder, inputs)) for _ in range(2))
    also = "merger.spec" if OPERATORS[name].line else "torch"  # loaded only where it is used
    ways = {"merger": [sys.executable, "-c", OURS.format(also), "merge", "--memory", asked.memory]}
    if asked.mergekit:
        ways["mergekit"] = [str(asked.mergekit)]
        ways |= {} if asked.no_fast else {"mergekit fast": [str(asked.mergekit), *FAST]}
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for _ in range(asked.rounds):
        for way, command in ways.items():
            settle(inputs)
            runs[way].append(watched([*command, str(config), str(folder / "out")]))
            shutil.rmtree(folder / "out")
    ours = min(run[0] for run in runs["merger"])
    alone = min(run[1] for run in runs["merger"])
    row: dict[str, object] = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count()}
    row |= {"operator": name, "input_gb": round(sum(f.stat().st_size for f in inputs) / 1e9, 2)}
    row |= {"floor_s": round(seconds, 2), "without start-up": round(alone, 2)}
    row |= {"times floor": round(alone / seconds, 1)}
    for way, all_ in runs.items():
        best = min(run[0] for run in all_)
        row |= {f"{way} s": round(best, 1), f"{way} MB": max(r[2] for r in all_) // 1000}
        row |= {} if way == "merger" else {f"faster than {way}": round(best / ours, 1)}
    if asked.plain:
        row["plain loop s"] = round(timed(lambda: plain(folder, name)), 1)
    return row


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def settle(inputs: list[Path]) -> None:
    """Let the disk come to rest and the cache hold the inputs, whatever ran before."""
    os.sync()
    read(inputs)


def read(inputs: list[Path]) -> None:
    """Read all bytes of some files."""
    buffer = bytearray(1 << 20)
    for name in inputs:
        with name.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def watched(command: list[str]) -> Run:
    """Run a command; return its times and the most memory that its process tree held."""
    # Bytecode is kept, as it is for installed packages, wherever this is run.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env |= {
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "bytecode"),
        "HF_HUB_OFFLINE": "1",
    }
    start, peak = time.perf_counter(), 0
    with (
        tempfile.TemporaryFile("w+") as told,
        subprocess.Popen(command, env=env, stdout=told, stderr=subprocess.DEVNULL) as child,
    ):
        ended = os.pidfd_open(child.pid)
        while not select.select([ended], [], [], 0.1)[0]:
            peak = max(peak, held(child.pid))
        child.wait()
        seconds = time.perf_counter() - start
        os.close(ended)
        if child.returncode:
            raise SystemExit(f"{' '.join(command)} failed: run it by hand to see why")
        told.seek(0)
        lines = told.read().split()
    with suppress(IndexError, ValueError):
        return Run((seconds, float(lines[-1]), peak))
    return Run((seconds, 0.0, peak))


def held(pid: int) -> int:
    """Return the kilobytes that a process and its children have held at most, by the kernel."""
    with suppress(OSError, StopIteration):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        own = int(next(line.split()[1] for line in status if line.startswith("VmHWM")))
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        return own + sum(held(int(c)) for t in threads for c in t.read_text().split())
    return 0


def make_models(folder: Path, size: str, layers: int | None) -> None:
    """Write base and experts tensor by tensor, unless they are there."""
    width, depth, inner, narrow, words = SIZES[size]
    shapes = shapes_of(size, layers)
    told = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": words}
    told |= {"hidden_size": width, "intermediate_size": inner}
    told |= {"num_hidden_layers": min(depth, layers or depth), "num_attention_heads": width // 64}
    told |= {"num_key_value_heads": narrow // 64}
    told |= {"tie_word_embeddings": "lm_head.weight" not in shapes}
    planned = [(name, "BF16", shape) for name, shape in shapes.items()]
    if (folder / MODELS[-1]).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, model in enumerate(MODELS):
        base, own = (torch.Generator().manual_seed(seed) for seed in (0, number))
        with Writer(folder / model, planned, SHARD, force=True) as writer:
            for name, _, shape in planned:
                tensor = torch.randn(shape, generator=base) * 0.02
                if number:
                    tensor += 0.001 * torch.randn(shape, generator=own)
                writer.write(name, 0, tensor.bfloat16().view(-1, shape[-1]))
            (writer.folder / "config.json").write_text(json.dumps(told))
            writer.commit()


def files_of(folder: Path, operator: str) -> list[Path]:
    """Return the files that a merge reads."""
    models = MODELS[operator == "linear" :]
    return [file for model in models for file in sorted((folder / model).glob("*.safetensors"))]


def disk(folder: Path, inputs: list[Path]) -> None:
    """Read all inputs, write one output's bytes past the page cache, fsync: what a disk takes."""
    read(inputs)
    buffer = mmap.mmap(-1, 8 << 20)
    left = sum(file.stat().st_size for file in (folder / "base").glob("*.safetensors"))
    fd = os.open(folder / "floor.bin", os.O_WRONLY | os.O_CREAT | getattr(os, "O_DIRECT", 0))
    while left > 0:
        left -= os.write(fd, buffer)
    os.fsync(fd)
    os.close(fd)
    (folder / "floor.bin").unlink()


def plain(folder: Path, name: str) -> None:
    """Merge as a short script would: whole tensors in float32, a full sort for TIES."""
    files = {n: [safe_open(f, "pt") for f in (folder / n).glob("*.safetensors")] for n in MODELS}
    made = {}
    for shard, opened in enumerate(files["base"]):
        for tensor in opened.keys():  # noqa: SIM118 - no mapping
            base = opened.get_tensor(tensor).float()
            experts = torch.stack([files[n][shard].get_tensor(tensor).float() for n in WEIGHTS])
            w = torch.tensor(list(WEIGHTS.values())).view(-1, *[1] * base.dim())
            made[tensor] = _plain(name, base, experts, w).bfloat16()
    save_file(made, folder / "plain.safetensors")
    with (folder / "plain.safetensors").open("rb") as file:
        os.fsync(file.fileno())
    (folder / "plain.safetensors").unlink()


def _plain(name: str, base: Tensor, experts: Tensor, w: Tensor) -> Tensor:
    if name == "linear":
        return (w * experts).sum(0) / w.sum(0)
    changes = experts - base
    if name != "ties":
        return base + (w * changes).sum(0)
    for change in changes:
        flat = change.view(-1)
        flat[flat.abs().argsort(descending=True)[int(0.5 * flat.numel()) :]] = 0
    changes = w * changes
    majority = torch.where(changes.sum(0) >= 0, 1.0, -1.0)
    mask = changes.sign() == majority
    divisor = (w * mask).sum(0)
    return base + (changes * mask).sum(0) / torch.where(divisor == 0, 1.0, divisor)


def write_config(folder: Path, name: str) -> Path:
    """Write the merge as YAML that both programs read; return its path."""
    knobs = {"density": 0.5} if name in DENSITY else {}
    models = [
        {"model": str(folder / n), "parameters": {"weight": w, **knobs}} for n, w in WEIGHTS.items()
    ]
    told = {"merge_method": name, "models": models, "dtype": "float32", "out_dtype": "bfloat16"}
    told |= {} if name == "linear" else {"base_model": str(folder / "base")}
    (folder / f"{name}.yml").write_text(yaml.safe_dump(told))
    return folder / f"{name}.yml"


if __name__ == "__main__":
    main()
