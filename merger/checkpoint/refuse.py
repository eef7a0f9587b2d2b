"""Folders that hold a model in a form we do not read, answered with the command that converts it.

Pickles (`.bin`, `.pt`) run code when they are read, quantised weights cannot be added, and trainers
leave sharded states. Each is recognised by its file names or its config, never by loading it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from merger.errors import CheckpointError
from merger.lines import read_yaml

_FORMS = Path(__file__).with_name("forms.yaml")


def refuse_folder(folder: Path) -> CheckpointError:
    """Build the error for a folder without safetensors weights: what it is, how to convert it."""
    if not folder.exists():
        return CheckpointError(f"{folder} does not exist", "Check the path.")
    for form in read_yaml(_FORMS).value if folder.is_dir() else ():
        if found := next((f for mark in form["marks"] for f in sorted(folder.glob(mark))), None):
            at = {"at": found.parent, "up": found.parent.parent, "file": found.name}
            law = f"{folder} {form['what']} ({found.relative_to(folder)})"
            return CheckpointError(law, form["remedy"].format(**at))
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
    code = "from transformers import AutoModelForCausalLM as M; "
    code += f"m = M.from_pretrained('{folder}', dtype='bfloat16'); m.dequantize(); "
    code += f"m.save_pretrained('{folder.name}-bf16')"
    return f'Use the unquantised model, or convert it: python -c "{code}"'
