"""Folders that hold a model in a form we do not read, answered with the command that converts it.

Pickles (`.bin`, `.pt`) run code when they are read, quantised weights cannot be added, and trainers
leave sharded states. Each is recognised by its file names or its config, never by loading it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merger.errors import CheckpointError

_LOAD = "from transformers import AutoModelForCausalLM as M"


def refuse_folder(folder: Path) -> CheckpointError:
    """Build the error for a folder without safetensors weights: what it is, how to convert it."""
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    for recognise in (_verl, _deepspeed, _distributed, _gguf, _pickle, _other):
        if found := recognise(folder, names):
            return CheckpointError(*found)
    if not folder.exists():
        return CheckpointError(f"{folder} does not exist", "Check the path.")
    listed = ", ".join(names[:6]) or "nothing"
    law = f"{folder} holds no model: no .safetensors file among {listed}"
    return CheckpointError(law, "Name the folder that holds config.json and model.safetensors.")


def refuse_quantised(folder: Path, config: Mapping[str, Any] | None) -> None:
    """Raise for a model whose config says that its weights are quantised (fp8, GPTQ, 4-bit)."""
    settings = (config or {}).get("quantization_config")
    if not isinstance(settings, Mapping):
        return
    method = str(settings.get("quant_method", "quantised"))[:40]
    if method == "bitsandbytes":
        method += " 4-bit" if settings.get("load_in_4bit") else " 8-bit"
    law = (
        f"{folder} holds {method} weights (quantization_config): they cannot be merged as they are"
    )
    raise CheckpointError(law, dequantise(folder))


def dequantise(folder: Path) -> str:
    """Return the remedy for a quantised model: the command that writes it in bfloat16."""
    new = f"{folder.name}-bf16"
    code = f"{_LOAD}; m = M.from_pretrained('{folder}', dtype='bfloat16'); "
    code += f"m.dequantize(); m.save_pretrained('{new}')"
    return f'Use the unquantised model, or convert it: python -c "{code}"'


def _verl(folder: Path, names: list[str]) -> tuple[str, str] | None:
    for part in ("", "actor"):
        inside = sorted(p.name for p in (folder / part).glob("model_world_size_*_rank_*.pt"))
        if inside:
            where = folder / part
            law = f"{where} is a verl/FSDP checkpoint ({inside[0]}), not a model folder"
            command = "python -m verl.model_merger merge --backend fsdp"
            return law, f"Convert it: {command} --local_dir {where} --target_dir {folder}-hf"
    return None


def _deepspeed(folder: Path, names: list[str]) -> tuple[str, str] | None:
    marks = ("zero_pp_rank_", "mp_rank_", "bf16_zero_pp_rank_")
    parts = [n for n in names if n.startswith(marks)]
    steps = [n for n in names if n.startswith("global_step")]
    if not (parts or "zero_to_fp32.py" in names or (steps and "latest" in names)):
        return None
    root = folder.parent if parts and (folder.parent / "zero_to_fp32.py").exists() else folder
    law = f"{folder} is a DeepSpeed checkpoint, not a model folder"
    script = root / "zero_to_fp32.py"
    return law, f"Convert it: python {script} {root} {root}-hf --safe_serialization"


def _distributed(folder: Path, names: list[str]) -> tuple[str, str] | None:
    if not any(n.endswith(".distcp") for n in names):
        return None
    law = f"{folder} is a sharded PyTorch checkpoint (.distcp), not a model folder"
    return law, f"Convert it: accelerate merge-weights {folder} {folder}-hf"


def _gguf(folder: Path, names: list[str]) -> tuple[str, str] | None:
    found = next((n for n in names if n.endswith(".gguf")), None)
    if found is None:
        return None
    code = f"{_LOAD}; M.from_pretrained('{folder}', gguf_file='{found}')"
    code += f".save_pretrained('{folder}-hf')"
    return (
        f"{folder} holds a GGUF file ({found}), which is not read",
        f'Convert it: python -c "{code}"',
    )


def _pickle(folder: Path, names: list[str]) -> tuple[str, str] | None:
    found = next((n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt"))), None)
    if found is None:
        return None
    code = f"{_LOAD}; M.from_pretrained('{folder}', dtype='auto').save_pretrained('{folder}-st')"
    law = f"{folder} holds pickled weights ({found}); a pickle runs code when it is read"
    return law, f'Convert it once, if you trust it: python -c "{code}"'


def _other(folder: Path, names: list[str]) -> tuple[str, str] | None:
    found = next((n for n in names if n.endswith((".msgpack", ".h5", ".npz", ".onnx"))), None)
    if found is None:
        return None
    return f"{folder} holds {found}, which is not read", "Export the model as safetensors."
