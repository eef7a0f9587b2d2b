"""The fence around scoring code of others: limits of time and memory, and no traceback."""

import time

import pytest

from evals.limited import limited

pytestmark = pytest.mark.slow


def endless(_):
    while True:
        pass


def greedy(n):
    return len(bytearray(n)) == n


def broken(_):
    raise RuntimeError


def test_a_call_that_does_not_end_is_ended():
    """Past its seconds a call gives None, and the next one is answered again."""
    begin = time.monotonic()
    assert limited(endless, 0, seconds=0.2) is None
    assert limited(greedy, 10) is True
    assert time.monotonic() - begin < 60


def test_what_fails_gives_nothing():
    """An exception, or more memory than is allowed, is no verdict."""
    assert limited(broken, 0) is None
    assert limited(greedy, 8 << 30) is None
