"""Folders that hold a model in a form we do not read, answered with the command that converts it.

Pickles (`.bin`, `.pt`) run code when they are read, quantised weights cannot be added, and trainers
leave sharded states. Each is recognised by its file names or its config, never by loading it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from merger.errors import CheckpointError

_LOAD = "from transformers import AutoModelForCausalLM as M; M.from_pretrained"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Form(NamedTuple):
    """A form of weights: what its files are called, what it is, and the way out of it.

    `{at}` is the folder of the file found, `{up}` the one above, `{file}` its name.
    """

    marks: tuple[str, ...]
    what: str
    remedy: str


# Looked for in this order: what a trainer leaves holds pickles too.
_FORMS = (
    Form(
        ("model_world_size_*_rank_*.pt", "actor/model_world_size_*_rank_*.pt"),
        "is a verl/FSDP checkpoint",
        "Convert it: python -m verl.model_merger merge --backend fsdp --local_dir {at} "
        "--target_dir {at}-hf",
    ),
    Form(
        ("zero_to_fp32.py",),
        "is a DeepSpeed checkpoint",
        "Convert it: python {at}/zero_to_fp32.py {at} {at}-hf --safe_serialization",
    ),
    Form(
        ("zero_pp_rank_*", "bf16_zero_pp_rank_*", "mp_rank_*"),
        "is part of a DeepSpeed checkpoint",
        "Convert it: python {up}/zero_to_fp32.py {up} {up}-hf --safe_serialization",
    ),
    Form(
        ("*.distcp", "pytorch_model_fsdp_*/*.distcp"),
        "is a sharded PyTorch checkpoint",
        "Convert it: accelerate merge-weights {at} {at}-hf",
    ),
    Form(
        ("*.gguf",),
        "holds a GGUF file, which is not read",
        'Convert it: python -c "' + _LOAD + "('{at}', gguf_file='{file}')"
        ".save_pretrained('{at}-hf')\"",
    ),
    Form(
        _PICKLED,
        "holds pickled weights; a pickle runs code when it is read",
        'Convert it once, if you trust it: python -c "' + _LOAD + "('{at}', dtype='auto')"
        ".save_pretrained('{at}-st')\"",
    ),
    Form(
        ("*.msgpack", "*.h5", "*.npz", "*.onnx"),
        "holds weights of a format that is not read",
        "Export the model as safetensors.",
    ),
    Form(
        ("checkpoint-*/*.safetensors", "global_step*/zero_pp_rank_*", "*/model.safetensors"),
        "holds no model itself, but folders that do",
        "Name one of them: {at}.",
    ),
)


def refuse_folder(folder: Path) -> CheckpointError:
    """Build the error for a folder without safetensors weights: what it is, how to convert it."""
    if not folder.exists():
        return CheckpointError(f"{folder} does not exist", "Check the path.")
    for form in _FORMS if folder.is_dir() else ():
        if found := next((f for mark in form.marks for f in sorted(folder.glob(mark))), None):
            at = {"at": found.parent, "up": found.parent.parent, "file": found.name}
            law = f"{folder} {form.what} ({found.relative_to(folder)})"
            return CheckpointError(law, form.remedy.format(**at))
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    law = f"{folder} holds no model: no .safetensors file among {', '.join(names[:6]) or 'nothing'}"
    return CheckpointError(law, "Name the folder that holds config.json and model.safetensors.")


def refuse_quantised(folder: Path, config: Mapping[str, Any] | None) -> None:
    """Raise for a model whose config says that its weights are quantised (fp8, GPTQ, 4-bit)."""
    settings = (config or {}).get("quantization_config")
    if not isinstance(settings, Mapping):
        return
    method = str(settings.get("quant_method", "quantised"))[:40]
    if method == "bitsandbytes":
        method += " 4-bit" if settings.get("load_in_4bit") else " 8-bit"
    law = f"{folder} holds {method} weights (quantization_config)"
    raise CheckpointError(f"{law}: they cannot be merged as they are", dequantise(folder))


def dequantise(folder: Path) -> str:
    """Return the remedy for a quantised model: the command that writes it in bfloat16."""
    code = f"m = M.from_pretrained('{folder}', dtype='bfloat16'); m.dequantize(); "
    code += f"m.save_pretrained('{folder.name}-bf16')"
    code = f"{_LOAD.partition(' M.')[0]} {code}"
    return f'Use the unquantised model, or convert it: python -c "{code}"'
