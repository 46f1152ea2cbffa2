"""Under load: a short soak (`make soak` runs a long one), a thousand pools, workers that come and go, many producers on
a small queue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import RunScenario, scenario_environment
from support import Helpers

SOAK = Path(__file__).with_name("soak.py")
SECONDS = 20
LIMIT = 150


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.skipif(sys.platform != "linux", reason="it counts what is in /proc")
def test_soak(helpers: Helpers) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(SOAK), str(SECONDS), helpers.path],
        env=scenario_environment({}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    jobs = int(done.stdout.partition(": ")[2].split()[0])
    assert jobs > 1000


def test_a_thousand_pools_made_and_dropped(run_scenario: RunScenario, helpers: Helpers) -> None:
    """In every state, and by four threads at a time; the scenario's limit is the watchdog."""
    done = run_scenario(
        """
        import gc, os, sys, threading, time, workerpool as wp

        native = wp.native(sys.argv[1] + ":id_long", "long (long)")

        def live(i):
            pool = wp.WorkerPool(1 + i % 3, queue_size=(0, 1, 100, None)[i // 7 % 4])
            match i % 7:
                case 0:
                    return
                case 1:
                    pool.submit(native, i).result()
                case 2:
                    pool.submit(int)
                case 3:
                    next(pool.map(native, range(50)))
                case 4:
                    results = pool.options(run_timeout=10, token=wp.CancelToken(timeout=10)).results()
                    results.submit(int)
                case 5:
                    pool.submit(int)
                    pool.shutdown(wait=False, cancel_futures=True)
                case 6:
                    with pool:
                        assert list(pool.map(int, range(20))) == list(range(20))

        def live_many(begin):
            for i in range(begin, 1000, 4):
                live(i)

        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        threads = [threading.Thread(target=live_many, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        if before:
            while len(os.listdir("/proc/self/task")) > 1:
                time.sleep(0.01)
            assert len(os.listdir("/proc/self/fd")) == before
        print("ended")
        """,
        timeout=50,
        args=[helpers.path],
    )
    assert done.stdout == "ended\n"


@pytest.mark.skipif(sys.platform != "linux", reason="it counts what is in /proc")
@pytest.mark.parametrize("job", ["python", "native", "with a callback", "with a time limit"])
def test_workers_that_retire_leave_nothing(run_scenario: RunScenario, helpers: Helpers, job: str) -> None:
    """A thread that has ended and is not joined keeps its stack: after 32,749 of them no other could start."""
    run_scenario(
        f"""
        import os, sys, time, workerpool as wp

        native = wp.native(sys.argv[1] + ":id_long", "long (long)")
        pool = wp.WorkerPool(4, idle_timeout=0.0)
        limited = pool.options(run_timeout=100)
        ACTS = {{
            "python": lambda: pool.submit(int).result(10),
            "native": lambda: pool.submit(native, 1).result(10),
            "with a callback": lambda: pool.submit(native, 1).add_done_callback(lambda future: None),
            "with a time limit": lambda: limited.submit(int).result(10),
        }}

        def sizes():
            status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
            with open("/proc/self/maps") as maps:
                mappings = len(maps.readlines())
            size, resident = (int(status[name].split()[0]) for name in ("VmSize", "VmRSS"))
            return mappings, len(os.listdir("/proc/self/fd")), size, resident

        def churn(rounds):
            for _ in range(rounds):
                ACTS[{job!r}]()
                end = time.monotonic() + 5
                while pool.stats().workers and time.monotonic() < end:
                    time.sleep(0.0002)

        churn(50)
        before = sizes()
        churn(400)
        after = sizes()
        # Each that was not joined would be two mappings and eight MiB.
        assert after[0] - before[0] < 40, (before, after)
        assert after[1] == before[1], (before, after)
        assert after[2] - before[2] < 400 << 10, (before, after)
        assert after[3] - before[3] < 8 << 10, (before, after)
        """,
        args=[helpers.path],
        timeout=60,
    )


@pytest.mark.parametrize("on_full", ["block", "raise", "discard", "discard_oldest", "caller_runs"])
@pytest.mark.parametrize("job", ["native", "python"])
def test_a_hundred_producers_on_a_queue_of_ten(
    run_scenario: RunScenario, helpers: Helpers, on_full: str, job: str
) -> None:
    """Nobody is left asleep, no job is lost or done twice, and the queue never holds more than it may."""
    run_scenario(
        f"""
        import sys, threading, time, workerpool as wp

        EACH = 30
        native = wp.native(sys.argv[1] + ":count_calls", "unsigned long long (unsigned char *)")
        pool = wp.WorkerPool(2, queue_size=10, on_full={on_full!r})
        accepted, refused = [], []

        def count(calls):
            calls[0] += 1
            return calls[0]

        def produce():
            for _ in range(EACH):
                calls = bytearray(1)
                try:
                    future = pool.submit({"native" if job == "native" else "count"}, calls)
                except wp.QueueFull:
                    refused.append(calls)
                else:
                    accepted.append((future, calls))

        threads = [threading.Thread(target=produce) for _ in range(100)]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, pool.stats().lanes["normal"].waiting)
            time.sleep(0.001)
        for thread in threads:
            thread.join()
        pool.shutdown()
        # What a worker has taken and not begun counts as waiting, and is none of the ten.
        assert most <= 10 + 2, most
        assert len(accepted) + len(refused) == 100 * EACH
        assert {on_full!r} == "raise" or not refused
        for future, calls in accepted:
            assert calls[0] == (0 if future.cancelled() else future.result(0)), calls
        if {on_full!r} in ("block", "caller_runs", "raise"):
            assert not any(future.cancelled() for future, _ in accepted)
        assert not any(calls[0] for calls in refused)
        """,
        timeout=40,
        args=[helpers.path],
    )
