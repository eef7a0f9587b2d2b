"""Peak memory of a merge over model sizes, up to tensors that no disk at hand could hold.

The inputs are sparse files: they have the headers, shapes and byte counts of real models and no
data on the disk, so every pass over them is made and only the numbers are zeros (which makes
thresholds trivial: times of TIES say nothing). Output goes nowhere (`--discard`). The peak is the
kernel's own count (VmHWM) of the whole process, start-up included.
  0.5b, 1.1b, 7b, 70b  the shapes of Qwen2.5-0.5B, TinyLlama-1.1B, Qwen2.5-7B and Llama-3-70B,
                 bfloat16, base and three experts
  tensor         one tensor of a single axis with 2·10^9 entries
Usage: python benchmarks/bench_memory.py [--sizes 0.5b,7b] [--operators linear,ties] [--layers N]
`--layers` keeps the tensors of a size and cuts its depth: a minute where the whole takes an hour.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# width, layers, inner width, key and value width, vocabulary
SIZES = {
    "0.5b": (896, 24, 4864, 128, 151_936),
    "1.1b": (2048, 22, 5632, 256, 32_000),
    "7b": (3584, 28, 18_944, 512, 152_064),
    "70b": (8192, 80, 28_672, 1024, 128_256),
}
MODELS = ("base", "ded", "ind", "abd")


def main() -> None:
    """Merge each size by each operator and print one JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="0.5b,7b,70b,tensor")
    parser.add_argument("--operators", default="linear,ties")
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--layers", type=int, help="layers at most")
    asked = parser.parse_args()
    for size in asked.sizes.split(","):
        shapes = shapes_of(size, asked.layers)
        with tempfile.TemporaryDirectory() as place:
            total = sum(write_sparse(Path(place) / m, shapes) for m in MODELS)
            for operator in asked.operators.split(","):
                start = time.perf_counter()
                peak = merge(Path(place), operator, asked.memory)
                row = {"size": size, "layers": asked.layers, "operator": operator}
                row |= {"inputs_gb": round(total / 1e9, 1), "memory": asked.memory}
                seconds = round(time.perf_counter() - start, 1)
                print(json.dumps(row | {"peak_mb": peak // 1000, "seconds": seconds}), flush=True)


def shapes_of(size: str, layers: int | None) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a model of that size."""
    if size == "tensor":
        return {"model.embed_tokens.weight": (2_000_000_000,)}
    width, depth, inner, narrow, vocabulary = SIZES[size]
    table: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for i in range(min(depth, layers or depth)):
        head = f"model.layers.{i}"
        rows = {"q": width, "k": narrow, "v": narrow, "o": width}
        table |= {f"{head}.self_attn.{p}_proj.weight": (n, width) for p, n in rows.items()}
        table |= {f"{head}.mlp.{p}_proj.weight": (inner, width) for p in ("gate", "up")}
        table |= {f"{head}.mlp.down_proj.weight": (width, inner)}
        table |= {f"{head}.{p}_layernorm.weight": (width,) for p in ("input", "post_attention")}
    table["model.norm.weight"] = (width,)
    return table if size == "0.5b" else table | {"lm_head.weight": (vocabulary, width)}


def write_sparse(folder: Path, shapes: dict[str, tuple[int, ...]]) -> int:
    """Write a model folder whose file has a header, its full length, and nothing in between."""
    folder.mkdir()
    (folder / "config.json").write_text('{"tie_word_embeddings": false}')
    table, end = {}, 0
    for name, shape in shapes.items():
        size = 2
        for n in shape:
            size *= n
        table[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(table).encode()
    header += b" " * (-len(header) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
    return end


def merge(folder: Path, operator: str, memory: str) -> int:
    """Run `merger merge --discard`; return the peak resident kilobytes."""
    flags = ["--method", operator, "--base", str(folder / "base"), "--memory", memory]
    flags += [w for n in MODELS[1:] for w in ("--expert", f"{folder / n}=0.5")]
    flags += ["--set", "density=0.5"] if operator == "ties" else []
    code = (
        "import sys; from merger.cli import app; app(sys.argv[1:], standalone_mode=False);"
        "print([l.split()[1] for l in open('/proc/self/status') if l.startswith('VmHWM')][0])"
    )
    run = [sys.executable, "-c", code, "merge", *flags, "--discard"]
    told = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    return int(told.split()[-1])


if __name__ == "__main__":
    main()
