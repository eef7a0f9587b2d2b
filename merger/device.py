"""Devices by name: what torch knows and this machine has, said before any work; their memory.

A device that is not here is refused before a model is read, in our own two lines. "cpu" is known
without loading torch, which takes a second that a finished command can spare.
"""

import sys
from pathlib import Path

from merger.errors import UsageError


def check_device(name: str) -> str:
    """Return the name of a device that is here; a UsageError for any other."""
    if name == "cpu":  # always here, and asked for where torch is not loaded yet
        return name
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"no device named {name!r}", "Use cpu, cuda or cuda:N.") from error
    here = {"cpu": 1, "cuda": torch.cuda.device_count()}
    if (device.index or 0) >= here.get(device.type, 0):
        law = f"device {name!r} is not here: {here['cuda']} CUDA devices"
        raise UsageError(law, "Use cpu, or a machine that has one.")
    return name


def free_memory(name: str) -> int:
    """Return the bytes that a device could still give; where the system does not say, no bound."""
    if name != "cpu":
        import torch

        return int(torch.cuda.mem_get_info(name)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(dict(line.split(":") for line in lines)["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return sys.maxsize
