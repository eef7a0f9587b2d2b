"""Killed at any moment, by many hands: nothing paid is lost or paid twice, and a verdict comes."""

import multiprocessing
import os
import random
import signal
import socket
import time
from contextlib import closing, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from threading import BrokenBarrierError

import pytest

from search.candidate import Candidate
from search.crash import JournalLock, alive, this_worker
from search.space import Space
from search.starts import Start, average
from search.study import Study
from tests import synthetic
from tests.synthetic import EXPERTS, kill_at, ledger_rows


def forked(work):
    """Run work in a process of its own, which ends without a trace; return its id."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
            os._exit(0)
        os._exit(1)
    return child


def storage(folder, kind, request):
    """Return the URL of an empty study of this kind."""
    places = {"journal": f"journal://{folder}/s.log", "sqlite": f"sqlite:///{folder}/s.db"}
    return places.get(kind) or request.getfixturevalue("postgres_url")


def test_a_killed_writer_frees_the_journal(tmp_path):
    """A process killed while it holds the lock keeps nobody waiting; one that lives does."""
    lock, (held, told) = JournalLock(tmp_path / "s.log"), os.pipe()
    child = os.fork()
    if child == 0:
        lock.acquire()
        os.write(told, b"!")
        time.sleep(60)
        os._exit(0)
    os.read(held, 1)
    with (tmp_path / "s.log").open() as file, pytest.raises(BlockingIOError):
        flock(file, LOCK_EX | LOCK_NB)
    os.kill(child, signal.SIGKILL)
    begin = time.monotonic()
    assert lock.acquire()
    assert time.monotonic() - begin < 10
    lock.release()
    os.waitpid(child, 0)


def waited(child):
    """Wait for a process and return its signal or exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
def test_killed_at_twenty_moments(tmp_path):
    """Each time the run is resumed it pays for nothing it holds, and it ends with a verdict."""
    folder, draw, kills = tmp_path / "r", random.Random(0), 0
    synthetic.search(folder, trials=16, n=30)
    for _ in range(20):
        moment = draw.randrange(10, 110)
        before = ledger_rows(folder)
        ended = waited(forked(lambda m=moment: synthetic.search(folder, stop=kill_at(m)).go()))
        kills += ended == -signal.SIGKILL
        after = ledger_rows(folder)
        assert after[: len(before)] == before
        assert len(after) == len(set(after))
    search = synthetic.search(folder)
    paid = set(ledger_rows(folder))
    document = search.go()
    again = paid & set(search.world.answerer.asked)
    assert {mark for mark, _ in again} <= {search.reference.key}  # the A/A test, once
    assert document["verdict"] in ("better", "worse", "not distinguishable")
    assert search.study.finished() == 16
    assert kills >= 15


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "sqlite", "postgres"])
def test_workers_evaluate_nothing_twice(tmp_path, kind, request):
    """Three processes share a study; one is killed -9, and its candidate is tried by another."""
    place = storage(tmp_path, kind, request)

    def study(worker):
        return Study(place, Space(EXPERTS), trials=12, sampler="random", seed=3, worker=worker)

    def evaluate(proposal):
        time.sleep(0.05)
        if proposal.source == "ded" and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ((0.5,), {})

    with closing(study("")) as begun:  # a fork must not share a connection
        begun.enqueue([Start(e, average([e])) for e in EXPERTS])
    workers = [forked(lambda n=n: study(n).run(evaluate)) for n in "ab"]
    ends = [waited(worker) for worker in workers]
    assert -signal.SIGKILL in ends
    first = study("")
    first.run(evaluate)
    done = [t for t in first.trials() if t.state == "COMPLETE"]
    assert 12 <= len(done) <= 13  # two workers may take the last ones at once
    assert {t.candidate for t in done} >= {average([e]) for e in EXPERTS}
    keys = [t.candidate.key for t in done]
    assert len(keys) == len(set(keys))
    failed = [t for t in first.trials() if t.state == "FAIL"]
    assert [t.candidate for t in failed] == [average(["ded"])]
    first.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "sqlite", "postgres"])
def test_two_workers_never_take_one_trial(tmp_path, kind, request):
    """Whoever takes a queued trial has it alone, whatever keeps the study."""
    place = storage(tmp_path, kind, request)

    def study(worker):
        return Study(place, Space(EXPERTS), trials=16, sampler="random", seed=3, worker=worker)

    together = multiprocessing.Barrier(2)

    def work(worker):
        def evaluate(proposal):
            with suppress(BrokenBarrierError):  # the last trial may be alone
                together.wait(2)
            with (tmp_path / "taken").open("a") as file:
                file.write(f"{proposal.source}\n")
            return ((0.5,), {})

        study(worker).run(evaluate)

    with closing(study("")) as begun:
        scales = [0.5 + i / 100 for i in range(16)]
        begun.enqueue([Start(f"at {s}", Candidate.of({"ded": 1}, s)) for s in scales])
    assert [waited(worker) for worker in [forked(lambda n=n: work(n)) for n in "ab"]] == [0, 0]
    taken = [s for s in (tmp_path / "taken").read_text().splitlines() if s.startswith("at")]
    assert sorted(taken) == sorted(f"at {s}" for s in scales)


def test_only_the_dead_are_buried():
    """A trial of another host may be alive; one of a process that is gone is not."""
    assert alive("elsewhere:1")
    assert not alive("")
    assert not alive(this_worker())
    assert not alive(this_worker().rpartition(":")[0] + ":4194305")


def test_a_process_that_only_waits_to_be_asked_is_gone():
    """A killed worker stays in the table of processes until its parent looks."""
    child = forked(lambda: os.kill(os.getpid(), signal.SIGKILL))
    while alive(f"{socket.gethostname()}:{child}"):
        time.sleep(0.01)
    assert waited(child) == -signal.SIGKILL
