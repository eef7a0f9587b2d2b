"""A command in a child process: forked from a warm parent, so that starting it costs nothing."""

import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path


def start(words, *, biggest=None):
    """Start a command here and return its process id; `biggest` bounds the bytes of a file."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    told = os.open("told.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    data = os.open("data.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(data, 1)
    os.dup2(told, 2)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if biggest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (biggest, biggest))
    code = 1
    try:
        from merger.cli.app import main

        main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001  the child's last words
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(pid):
    """Wait for a child; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(words, code=0, **how):
    """Run a command to its end, which must be this exit code; return what it said."""
    found = wait(start(words, **how))
    told = Path("told.txt").read_text(errors="replace")
    assert found == code, f"exit {found}, not {code}: {' '.join(words)}\n{told[-2000:]}"
    if code == 2:
        assert "error: " in told
        assert "Traceback" not in told
    return told


def struck(words, seconds, number):
    """Start a command, strike it with a signal after some seconds, and return how it ended."""
    pid = start(words)
    time.sleep(seconds)
    os.kill(pid, number)
    return wait(pid)
