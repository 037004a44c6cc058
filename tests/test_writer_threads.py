"""A writing thread keeps order, drops nothing, holds a bounded amount, and says what went wrong."""

import threading
import time

import pytest

from landscape import writer_threads
from landscape.writer_threads import WriterThread


def nothing():
    pass


@pytest.fixture
def opened():
    """Make a thread and stop it at the end, so that none outlives its test."""
    made = []

    def make(limit=100, idle=nothing):
        made.append(WriterThread(limit=limit, idle=idle))
        return made[-1]

    yield make
    for thread in made:
        thread.stop()
    assert not [t for t in threading.enumerate() if t.name == "landscape-writer"]


def test_jobs_are_done_in_order_and_none_is_dropped(opened):
    thread, done = opened(), []
    for number in range(2000):
        thread.put(lambda number=number: done.append(number), size=number % 7)
    thread.stop()
    assert done == list(range(2000))
    assert thread.error is None


def test_no_more_than_the_limit_waits_and_the_waiting_is_counted(opened):
    thread, held, most, lock = opened(limit=100), [0], [0], threading.Lock()
    gate = threading.Event()

    def hold(change):
        with lock:
            held[0] += change
            most[0] = max(most[0], held[0])

    def job(size):
        gate.wait()
        time.sleep(0.002)
        hold(-size)

    threading.Timer(0.2, gate.set).start()
    for _ in range(50):
        thread.put(lambda: job(30), size=30)
        hold(30)
    thread.wait()
    assert held == [0]
    assert 90 <= most[0] <= 130  # 100 wait at most; one is counted after it was let in
    assert thread.waited == pytest.approx(0.2 + 47 * 0.002, abs=0.2)


def test_a_job_larger_than_the_limit_waits_alone(opened):
    thread, done = opened(limit=10), []
    thread.put(lambda: done.append(1), size=1000)
    thread.put(lambda: done.append(2), size=1000)
    thread.wait()
    assert done == [1, 2]


def test_an_error_ends_the_work_and_is_raised_by_what_comes_next(opened):
    thread, done = opened(), []

    def fail():
        raise OSError("no space")

    thread.put(fail, size=90)

    def give_until_told():
        for _ in range(10_000):
            thread.put(lambda: done.append(1), size=50)  # also where it waits for room

    with pytest.raises(OSError, match="no space"):
        give_until_told()
    with pytest.raises(OSError, match="no space"):
        thread.wait()
    thread.stop()
    assert done == []
    assert isinstance(thread.error, OSError)


def test_what_waits_is_looked_after_where_nothing_comes(opened, monkeypatch):
    monkeypatch.setattr(writer_threads, "_IDLE_SECONDS", 0.01)
    seen = threading.Event()
    opened(idle=seen.set)
    assert seen.wait(10)


def test_waiting_means_that_all_is_done(opened):
    thread, done = opened(), []
    thread.put(lambda: (time.sleep(0.05), done.append(1)))
    thread.wait()
    assert done == [1]
