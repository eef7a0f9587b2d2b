"""Several processes that write one folder: who they are, and the few words they exchange.

`torchrun` and `accelerate launch` say rank, size and meeting point through environment variables
(RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT). Words go through torch's key-value store, as text;
tensors are never exchanged, for each process writes shards of its own. A process that fails says
so, that nobody waits for it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

from merger.errors import OutputError

_OFTEN = 0.1  # seconds between two looks at the store


@dataclass
class Team:
    """One process among `size`; rank 0 prepares and finishes."""

    rank: int = 0
    size: int = 1
    _store: Any = None

    @classmethod
    def launched(cls) -> Team:
        """Return the team that a launcher started this process in, or a team of one."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        from torch.distributed.rendezvous import rendezvous

        store, rank, size = next(iter(rendezvous("env://")))
        return cls(rank, size, store)

    def device(self, asked: str) -> str:
        """Return this process's own device where several share a machine."""
        if asked != "cuda" or self.size == 1:
            return asked
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"

    def tell(self, what: str, text: str = "") -> None:
        """Leave a word for the others."""
        if self._store is not None:
            self._store.set(f"merger {what}", text)

    def hear(self, what: str) -> str:
        """Wait for a word of another process; an OutputError if one has failed."""
        try:
            while not self._store.check([f"merger {what}"]):
                if self._store.check(["merger failed"]):
                    raise _failed()
                time.sleep(_OFTEN)
            told: bytes = self._store.get(f"merger {what}")
        except RuntimeError as error:  # the process that kept the store is gone
            raise _failed() from error
        return told.decode()

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._store is not None:
            try:
                self.tell("failed")
            except RuntimeError:
                return  # nobody is left to be told


def _failed() -> OutputError:
    law = "another process of this merge has failed"
    return OutputError(law, "See what it said; then run all of them again, with --resume.")
