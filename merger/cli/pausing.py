"""Ctrl-C and SIGTERM pause long work: what is done stays, and the line that resumes is printed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def pausing(resume: str) -> Iterator[None]:
    """Run work that Ctrl-C (or SIGTERM, as batch systems send it) pauses; `resume` continues it."""
    from merger.cli.console import say

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        say(f"paused; every score made so far is kept. Go on with: {resume}")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
