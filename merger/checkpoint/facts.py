"""What a checkpoint holds, in a few numbers: for `merger inspect`.

Counts come from the headers, so the largest model is told in the time its headers take to read.
Parameters are the entries of float tensors; whole numbers and flags count as bytes alone.
"""

from collections import Counter
from typing import Any

from merger.checkpoint.folder import stating
from merger.checkpoint.reader import Checkpoint
from merger.checkpoint.sidecar import has_template, tokenizer_files
from merger.checkpoint.tied import ends_of
from merger.errors import MergerError
from merger.names import module_of, natural, placing

_CONFIG = (
    *("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings"),
    *("peft_type", "r", "lora_alpha", "base_model_name_or_path", "target_modules"),
)


def facts_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return counts, formats, config and neighbours of a checkpoint as one JSON document."""
    config = checkpoint.config or {}
    infos = checkpoint.tensors.values()
    place = placing(checkpoint.tensors)
    sizes, counts = Counter[str](), {by: Counter[str]() for by in ("dtype", "module", "layer")}
    for info in infos:
        sizes[info.dtype] += info.nbytes
        kinds = info.dtype, module_of(info.name), place(info.name)
        for count, kind in zip(counts.values(), kinds, strict=True):
            count[kind] += info.numel
    files = {info.file for info in infos}
    architectures = config.get("architectures") or [config.get("model_type")]
    return {
        "path": str(checkpoint.path),
        "architecture": architectures[0] if isinstance(architectures, list) else None,
        **{key: stating(config, key)[key] for key in _CONFIG if stating(config, key)},
        "tensors": len(checkpoint.tensors),
        "parameters": sum(info.numel for info in infos if info.is_float),
        "bytes": dict(sizes.most_common()),
        **{f"per_{by}": {k: c[k] for k in sorted(c, key=natural)} for by, c in counts.items()},
        "files": len(files),
        "embeddings": _embeddings(checkpoint),
        "tokenizer": tokenizer_files(checkpoint.folder),
        "chat_template": has_template(checkpoint.folder),
        "notes": checkpoint.notes,
        "header_fingerprint": checkpoint.header_fingerprint(),
    }


def _embeddings(checkpoint: Checkpoint) -> str:
    try:
        ends = ends_of(checkpoint)
    except MergerError as error:
        return error.law
    if ends.embed is None and ends.head is None:
        return "none found"
    if ends.tied:
        return "tied, stored twice" if ends.copy else "tied"
    return "separate" if ends.head else "input only"
