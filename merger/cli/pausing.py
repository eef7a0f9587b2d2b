"""Long work: Ctrl-C and SIGTERM pause it and tell what resumes it; other processes join it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def pausing(resume: str, kept: str = "every score made so far") -> Iterator[None]:
    """Run work that Ctrl-C (or SIGTERM, as batch systems send it) pauses; `resume` continues it."""
    from merger.cli.console import say

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        say(f"paused; {kept} is kept. Go on with: {resume}")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def joined(run: Path, count: int) -> Iterator[None]:
    """Have other processes take trials of a run while the block lasts; they log into its folder."""
    command = [sys.executable, "-m", "merger.cli", "worker", "--join", str(run)]
    helpers = []
    for i in range(count):
        with (run / f"worker-{i + 1}.log").open("a") as log:
            helpers.append(subprocess.Popen(command, stdout=log, stderr=log))  # noqa: S603
    try:
        yield
        for helper in helpers:
            helper.wait()  # a trial in flight is finished, for its scores are paid for
    finally:
        for helper in helpers:
            helper.terminate()
            helper.wait()
