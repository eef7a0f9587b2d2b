"""How fast a merge is, and in how much memory: against the disk, a plain torch loop and mergekit.

All in one run, on synthetic bfloat16 models with the shapes of a 1.1B Llama of fewer layers:
  floor     read every input once, write the output once, fsync (what the disk alone takes)
  plain     the loop most people write: whole tensors, float32 stack, TIES by argsort
  merger    `merger merge`: without start-up (against the floor) and as a command
  mergekit  the same YAML by the mergekit-yaml that is named, in turn with ours: A B A B
Usage: python benchmarks/bench_merge.py [--gb 1.0] [--operators linear,ties] [--folder DIR]
       [--mergekit .../bin/mergekit-yaml] [--mergekit-flags="--async-write"]
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
import yaml
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
    parser.add_argument("--mergekit", type=Path, help="path of a mergekit-yaml to compare with")
    parser.add_argument("--mergekit-flags", default="", help="options for it")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        folder = Path(place)
        size = make_models(folder, asked.gb)
        for name in asked.operators.split(","):
            floor = best(lambda name=name: disk(folder, name))
            row = {"operator": name, "input_gb": round(size / 1e9, 2), "floor_s": round(floor, 2)}
            row["plain_s"] = round(best(lambda name=name: plain(folder, name)), 2)
            row |= compare(write_config(folder, name), floor, asked)
            print(json.dumps(row | {"machine": platform.processor(), "cores": os.cpu_count()}))


def compare(config: Path, floor: float, asked: argparse.Namespace) -> dict[str, object]:
    """Run merger and, if it is there, mergekit in turn, twice; return best times, worst peaks."""
    ours, theirs = [], []
    for _ in range(2):
        ours.append(merge(config, asked.memory))
        if asked.mergekit:
            theirs.append(mergekit(config, asked.mergekit, asked.mergekit_flags.split()))
    seconds, command = min(o[0] for o in ours), min(o[2] for o in ours)
    row: dict[str, object] = {"merger_s": round(seconds, 2), "command_s": round(command, 2)}
    row |= {"peak_mb": max(o[1] for o in ours) // 1000, "times_floor": round(seconds / floor, 2)}
    if theirs:
        slow = min(t[0] for t in theirs)
        row |= {"mergekit_s": round(slow, 2), "mergekit_peak_mb": max(t[1] for t in theirs) // 1000}
        row |= {"faster_than_mergekit": round(slow / command, 1)}
    return row


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
    width, inner, words = 2048, 5632, 32_000
    layers = max(1, round((gb * 1e9 / 4 / 2 - words * width) / 44e6))
    told = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": words}
    told |= {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    told |= {"num_attention_heads": 32, "num_key_value_heads": 4, "tie_word_embeddings": True}
    g = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (words, width), "model.norm.weight": (width,)}
    for i in range(layers):
        head = f"model.layers.{i}"
        rows = {"q": width, "k": 256, "v": 256, "o": width}
        shapes |= {f"{head}.self_attn.{p}_proj.weight": (n, width) for p, n in rows.items()}
        shapes |= {f"{head}.mlp.{p}_proj.weight": (inner, width) for p in ("gate", "up")}
        shapes |= {f"{head}.mlp.down_proj.weight": (width, inner)}
        shapes |= {f"{head}.{p}_layernorm.weight": (width,) for p in ("input", "post_attention")}
    base = {n: torch.randn(s, generator=g) * 0.02 for n, s in shapes.items()}
    total = 0
    for name in ("base", *WEIGHTS):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(told))
        change = 0.0 if name == "base" else 0.001
        tensors = {
            n: (t + change * torch.randn(t.shape, generator=g)).bfloat16() for n, t in base.items()
        }
        file = folder / name / "model.safetensors"
        save_file(tensors, file, {"format": "pt"})
        total += file.stat().st_size
    return total


def disk(folder: Path, operator: str) -> None:
    """Read all inputs and write one output's bytes, fsync: what nobody can be faster than."""
    buffer = bytearray(8 << 20)
    for name in WEIGHTS if operator == "linear" else ("base", *WEIGHTS):
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


def merge(config: Path, memory: str) -> tuple[float, int, float]:
    """Run the command; return seconds of the merge, peak resident kilobytes, seconds in all."""
    code = (
        "import sys, time, json; from merger.cli.app import app; import merger.cli;"
        "import torch, merger.engine; start = time.perf_counter();"
        "app(sys.argv[1:], standalone_mode=False);"
        # VmHWM, not ru_maxrss: the latter is inherited from the process that started this one.
        "told = dict(l.split(':') for l in open('/proc/self/status').read().splitlines());"
        "peak = int(told['VmHWM'].split()[0]);"
        "print(json.dumps([time.perf_counter() - start, peak]))"
    )
    out = config.parent / "out"
    run = [sys.executable, "-c", code, "merge", str(config), str(out), "--memory", memory]
    start = time.perf_counter()
    told = subprocess.run([*run, "--force"], check=True, capture_output=True, text=True).stdout
    seconds, peak = json.loads(told.splitlines()[-1])
    return seconds, peak, time.perf_counter() - start


def mergekit(config: Path, program: Path, flags: list[str]) -> tuple[float, int]:
    """Run mergekit on the same config; return its seconds in all and peak resident kilobytes."""
    start, peak = time.perf_counter(), 0
    run = [str(program), str(config), str(config.parent / "theirs"), *flags, "--quiet"]
    with subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        status = Path(f"/proc/{child.pid}/status")
        while child.poll() is None:
            told = [line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line]
            peak = max([peak, *map(int, told)])
            time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"{' '.join(run)} failed: run it by hand to see why")
    return time.perf_counter() - start, peak


if __name__ == "__main__":
    main()
