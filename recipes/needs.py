"""What a recipe takes, told before it runs: parameters, downloads, disk and memory.

Estimates by rule, from headers alone: bytes per parameter times parameters, activations and caches
not counted, so a lower bound. Nothing is fetched; of a Hub model that is not here its size is
asked for, and where the Hub cannot be reached the size is unknown.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from merger.checkpoint import open_checkpoint
from merger.errors import CheckpointError
from merger.experts import known_aliases

if TYPE_CHECKING:
    from recipes.rl.settings import Settings


class Needs(NamedTuple):
    """What a stage takes, in bytes per parameter of the first of its models.

    `disk` stays, `scratch` is gone when the stage is done; `gpu` says whose memory it is.
    """

    disk: int = 0
    scratch: int = 0
    memory: int = 0
    gpu: bool = False

    def times(self, number: int) -> Needs:
        """Return the same for so many parameters."""
        disk, scratch, memory = (number * each for each in self[:3])
        return Needs(disk, scratch, memory, self.gpu)


NOTHING = Needs()


class Weights(NamedTuple):
    """A model to start from: its parameters, and the bytes that must be fetched first."""

    parameters: int
    download: int = 0


def training_needs(settings: Settings) -> Needs:
    """Count weights, gradients, Adam's two states, the reference and vLLM's copy.

    An adapter's own part is left out.
    """
    gpu = settings.on_gpu or settings.vllm
    size = 2 if gpu else 4
    held = 1 if settings.lora else 4 + (settings.beta > 0)
    kept = 0 if settings.lora else 6 * size  # two checkpoints, each with Adam's states
    return Needs(size, kept, size * (held + settings.vllm), gpu)


def weigh(name: str, aliases: Mapping[str, str], family: str | None) -> Weights | None:
    """Return what a model weighs, from its headers, the Hub's cache or the Hub; None if unknown."""
    _, target, root = known_aliases(aliases, family).get(name, ("", name, Path()))
    folder = root / Path(target).expanduser()
    if folder.exists():
        return Weights(_parameters(folder))
    repo, _, revision = target.partition("@")
    return _of_hub(repo, revision or None)


def _of_hub(repo: str, revision: str | None) -> Weights | None:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Weights(_parameters(Path(snapshot_download(repo, local_files_only=True))))
    except (LocalEntryNotFoundError, CheckpointError):
        pass
    try:
        told = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=5)
    except Exception:  # noqa: BLE001  a check must not fail because there is no network
        return None
    files = [f.size or 0 for f in told.siblings or () if f.rfilename.endswith(".safetensors")]
    return Weights(told.safetensors.total, sum(files)) if told.safetensors else None


def _parameters(folder: Path) -> int:
    with closing(open_checkpoint(folder)) as checkpoint:
        return sum(tensor.numel for tensor in checkpoint.tensors.values())


def free_disk(place: Path) -> int:
    """Return the free bytes where a folder is or will be."""
    here = next(p for p in (place.absolute(), *place.absolute().parents) if p.exists())
    return shutil.disk_usage(here).free


def memory_here(*, gpu: bool) -> int:
    """Return the bytes of this machine's memory, or of all its GPUs together (0: none)."""
    if not gpu:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    from torch import cuda

    return sum(cuda.get_device_properties(i).total_memory for i in range(cuda.device_count()))
