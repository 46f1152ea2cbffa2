"""At risk: programs that gevent has patched: a wait that holds up the hub, and with it what the job waits for."""

from __future__ import annotations

import importlib.util

import pytest

from conftest import RunScenario

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None, reason="gevent is not installed: dependency group test-programs"
)

SETUP = """
from gevent import monkey
monkey.patch_all()
import concurrent.futures as cf, signal, sys, threading, time
import gevent
import workerpool as wp

real_sleep = monkey.get_original("time", "sleep")
ticks = []
gevent.sleep(0)  # gevent makes a thread's hub when it is first needed; in two threads at a time it may hang.

class Gate:
    # An event that a thread waits for without gevent.

    is_open = False

    def set(self):
        self.is_open = True

    def wait(self, seconds):
        end = time.monotonic() + seconds
        while not self.is_open and time.monotonic() < end:
            real_sleep(0.001)
        return self.is_open

def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.001)

def ticks_while(function, *args, **kwargs):
    before = len(ticks)
    value = function(*args, **kwargs)
    return value, len(ticks) - before
"""
# Some warnings are gevent's own.
OPTIONS = ("-X", "dev")


def test_every_wait_lets_the_other_greenlets_run(run_scenario: RunScenario) -> None:
    run_scenario(
        SETUP
        + """
ticking = gevent.spawn(tick)
gevent.sleep(0)

def long(value):
    real_sleep(0.2)
    return value

pool = wp.WorkerPool(1, queue_size=1)
value, n = ticks_while(lambda: pool.submit(long, 1).result())
assert value == 1 and n > 5, n
value, n = ticks_while(lambda: pool.submit(long, 2).exception(20))
assert value is None and n > 5, n
value, n = ticks_while(lambda: list(pool.map(long, [1, 2, 3])))
assert value == [1, 2, 3] and n > 15, n
results = pool.results(2)
results.submit(long, 4)
results.close()
value, n = ticks_while(lambda: [result.value for result in results])
assert value == [4] and n > 5, n

# Waiting for room, for the whole pool, and for its end.
value, n = ticks_while(lambda: [pool.submit(long, i) for i in range(4)])
assert n > 10, n
value, n = ticks_while(pool.drain)
assert n > 5, n
usleep = wp.native("libc.so.6:usleep", "int (unsigned int)")
value, n = ticks_while(lambda: pool.submit(usleep, 200000).result())
assert value == 0 and n > 5, n
future = pool.submit(long, 5)
value, n = ticks_while(pool.shutdown)
assert n > 5 and future.result() == 5, n
ticking.kill()
""",
        options=OPTIONS,
    )


def test_job_that_needs_what_another_greenlet_has(run_scenario: RunScenario) -> None:
    run_scenario(
        SETUP
        + """
lock = threading.Lock()
held = threading.Event()

def hold():
    with lock:
        held.set()
        gevent.sleep(0.2)

def job():
    with lock:
        return "had it"

with wp.WorkerPool(1) as pool:
    gevent.spawn(hold)
    held.wait()
    assert pool.submit(job).result() == "had it"
    # Many greenlets wait, each for what the next one does.
    gates = [Gate() for _ in range(50)]

    def chain(i):
        value = wide.submit(gates[i].wait, 20).result()
        if i:
            gates[i - 1].set()
        return value

    with wp.WorkerPool(50) as wide:
        greenlets = [gevent.spawn(chain, i) for i in range(50)]
        gevent.sleep(0.05)
        gates[-1].set()
        assert [greenlet.get(timeout=20) for greenlet in greenlets] == [True] * 50
    assert set(cf.wait([pool.submit(int) for _ in range(10)], 20).not_done) == set()
    assert len(list(cf.as_completed([pool.submit(int) for _ in range(10)], 20))) == 10
""",
        options=OPTIONS,
    )


def test_limits_and_what_ends_a_wait(run_scenario: RunScenario) -> None:
    run_scenario(
        SETUP
        + """
gate = Gate()
with wp.WorkerPool(1) as pool:
    future = pool.submit(gate.wait, 20)
    begin = time.monotonic()
    try:
        future.result(0.1)
    except TimeoutError:
        assert 0.1 <= time.monotonic() - begin < 10
    else:
        raise AssertionError
    try:
        future.result(0)
    except TimeoutError:
        pass
    try:
        with gevent.Timeout(0.05):
            future.result()
    except gevent.Timeout:
        pass
    else:
        raise AssertionError
    waiter = gevent.spawn(future.result)
    gevent.sleep(0.02)
    waiter.kill(timeout=10)
    assert waiter.dead
    gevent.spawn_later(0.05, signal.raise_signal, signal.SIGINT)
    try:
        future.result()
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError
    gate.set()
    assert future.result() is True
""",
        options=OPTIONS,
    )


def test_waits_in_jobs_and_in_the_hub_hold_up_their_thread(run_scenario: RunScenario) -> None:
    """A job that waits has its pool's affairs in hand; the hub cannot wait for anything."""
    run_scenario(
        SETUP
        + """
with wp.WorkerPool(2) as pool, wp.WorkerPool(1, queue_size=1, on_full="caller_runs") as narrow:
    assert pool.submit(lambda: pool.submit(int, 3).result()).result() == 3
    assert pool.submit(lambda: [gevent.sleep(0.01), pool.submit(int, 4).result()][1]).result() == 4
    assert list(pool.submit(lambda: list(pool.map(int, "123"))).result()) == [1, 2, 3]
    assert [narrow.submit(lambda: pool.submit(int, 5).result()).result() for _ in range(20)] == [5] * 20
    seen = []
    gevent.get_hub().loop.run_callback(lambda: seen.append(pool.submit(int, 6).result()))
    gevent.sleep(0.05)
    assert seen == [6]
""",
        options=OPTIONS,
    )


def test_jobs_of_several_greenlets_of_one_thread(run_scenario: RunScenario) -> None:
    """They end in any order: what was current before one of them may have ended."""
    run_scenario(
        SETUP
        + """
import gc, random
gate, begun = Gate(), []
pool = wp.WorkerPool(1, queue_size=1, on_full="caller_runs")
pool.submit(lambda: (begun.append(1), gate.wait(20)))
while not begun:
    gevent.sleep(0.001)
pool.options(on_full="raise").submit(gate.wait, 20)

def job(number):
    before = wp.current_job()
    gevent.sleep(random.random() * 0.01)
    return repr(before), repr(wp.current_job())

def outer(number):
    for i in range(5):
        pool.options(label=f"{number}/{i}").submit(job, number)
        for _ in range(5):
            gevent.sleep(0.001)
            current = wp.current_job()
            repr(current), current and (current.label, current.cancelled)

for _ in range(3):
    greenlets = [gevent.spawn(outer, i) for i in range(30)]
    gevent.joinall(greenlets, timeout=30)
    assert all(greenlet.successful() for greenlet in greenlets)
    gc.collect()
    assert wp.current_job() is None
assert "Job" in pool.submit(job, 0).result()[1]
gate.set()
pool.shutdown()
""",
        options=OPTIONS,
        timeout=60,
    )


def test_without_patches_a_wait_is_a_wait(run_scenario: RunScenario) -> None:
    run_scenario(
        """
        import time
        import gevent
        from gevent import monkey
        import workerpool as wp

        ticks = []
        gevent.spawn(lambda: ticks.append(1))
        with wp.WorkerPool(1) as pool:
            assert pool.submit(time.sleep, 0.1).result() is None
        assert ticks == []
        gevent.sleep(0)
        assert ticks == [1]
        """,
        options=OPTIONS,
    )
