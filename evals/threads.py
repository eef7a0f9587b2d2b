"""Several cores: how many torch may share a product among, and walks side by side, a core each.

Two torch threads on a busy machine are not twice as fast but up to thirty times slower, as each
small product waits for a core that is not free; hence the probe, at every start, of the work as it
is. Walks side by side wait for nothing: a core that is taken slows its own walk alone.
"""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

import torch

Thing = TypeVar("Thing")

_GAIN = 1.3  # a gain below this is not worth the risk of a core being taken later


def best_threads() -> int:
    """Return 1 or the number of threads torch would take: what a probe of some 50 ms favours."""
    many = torch.get_num_threads()
    if many == 1:
        return 1
    try:
        one, all_ = (_seconds(n) for n in (1, many))
    finally:
        torch.set_num_threads(many)
    return many if one > _GAIN * all_ else 1


def _seconds(threads: int) -> float:
    """Return the time of products of the size that a decoding step makes, the worst of three."""
    torch.set_num_threads(threads)
    left, right = torch.ones(64, 512), torch.ones(512, 512)
    times = []
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(20):
            left @ right
        times.append(time.perf_counter() - start)
    return max(times[1:])  # the first warms up


def cores() -> int:
    """Return how many cores this process may keep busy: those it may run on, or OMP_NUM_THREADS."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) else len(os.sched_getaffinity(0))


def together(walks: Sequence[Iterator[Thing]], stop: Event) -> Iterator[Thing]:
    """Walk iterators side by side, a thread and a core each; yield what they give as it comes.

    Sets `stop`, at which walks should end soon, when one fails (it is raised) or the caller goes.
    """
    given: SimpleQueue[list[Thing]] = SimpleQueue()  # an empty list ends a walk

    def drain(walk: Iterator[Thing]) -> None:
        torch.set_num_threads(1)
        try:
            for thing in walk:
                given.put([thing])
        except BaseException:
            stop.set()
            raise
        finally:
            given.put([])

    before, left = torch.get_num_threads(), len(walks)
    try:
        if left == 1:
            torch.set_num_threads(1)
            yield from walks[0]
            return
        with ThreadPoolExecutor(left) as pool:
            done = [pool.submit(drain, walk) for walk in walks]
            try:
                while left:
                    left -= not (things := given.get())
                    yield from things
            finally:
                stop.set()
        for one in done:
            one.result()
    finally:
        torch.set_num_threads(before)
