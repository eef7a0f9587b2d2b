"""Reading ahead and writing behind: one thread each, so that disks work while numbers are made.

Both are bounded, so memory is too. Nothing here can change a result: the order of blocks within a
tensor is kept, and each row is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_BEHIND = 2  # results that may wait to be written


def one_ahead(items: Iterable[T], prepare: Callable[[T], Any]) -> Iterator[T]:
    """Yield items, each prepared by a thread while the one before is worked on."""
    with ThreadPoolExecutor(1, "reader") as reader:
        waiting: tuple[T, Future[Any]] | None = None
        for item in items:
            following = item, reader.submit(prepare, item)
            if waiting:
                waiting[1].result()
                yield waiting[0]
            waiting = following
        if waiting:
            waiting[1].result()
            yield waiting[0]


class Behind(Generic[T]):
    """Runs calls in a thread, in order; an error there is raised at the next call or at the end."""

    def __init__(self) -> None:
        self._writer = ThreadPoolExecutor(1, "writer")
        self._waiting: list[Future[Any]] = []

    def __call__(self, work: Callable[..., Any], *arguments: Any) -> None:
        """Queue a call; waits while too many are queued."""
        while len(self._waiting) >= _BEHIND:
            self._waiting.pop(0).result()
        self._waiting.append(self._writer.submit(work, *arguments))

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while self._waiting and kind is None:
                self._waiting.pop(0).result()
        finally:
            self._writer.shutdown(cancel_futures=True)
