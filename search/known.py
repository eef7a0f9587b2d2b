"""The fingerprints of a run's merges: what was merged once is known again without merging.

A recipe decides its weights, given the models (the manifest holds their hashes), the device and the
code. So a run keeps the fingerprint of each merge it has made, a resumed run or a report looks its
answers up by it, and what a report costs is told without making a merge.
"""

from __future__ import annotations

from collections import UserDict
from importlib.metadata import version

from search.run import Run

FILE = "fingerprints.json"


class Fingerprints(UserDict[str, str]):
    """Fingerprints by the key of a merge, kept in the run folder."""

    def __init__(self, run: Run) -> None:
        self.run = run
        made_by = (version("merger"), version("torch"), run.options.device)
        self._head = " ".join([*made_by, ""])
        super().__init__()
        self.data = {
            k.removeprefix(self._head): mark
            for k, mark in (run.read(FILE) or {}).items()
            if k.startswith(self._head) and isinstance(mark, str)
        }

    def __setitem__(self, key: str, mark: str) -> None:
        """Keep a fingerprint, beside those that other processes have added."""
        self.data[key] = mark
        self.run.write(FILE, (self.run.read(FILE) or {}) | {self._head + key: mark})
