"""Scoring code of others, fenced: in a process of its own, with a limit of time and of memory.

Model text reaches libraries here (a computer algebra system, a task library) that may loop for ever
on it or fill the memory: `9^{9^{9^{9}}}` is enough. Such a call is ended, the process replaced, and
the answer counts as unreadable. The process starts once and is kept.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import cache
from importlib import import_module
from multiprocessing import TimeoutError as Late
from multiprocessing import get_context
from multiprocessing.pool import Pool
from typing import Any

SECONDS = 5.0
MEMORY = 4 << 30  # bytes of address space, libraries included


def limited(
    package: str, function: Callable[..., bool], *args: Any, seconds: float = SECONDS
) -> bool | None:
    """Return what a module's function says of its arguments; None if it raises or takes too long.

    `package` is what the function imports, which may take longer than it may itself. The function
    goes over by its name and `args` by value: no stranger's pickle is ever read.
    """
    pool = _worker()
    pool.apply(_load, (package,))
    try:
        return bool(pool.apply_async(function, args).get(seconds))
    except Late:
        pool.terminate()
        pool.join()
        _worker.cache_clear()
        return None
    except Exception:  # noqa: BLE001  whatever a library raises on text, the text is not readable
        return None


@cache
def _worker() -> Pool:
    # A new interpreter: a fork would copy the threads and the memory of a trainer.
    return get_context("spawn").Pool(1, _limit)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _load(package: str) -> None:
    import_module(package)
