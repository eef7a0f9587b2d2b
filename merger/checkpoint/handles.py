"""Open files, as many as the machine allows: a model of a thousand shards keeps a thousand open."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def open_file(file: Path, flags: int) -> int:
    """Open a file; where the soft limit on open files is reached, raise it to the hard one first.

    Raises an OSError as os.open does. The caller closes the handle.
    """
    try:
        return os.open(file, flags, 0o666)
    except OSError as error:
        if error.errno != errno.EMFILE or not _raise_limit():
            raise
    return os.open(file, flags, 0o666)


def _raise_limit() -> bool:
    try:
        import resource
    except ImportError:  # not a POSIX system
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True
