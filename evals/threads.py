"""How many torch threads: one, unless a short probe shows that more are clearly faster.

On a busy machine two threads are not twice as fast but up to thirty times slower, as each small
product waits for a core that is not free; hence the probe, at every start, of the work as it is.
"""

from __future__ import annotations

import time

import torch

_GAIN = 1.3  # a gain below this is not worth the risk of a core being taken later


def best_threads() -> int:
    """Return 1 or the number of threads torch would take: what a probe of some 50 ms favours."""
    before = torch.get_num_threads()
    many = max(before, 1)
    if many == 1:
        return 1
    try:
        one, all_ = (_seconds(n) for n in (1, many))
    finally:
        torch.set_num_threads(before)
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
