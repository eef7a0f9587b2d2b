"""Scoring code of others, fenced: in a process of its own, with a limit of time and of memory.

Model text reaches libraries here (a computer algebra system, a task library) that may loop for ever
on it or fill the memory: `9^{9^{9^{9}}}` is enough. Such a call is ended, the process replaced, and
the answer counts as unreadable. The process starts once and is kept; questions and replies are
lines of JSON, so that nothing of a caller's script is run again in it, and no pickle is read.
"""

import atexit
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from select import select
from typing import Any

SECONDS = 5.0
LOADING = 300.0
MEMORY = 4 << 30  # bytes of address space, libraries included


def limited(
    package: str, function: Callable[..., bool], *args: Any, seconds: float = SECONDS
) -> bool | None:
    """Return what a module's function says of its arguments; None if it raises or takes too long.

    `package` is what the function imports, which may take longer than it may itself. The function
    goes over by its name, the arguments as JSON.
    """
    for module in (package, function.__module__):
        _ask("importlib", "import_module", [module], LOADING)
    return _ask(function.__module__, function.__name__, args, seconds)


def _ask(module: str, name: str, args: Sequence[Any], seconds: float) -> bool | None:
    worker = _worker()
    worker.stdin.write(json.dumps([module, name, args]) + "\n")
    worker.stdin.flush()
    heard, _, _ = select([worker.stdout], [], [], seconds)
    if heard and (line := worker.stdout.readline()):
        said: bool | None = json.loads(line)
        return said
    atexit.unregister(_end)
    _end(worker)
    _worker.cache_clear()
    return None


def _end(worker: Any) -> None:
    worker.kill()
    worker.communicate()


@cache
def _worker() -> Any:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    worker = subprocess.Popen(
        [sys.executable, "-m", "evals.limited"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    atexit.register(_end, worker)
    return worker


def _serve() -> None:
    """Answer each line of stdin by one of stdout, which is no place for what a library prints."""
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        module, name, args = json.loads(line)
        try:
            said = bool(getattr(import_module(module), name)(*args))
        except Exception:  # noqa: BLE001  whatever a library raises on text, the text is unreadable
            said = None
        replies.write(json.dumps(said) + "\n")
        replies.flush()


if __name__ == "__main__":
    _serve()
