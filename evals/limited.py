"""Scoring code of others, fenced: in a process of its own, with a limit of time and of memory.

Model text reaches libraries here (a computer algebra system, a task library) that may loop for ever
on it or fill the memory: `9^{9^{9^{9}}}` is enough. Such a call is ended, the process replaced, and
the answer counts as unreadable. The process starts once and is kept.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import cache
from multiprocessing import TimeoutError as Late
from multiprocessing import get_context
from multiprocessing.pool import Pool
from typing import Any

SECONDS = 5.0
MEMORY = 4 << 30  # bytes of address space, libraries included


def limited(function: Callable[..., bool], *args: Any, seconds: float = SECONDS) -> bool | None:
    """Return what a module's function says of its arguments; None if it raises or takes too long.

    `function` and `args` are pickled by reference and by value; never a pickle of a stranger's.
    """
    pool = _worker()
    pool.apply(_ready, (function,))  # imports are not counted
    try:
        return bool(pool.apply_async(function, args).get(seconds))
    except Late:
        pool.terminate()
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


def _ready(function: Callable[..., bool]) -> None:
    """Do nothing; the function's module is imported on the way here."""
