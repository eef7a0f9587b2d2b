"""The fence around scoring code of others: limits of time and memory, and no traceback."""

import time

import pytest

from evals.limited import _worker, limited

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
    assert limited("json", endless, 0, seconds=0.2) is None
    assert limited("json", greedy, 10) is True
    assert time.monotonic() - begin < 60


def test_what_fails_gives_nothing():
    """An exception, or more memory than is allowed, is no verdict."""
    assert limited("json", broken, 0) is None
    assert limited("json", greedy, 8 << 30) is None


def test_an_import_is_not_counted(tmp_path, monkeypatch):
    """A package that takes longer to import than a call may take is no reason to end the call."""
    (tmp_path / "sluggish.py").write_text("import time; time.sleep(1.5)")
    monkeypatch.syspath_prepend(tmp_path)
    _worker().kill()
    _worker().communicate()
    _worker.cache_clear()  # a new worker takes the path over
    assert limited("sluggish", slow_start, 0, seconds=1.0) is True


def slow_start(_):
    import sluggish  # noqa: F401

    return True
