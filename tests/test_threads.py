"""Laws of the thread probe, and of walks side by side."""

import threading
from threading import Event

import pytest
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


def test_the_environment_bounds_the_cores(monkeypatch):
    """OMP_NUM_THREADS says how many cores are ours; without it, those the process may run on."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.cores() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads.cores() >= 1


@pytest.mark.parametrize("walks", [1, 3])
def test_walks_together_give_all_they_have(walks):
    """Everything that each walk gives arrives, in the order of that walk."""
    given = list(
        threads.together([iter([(w, i) for i in range(9)]) for w in range(walks)], Event())
    )
    assert sorted(given) == [(w, i) for w in range(walks) for i in range(9)]
    for w in range(walks):
        assert [i for who, i in given if who == w] == list(range(9))


def test_a_failing_walk_stops_the_others():
    """What one walk raises is raised, after the others were told to stop and have ended."""
    stop = Event()

    def endless():
        while not stop.is_set():
            yield 1

    def failing():
        yield 2
        raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        list(threads.together([endless(), failing()], stop))
    assert not any(t.name.startswith("ThreadPool") for t in threading.enumerate())


def test_a_caller_who_goes_stops_the_walks():
    """Leaving the loop ends the threads."""
    stop = Event()

    def endless():
        while not stop.is_set():
            yield 1

    for _ in (both := threads.together([endless(), endless()], stop)):
        break
    both.close()
    assert stop.is_set()
