"""Which files make up a model folder: one file, or the shards that an index names.

Names in an index are data from a stranger: no absolute path, no `..`, no link that leaves the
folder. The one layout allowed to link outwards is the Hub cache, where `snapshots/REV/FILE` points
into `blobs/` of the same repository.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from merger.checkpoint.header import load_json, printable
from merger.checkpoint.refuse import refuse_folder
from merger.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_JSON = 100_000_000
_TEXT = ("text_config", "llm_config", "language_config")
_SHARD = re.compile(r"(.+)-(\d{5,})-of-(\d{5,})\.safetensors")


def weight_files(path: Path) -> tuple[list[Path], dict[str, str] | None]:
    """Return the files of a model in order and, where there is an index, its map name -> file.

    `path` is a folder or one .safetensors file. Raises a CheckpointError for what is no model, for
    an index that names what it must not, and for each shard that is missing.
    """
    if path.suffix == ".safetensors" and path.is_file():
        return [path], None
    if not path.is_dir():
        raise refuse_folder(path)
    single, index = path / SINGLE, path / INDEX
    if single.exists() and index.exists() and SINGLE not in (table := read_index(index)).values():
        shards = ", ".join(sorted(set(table.values()))[:3])
        law = f"{path} holds two models: {SINGLE} and the shards of {INDEX} ({shards})"
        raise CheckpointError(law, f"Remove one of them, or name the file: {single}.")
    if single.exists():
        return [inside(path, SINGLE)], None
    if index.exists() or index.is_symlink():
        inside(path, INDEX)
        table = read_index(index)
        return _present(path, sorted(set(table.values())), INDEX), table
    return _without_index(path), None


def read_index(file: Path) -> dict[str, str]:
    """Read the weight_map of an index: every value is checked to be a plain relative file name."""
    table = read_json(file).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CheckpointError(f"{file} has no weight_map", "Fetch or export the model again.")
    for tensor, name in table.items():
        if not isinstance(name, str) or not _plain(name):
            law = f"{file} places {tensor[:80]!a} in {str(name)[:80]!a}, no file of the folder"
            raise CheckpointError(law, "An index may only name files of its own folder.")
    return table


def read_json(file: Path) -> dict[str, Any]:
    """Read a small JSON object (a config, an index) from a regular file."""
    try:
        info = file.stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_JSON:
            raise CheckpointError(f"{file} is no JSON file of sensible size", "Check the folder.")
        return load_json(file.read_bytes(), file)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}", "Check it.") from error


def stating(config: Mapping[str, Any] | None, key: str) -> Any:
    """Return the table that states a key: the config, or its part for the text of a larger model.

    An empty table where neither does.
    """
    tables = [config or {}, *((config or {}).get(part) for part in _TEXT)]
    return next((t for t in tables if isinstance(t, Mapping) and key in t), {})


def inside(folder: Path, name: str) -> Path:
    """Return `folder/name` if it is a regular file that does not leave the folder by a link."""
    file = folder / name
    try:
        real, home = file.resolve(strict=True), folder.resolve()
        regular = real.is_file()
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{file} is missing", "Fetch it again, or mend the link.") from error
    if not regular:
        raise CheckpointError(f"{file} is no regular file", "Check the folder.")
    if real.is_relative_to(home):
        return file
    if not any(real.is_relative_to(root) for root in (*_blobs(folder), *_blobs(home))):
        law = f"{file} is a link that leaves its folder, to {real}"
        raise CheckpointError(law, f"Copy the file, or name the folder {real.parent} instead.")
    return file


def _plain(name: str) -> bool:
    parts = PurePosixPath(name).parts
    bad = not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name
    bad = bad or not printable(name)
    return not bad and not re.match(r"[A-Za-z]:", name) and name.endswith(".safetensors")


def _blobs(folder: Path) -> list[Path]:
    # <cache>/models--org--name/snapshots/<revision>[/sub] -> <cache>/models--org--name/blobs
    for parent in (Path(os.path.abspath(folder)), *Path(os.path.abspath(folder)).parents):  # noqa: PTH100
        if parent.parent.name == "snapshots" and parent.parent.parent.name.startswith("models--"):
            return [(parent.parent.parent / "blobs").resolve()]
    return []


def _present(folder: Path, names: list[str], source: str) -> list[Path]:
    missing = [n for n in names if not os.path.lexists(folder / n)]
    if missing:
        law = f"{folder} lacks {', '.join(missing[:5])}, named by {source} ({len(missing)} missing)"
        raise CheckpointError(law, "Fetch the missing shards.")
    return [inside(folder, name) for name in names]


def _without_index(folder: Path) -> list[Path]:
    names = sorted(p.name for p in folder.glob("*.safetensors"))
    shards = [m for m in map(_SHARD.fullmatch, names) if m]
    if shards:
        stem, total = shards[0][1], shards[0][3]
        if len(total) > 7 or int(total) > 100_000:
            raise CheckpointError(f"{folder} claims {total} shards", "Check the folder.")
        numbers = (f"{i:0{len(total)}}" for i in range(1, int(total) + 1))
        wanted = [f"{stem}-{number}-of-{total}.safetensors" for number in numbers]
        return _present(folder, wanted, "the shards' own names")
    if len(names) == 1:
        return [inside(folder, names[0])]
    if names:
        law = f"{folder} holds {len(names)} safetensors files and no {INDEX}"
        raise CheckpointError(law, f"Name one of the files: {', '.join(names[:5])}.")
    raise refuse_folder(folder)
