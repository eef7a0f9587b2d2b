"""Tiny checkpoints on disk for tests: plain, sharded, tied, of odd formats; and broken by hand.

Written by the safetensors package or byte by byte, never by our own writer, so that reader and
writer are each tested against something else than the other.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def llama_tensors(seed: int = 0, dtype: torch.dtype = torch.float32, layers: int = 2) -> Tensors:
    """Draw the tensors of a Llama of width 8, vocabulary 12, with a head of its own."""
    g = torch.Generator().manual_seed(seed)
    shapes = {"model.embed_tokens.weight": (12, 8), "model.norm.weight": (8,)}
    for i in range(layers):
        shapes |= {f"model.layers.{i}.self_attn.{p}_proj.weight": (8, 8) for p in "qkvo"}
        shapes |= {f"model.layers.{i}.mlp.{p}_proj.weight": (16, 8) for p in ("gate", "up")}
        shapes |= {f"model.layers.{i}.mlp.down_proj.weight": (8, 16)}
        shapes |= {f"model.layers.{i}.input_layernorm.weight": (8,)}
        shapes |= {f"model.layers.{i}.post_attention_layernorm.weight": (8,)}
    shapes["lm_head.weight"] = (12, 8)
    drawn = {n: torch.randn(s, generator=g) for n, s in shapes.items()}
    return {n: (t + 1 if "norm" in n else t).to(dtype) for n, t in drawn.items()}


def config(dtype: str = "float32", layers: int = 2, *, tied: bool = False) -> dict[str, object]:
    """Return the config.json of such a Llama."""
    sizes = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 12}
    rest = {"num_hidden_layers": layers, "tie_word_embeddings": tied, "dtype": dtype}
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **sizes, **rest}


def write_model(folder: Path, tensors: Tensors, *, shards: int = 1, **settings: object) -> Path:
    """Write a model folder by the safetensors package: config.json and one file or shards."""
    folder.mkdir(parents=True, exist_ok=True)
    told = config() | settings
    (folder / "config.json").write_text(json.dumps(told, indent=2))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return folder
    names, table = sorted(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        mine = names[i::shards]
        save_file({n: tensors[n] for n in mine}, folder / file, {"format": "pt"})
        table |= dict.fromkeys(mine, file)
    write_index(folder, table)
    return folder


def write_index(folder: Path, table: Mapping[str, object]) -> None:
    """Write a model.safetensors.index.json with this weight_map."""
    text = json.dumps({"metadata": {"total_size": 1}, "weight_map": table})
    (folder / "model.safetensors.index.json").write_text(text)


def raw_file(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """Return the bytes of a file with this header (text, bytes or plain data), lies included."""
    text = header if isinstance(header, bytes | str) else json.dumps(header)
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, object]:
    """Return one tensor's entry in a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
