"""What a killed process leaves behind: half a line in a journal, a trial that nobody runs.

Nobody says goodbye when killed: a trial carries the host and process that runs it, and is given up
when that process is gone. Of other hosts nothing is known, so their trials are left alone.
"""

import json
import os
import socket
from datetime import datetime
from fcntl import LOCK_EX, flock
from pathlib import Path

from merger.errors import SearchError


def this_worker() -> str:
    """Return the name under which this process takes trials."""
    return f"{socket.gethostname()}:{os.getpid()}"


def alive(worker: str, begun: datetime | None = None) -> bool:
    """Say whether a trial's process may still run; of other hosts nothing is known, so yes.

    A trial that names none is given a minute from when it begun.
    """
    host, _, pid = worker.rpartition(":")
    if not pid:
        return begun is not None and (datetime.now(begun.tzinfo) - begun).total_seconds() < 60
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid() and not _ended(int(pid))


def _ended(pid: int) -> bool:
    """Say whether a process has ended and its parent has not yet asked how."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state == "Z"


class JournalLock:
    """One writer of a journal at a time, as Optuna wants it; a kill frees it at once.

    Optuna's own locks are files that a killed process leaves: the next one waits for half a minute.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        """Wait for the other threads and processes."""
        file = self._path.open("ab")
        flock(file, LOCK_EX)
        self._file = file
        return True

    def release(self) -> None:
        """Let the next one write."""
        self._file.close()


def _is_entry(line: bytes) -> bool:
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and "op_code" in found


def mend_journal(path: Path, lock: JournalLock) -> int:
    """Cut a journal back to its last whole line, under its lock; return the bytes cut.

    A whole line that is no entry is damage of another kind: a SearchError with its number.
    """
    if not path.exists():
        return 0
    lock.acquire()
    try:
        with path.open("r+b") as file:
            raw = file.read()
            whole = raw.rfind(b"\n") + 1
            file.truncate(whole)
            for number, line in enumerate(raw[:whole].splitlines(), 1):
                if not _is_entry(line):
                    law = f"{path}:{number} is no entry of a study's journal"
                    raise SearchError(law, "Restore it, or begin another run: the ledger pays.")
        return len(raw) - whole
    finally:
        lock.release()
