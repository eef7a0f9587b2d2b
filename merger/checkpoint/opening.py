"""Open whatever a path holds: a model folder, one file of weights, or a LoRA adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from merger.checkpoint.adapter import CONFIG, AdapterCheckpoint, is_adapter, weights_of
from merger.checkpoint.folder import inside, read_json
from merger.checkpoint.reader import Checkpoint, FolderCheckpoint
from merger.errors import CheckpointError


def open_checkpoint(
    path: str | Path, base: Checkpoint | None = None, *, bare: bool = False
) -> Checkpoint:
    """Open a model folder or a .safetensors file, having checked all it says about itself.

    A folder that holds a LoRA adapter stands for `base` with its change, and needs one; `bare`, it
    is its own tensors and settings. Raises a CheckpointError for anything broken, missing, or of a
    kind that is not read.
    """
    folder = Path(path)
    if not is_adapter(folder):
        return FolderCheckpoint(folder)
    if bare:
        alone = FolderCheckpoint(weights_of(folder))
        alone.config = read_json(inside(folder, CONFIG))
        return alone
    if base is None:
        trained = read_json(inside(folder, CONFIG)).get("base_model_name_or_path")
        law = f"{folder} is a LoRA adapter, which is no model without its base ({trained})"
        raise CheckpointError(law, "Name the base of the merge: `base_model:` or --base.")
    return AdapterCheckpoint(folder, base)


def open_models(folders: Mapping[str, Path], base: str | None) -> dict[str, Checkpoint]:
    """Open several models by name, the adapters among them through `base`."""
    found: dict[str, Checkpoint] = {}
    for name in sorted(folders, key=lambda n: n != base):
        found[name] = open_checkpoint(folders[name], found.get(base or ""))
    return {name: found[name] for name in folders}
