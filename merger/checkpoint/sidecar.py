"""Everything of a model folder that is not weights, copied byte for byte from its donor.

Config, generation config, tokenizer and chat template stay as they are: writing them anew through a
library loses keys and reorders tokens. The one thing changed is the dtype that config.json states,
and only where the weights were written in another; even then the rest of its text is kept.
"""

import json
import re
import shutil
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from merger.checkpoint.dtypes import FLOATS, dtype_name
from merger.checkpoint.folder import inside, read_json, stating
from merger.checkpoint.header import load_json
from merger.errors import CheckpointError

CONFIG = "config.json"
_KEY, _TEMPLATE = "chat_template", ("chat_template*",)
_TEMPLATES = "additional_chat_templates"  # a folder of *.jinja, as transformers 5 writes it
_TOKENIZER = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "merges.txt", "vocab.*"),
    *("*.model", "*.tiktoken", "tekken.json", *_TEMPLATE, f"{_TEMPLATES}/*.jinja"),
)
_MODEL = ("generation_config.json", "*processor_config.json", "LICENSE*", "NOTICE*")
# Not part of what a merge hands on, and not worth a word.
_SILENT = (
    *("*.safetensors", "*.safetensors.index.json", "README*", ".*", "*.bin", "*.gguf", "merger*"),
)
_DTYPE = re.compile(r'("(?:torch_)?dtype"\s*:\s*")(float64|float32|bfloat16|float16)(")')


class Sidecar(NamedTuple):
    """What was done beside the weights: files copied, files left, changes made, each named."""

    copied: list[str]
    left: list[str]
    changed: list[str]


def copy_sidecar(
    donor: Path,
    folder: Path,
    *,
    dtype: str | None = None,
    tokenizer: Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Sidecar:
    """Copy the files beside the weights of `donor` into `folder`.

    `dtype` is the header code ("BF16") that most weights were written in; `tokenizer` another
    folder that gives tokenizer and chat template; `changes` are config keys set anew, where they
    stand. Raises a CheckpointError for a config that is no JSON or a file that is a link out of
    its folder.
    """
    words = tokenizer or donor
    copied = _copy(donor, folder, _MODEL) + _copy(words, folder, _TOKENIZER)
    changed: list[str] = []
    if (donor / CONFIG).exists():
        text, changed = _config(inside(donor, CONFIG), dtype, dict(changes or {}))
        (folder / CONFIG).write_bytes(text)
        copied.append(CONFIG)
    kept = {*copied, *(_names(donor, _TOKENIZER) if tokenizer else ())}
    others = (n for n in _names(donor, ("*",)) if "/" not in n)
    left = [n for n in others if n not in kept and not _match(n, _SILENT)]
    return Sidecar(sorted(copied), left, changed)


def write_template(folder: Path, template: str) -> None:
    """Write a chat template of its own, which transformers prefers to one in the tokenizer's."""
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")


def dominant(written: Mapping[str, int]) -> str | None:
    """Return the float format that holds most bytes, given the bytes written per header code."""
    floats = {code: size for code, size in written.items() if code in FLOATS}
    return max(floats, key=lambda code: (floats[code], code)) if floats else None


def _match(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _names(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    files = (p for p in (*folder.iterdir(), *folder.glob(f"{_TEMPLATES}/*")) if p.is_file())
    return sorted(n for p in files if _match(n := str(p.relative_to(folder)), patterns))


def _copy(donor: Path, folder: Path, patterns: tuple[str, ...]) -> list[str]:
    names = [n for n in _names(donor, patterns) if not n.endswith(".safetensors")]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(inside(donor, name), folder / name)
    return names


def _config(file: Path, dtype: str | None, changes: dict[str, Any]) -> tuple[bytes, list[str]]:
    raw = file.read_bytes()
    table = load_json(raw, file)  # also the check that it is one
    said = []
    for key, value in changes.items():
        found = stating(table, key) or table
        if key not in found or found[key] != value:
            said.append(f"{key}: {found.get(key)} -> {value}")
            found[key] = value
    if said:
        raw = json.dumps(table, indent=2, ensure_ascii=False).encode() + b"\n"
    if dtype is not None:
        raw, other = _restate(raw, dtype_name(dtype), file)
        said += other
    return raw, said


def _restate(raw: bytes, name: str, file: Path) -> tuple[bytes, list[str]]:
    # All nested configs (text_config of a vision model) state the dtype too; hence a text edit.
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file} is not UTF-8", "Fetch it again.") from error
    said = sorted({f"dtype: {old} -> {name}" for _, old, _ in _DTYPE.findall(text) if old != name})
    return _DTYPE.sub(rf"\g<1>{name}\g<3>", text).encode(), said


def tokenizer_files(folder: Path) -> list[str]:
    """Return the names of the tokenizer's files in a folder."""
    return _names(folder, _TOKENIZER)


def has_template(folder: Path) -> bool:
    """Say whether a folder holds a chat template: its own file or a tokenizer's key."""
    file = folder / "tokenizer_config.json"
    inner = file.is_file() and read_json(inside(folder, file.name)).get(_KEY)
    return bool(inner or _names(folder, _TEMPLATE))
