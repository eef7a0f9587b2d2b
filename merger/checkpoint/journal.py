"""What a killed write leaves behind, so that its finished shards need not be made again.

OUT.partial holds a small journal: a key of the work (the spec's hash and the layout) and a marker
per finished shard, with the time of its last write: a shard touched since is made again. Markers
are separate files so that several processes can finish shards of one folder without talking to each
other. A different key refuses to resume.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from merger.checkpoint.folder import read_json
from merger.checkpoint.layout import Shard
from merger.checkpoint.place import sync
from merger.errors import CheckpointError, OutputError

FILE = ".merger-journal.json"
_DONE = ".done-"


def key_of(spec_hash: str, shards: Sequence[Shard]) -> str:
    """Hash what must be equal for shards of an earlier run to be ours: the spec and the headers."""
    total = hashlib.sha256(spec_hash.encode())
    for shard in shards:
        total.update(shard.name.encode() + b"\0" + shard.header)
    return total.hexdigest()


def begin(folder: Path, key: str) -> None:
    """Write the journal of a new run."""
    (folder / FILE).write_text(json.dumps({"key": key}) + "\n")


def finished(folder: Path, key: str, shards: Sequence[Shard]) -> set[str]:
    """Return the names of the shards that an earlier run finished; refuse another run's folder."""
    try:
        found = read_json(folder / FILE).get("key")
    except CheckpointError as error:
        law = f"{folder} has no readable journal"
        raise OutputError(law, "Start anew with --force.") from error
    if found != key:
        law = f"{folder} was begun with another spec, other inputs or another shard size"
        raise OutputError(law, "Start anew with --force, or choose another OUT.")
    return {s.name for s in shards if _whole(folder, s)}


def mark(folder: Path, shard: Shard) -> None:
    """Note that a shard is whole and on the disk."""
    (folder / f"{_DONE}{shard.name}").write_text(_written(folder / shard.name))
    sync(folder)


def erase(folder: Path) -> None:
    """Remove the journal and the markers: the folder is complete."""
    for file in (*folder.glob(f"{_DONE}*"), folder / FILE):
        file.unlink(missing_ok=True)


def _whole(folder: Path, shard: Shard) -> bool:
    file, marker = folder / shard.name, folder / f"{_DONE}{shard.name}"
    if not (marker.is_file() and file.is_file()) or file.is_symlink():
        return False
    return file.stat().st_size == shard.size and marker.read_text() == _written(file)


def _written(file: Path) -> str:
    return str(file.stat().st_mtime_ns)
