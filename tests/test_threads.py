"""Laws of the thread probe."""

import torch

from evals import threads


def test_one_thread_stays_one():
    """Where torch has one thread there is nothing to probe."""
    assert torch.get_num_threads() == 1
    assert threads.best_threads() == 1


def test_more_threads_must_earn_it(monkeypatch):
    """Many are taken for a clear gain only, and torch's own setting is left as it was."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    for gain, best in ((0.2, 1), (1.1, 1), (3.0, 4)):
        monkeypatch.setattr(threads, "_seconds", lambda n, g=gain: 1.0 if n == 1 else 1 / g)
        assert threads.best_threads() == best
