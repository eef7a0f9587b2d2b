"""How fast a merge is, and in how much memory, against the disk and against a plain torch loop.

Three ratios in one run, on synthetic bfloat16 models with the shapes of a small Llama:
  floor   read every input once, write the output once, fsync (what the disk alone takes)
  plain   the loop most people write: whole tensors, float32 stack, TIES by argsort
  merger  `merger merge`, peak memory of the whole process as the kernel counts it
Usage: python benchmarks/bench_merge.py [--gb 1.0] [--operators linear,ties] [--folder DIR]
Prints one JSON line per operator; dated rows are kept in benchmarks/results.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

WEIGHTS = {"ded": 1.0, "ind": 0.2, "abd": 0.1}
DENSITY = {"ties", "dare_ties", "dare_linear", "della", "breadcrumbs", "consensus"}


def main() -> None:
    """Make the models, take the three times for each operator, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1.0, help="size of all inputs together")
    parser.add_argument("--operators", default="linear,task_arithmetic,ties")
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--folder", type=Path, help="where to put the models (on the disk to test)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        folder = Path(place)
        size = make_models(folder, asked.gb)
        floor = best(lambda: disk(folder))
        for name in asked.operators.split(","):
            row = {"operator": name, "input_gb": round(size / 1e9, 2), "floor_s": round(floor, 2)}
            row["plain_s"] = round(best(lambda name=name: plain(folder, name)), 2)
            seconds, peak, command = merge(folder, name, asked.memory)
            row |= {"merger_s": round(seconds, 2), "command_s": round(command, 2)}
            row |= {"peak_mb": peak // 1000, "times_floor": round(seconds / floor, 2)}
            row |= {"faster_than_plain": round(row["plain_s"] / seconds, 1)}
            print(json.dumps(row | {"machine": platform.processor(), "cores": os.cpu_count()}))


def best(work: Callable[[], object], times: int = 2) -> float:
    """Return the least of a few wall times."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def make_models(folder: Path, gb: float) -> int:
    """Write base and three experts that share most of its bytes; return their size."""
    width, layers = 2048, max(1, round(gb * 1e9 / 4 / 2 / (2048 * 2048 * 12)))
    g = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (8000, width)}
    for i in range(layers):
        head = f"model.layers.{i}"
        shapes |= {f"{head}.self_attn.{p}_proj.weight": (width, width) for p in "qkvo"}
        shapes |= {f"{head}.mlp.{p}_proj.weight": (5461, width) for p in ("gate", "up")}
        shapes |= {f"{head}.input_layernorm.weight": (width,)}
    base = {n: torch.randn(s, generator=g) * 0.02 for n, s in shapes.items()}
    total = 0
    for name in ("base", *WEIGHTS):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({"num_hidden_layers": layers}))
        change = 0.0 if name == "base" else 0.001
        tensors = {
            n: (t + change * torch.randn(t.shape, generator=g)).bfloat16() for n, t in base.items()
        }
        file = folder / name / "model.safetensors"
        save_file(tensors, file)
        total += file.stat().st_size
    return total


def disk(folder: Path) -> None:
    """Read all inputs and write one output's bytes, fsync: what nobody can be faster than."""
    buffer = bytearray(8 << 20)
    for name in ("base", *WEIGHTS):
        with (folder / name / "model.safetensors").open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    out = folder / "floor.bin"
    left = (folder / "base" / "model.safetensors").stat().st_size
    with out.open("wb", buffering=0) as file:
        while left > 0:
            left -= file.write(buffer[: min(left, len(buffer))])
        os.fsync(file.fileno())
    out.unlink()


def plain(folder: Path, name: str) -> None:
    """Merge as a short script would: whole tensors in float32, a full sort for TIES."""
    files = {n: safe_open(folder / n / "model.safetensors", "pt") for n in ("base", *WEIGHTS)}
    made = {}
    for tensor in files["base"].keys():  # noqa: SIM118 - no mapping
        base = files["base"].get_tensor(tensor).float()
        experts = torch.stack([files[n].get_tensor(tensor).float() for n in WEIGHTS])
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


def merge(folder: Path, name: str, memory: str) -> tuple[float, int, float]:
    """Run the command; return seconds of the merge, peak resident kilobytes, seconds in all."""
    flags = ["--method", name, "--base", str(folder / "base"), "--memory", memory, "--force"]
    flags += [w for n, v in WEIGHTS.items() for w in ("--expert", f"{folder / n}={v}")]
    flags += ["--set", "density=0.5"] if name in DENSITY else []
    code = (
        "import sys, time, json; from merger.cli.app import app; import merger.cli;"
        "import torch, transformers.utils, merger.engine; start = time.perf_counter();"
        "app(sys.argv[1:], standalone_mode=False);"
        # VmHWM, not ru_maxrss: the latter is inherited from the process that started this one.
        "told = dict(l.split(':') for l in open('/proc/self/status').read().splitlines());"
        "peak = int(told['VmHWM'].split()[0]);"
        "print(json.dumps([time.perf_counter() - start, peak]))"
    )
    run = [sys.executable, "-c", code, "merge", *flags, str(folder / "out")]
    times = []
    for _ in range(2):
        start = time.perf_counter()
        told = subprocess.run(run, check=True, capture_output=True, text=True).stdout
        seconds, peak = json.loads(told.splitlines()[-1])
        times.append((seconds, peak, time.perf_counter() - start))
    return min(times)


if __name__ == "__main__":
    main()
