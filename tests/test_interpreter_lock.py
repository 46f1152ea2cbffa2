"""Native jobs need no interpreter: while other code holds the GIL, they start, run and finish."""

from __future__ import annotations

import sysconfig

import pytest

from conftest import RunScenario
from support import Helpers

pytestmark = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="there is no GIL to be held in this build"
)

# Submits native jobs, holds the GIL for a second in a C sleep, and looks when the jobs began and ended.
HOLD_GIL = """
    import ctypes, sys, threading, time, workerpool as wp

    lib = sys.argv[1]
    stamped = wp.native(lib + ":sleep_stamped", "void (int64_t *, int64_t)")
    poll = wp.native(lib + ":poll_job", "int (int64_t *, int64_t, wp_job *)", raises="nonzero")
    usleep = ctypes.PyDLL(None).usleep

    def clock():
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def hold_gil(seconds=1.0):
        usleep(int(seconds * 1_000_000))
        return clock()

    def check_ended_before(end, jobs):
        for times in jobs:
            assert times[0] and times[1], "did not end"
            assert times[1] < end, (times[1] - end) / 1e9
"""


def run(run_scenario: RunScenario, helpers: Helpers, code: str) -> None:
    lines = HOLD_GIL + code
    done = run_scenario(lines, args=[helpers.path], timeout=30)
    assert done.stdout.endswith("held\n"), done.stdout


@pytest.mark.parametrize("lane", ["high", "normal", "low"])
def test_submitted_jobs_start_run_and_finish(run_scenario: RunScenario, helpers: Helpers, lane: str) -> None:
    run(
        run_scenario,
        helpers,
        f"""
    with wp.WorkerPool(2) as pool:
        times = [(ctypes.c_int64 * 2)() for _ in range(40)]
        view = pool.lane({lane!r})
        futures = [view.submit(stamped, t, 10_000_000) for t in times]
        begin = clock()
        end = hold_gil()
        assert sum(t[0] > begin for t in times) > 20, "they were over before"
        check_ended_before(end, times)
        for f in futures:
            f.result()
    print("held")
    """,
    )


@pytest.mark.parametrize("lane", ["normal", "low"])
def test_native_jobs_do_not_wait_behind_a_callable(run_scenario: RunScenario, helpers: Helpers, lane: str) -> None:
    """Short callables are left to one worker, which cannot run them now; what needs no GIL is not left to it."""
    run(
        run_scenario,
        helpers,
        f"""
    with wp.WorkerPool(4) as pool:
        for warm in (False, True):
            for future in [pool.submit(int) for _ in range(2000 if warm else 0)]:
                future.result()
            times = [(ctypes.c_int64 * 2)() for _ in range(8)]
            before = pool.submit(int)
            for t in times:
                pool.lane({lane!r}).submit(stamped, t, 10_000_000)
            end = hold_gil()
            check_ended_before(end, times)
            before.result()
    print("held")
    """,
    )


def test_no_worker_ever_ran_before(run_scenario: RunScenario, helpers: Helpers) -> None:
    """Threads are started by the submit, so even the first job needs nobody's GIL."""
    run(
        run_scenario,
        helpers,
        """
    pool = wp.WorkerPool(4)
    times = [(ctypes.c_int64 * 2)() for _ in range(8)]
    for t in times:
        pool.submit(stamped, t, 50_000_000)
    end = hold_gil()
    check_ended_before(end, times)
    pool.shutdown()
    print("held")
    """,
    )


def test_map_and_results_go_on(run_scenario: RunScenario, helpers: Helpers) -> None:
    run(
        run_scenario,
        helpers,
        """
    with wp.WorkerPool(2) as pool, pool.results() as results:
        mapped = [(ctypes.c_int64 * 2)() for _ in range(20)]
        channel = [(ctypes.c_int64 * 2)() for _ in range(20)]
        iterator = pool.map(stamped, mapped, [5_000_000] * 20)
        for t in channel:
            results.submit(stamped, t, 5_000_000)
        results.close()
        end = hold_gil()
        check_ended_before(end, mapped + channel)
        assert list(iterator) == [None] * 20
        assert all(r.ok for r in results)
    print("held")
    """,
    )


def test_finished_jobs_hold_up_no_others(run_scenario: RunScenario, helpers: Helpers) -> None:
    """Buffers to be released, futures with callbacks and waiters need the interpreter; the jobs behind them do not."""
    run(
        run_scenario,
        helpers,
        """
    called = []
    with wp.WorkerPool(2) as pool:
        times = [(ctypes.c_int64 * 2)() for _ in range(60)]
        futures = [pool.submit(stamped, t, 5_000_000) for t in times]
        for f in futures[::2]:
            f.add_done_callback(called.append)
        del futures[::3]
        end = hold_gil()
        check_ended_before(end, times)
        for f in futures:
            f.result()
    assert len(called) == 30
    print("held")
    """,
    )


def test_jobs_behind_python_jobs_go_to_the_other_worker(run_scenario: RunScenario, helpers: Helpers) -> None:
    run(
        run_scenario,
        helpers,
        """
    with wp.WorkerPool(2) as pool:
        go_on = threading.Event()
        waiting = pool.submit(go_on.wait)
        while not waiting.running():
            time.sleep(0.001)
        times = [(ctypes.c_int64 * 2)() for _ in range(20)]
        for t in times:
            pool.submit(stamped, t, 5_000_000)
        end = hold_gil()
        check_ended_before(end, times)
        go_on.set()
    print("held")
    """,
    )


def test_time_limits_and_tokens_hold(run_scenario: RunScenario, helpers: Helpers) -> None:
    """The limits of native jobs are watched by a thread that must not wait for the GIL, whatever else it has to do."""
    run(
        run_scenario,
        helpers,
        """
    with wp.WorkerPool(3) as pool:
        begun = ctypes.c_int64(0)
        # Something for the keeper to release and to tell meanwhile.
        for _ in range(20):
            pool.submit(stamped, (ctypes.c_int64 * 2)(), 1_000_000).add_done_callback(lambda f: None)
        limited = pool.options(run_timeout=0.3).submit(poll, ctypes.byref(begun), 20_000_000_000)
        timed = pool.options(token=wp.CancelToken(timeout=0.3)).submit(poll, ctypes.byref(begun), 20_000_000_000)
        while begun.value < 2:
            time.sleep(0.001)
        times = [(ctypes.c_int64 * 2)() for _ in range(3)]
        last = [pool.submit(stamped, t, 1000) for t in times]
        hold_gil()
        after = [f.done() for f in (limited, timed)]
        assert isinstance(limited.exception(), wp.JobTimeout)
        while not timed.done():
            time.sleep(0.001)
        assert timed.cancelled()
        assert after == [True, True], after
    print("held")
    """,
    )


def test_gil_is_free_while_native_jobs_run_and_are_waited_for(run_scenario: RunScenario, helpers: Helpers) -> None:
    run(
        run_scenario,
        helpers,
        """
    counts = []
    stop = threading.Event()

    def count():
        n = 0
        while not stop.is_set():
            n += 1
        counts.append(n)

    thread = threading.Thread(target=count)
    thread.start()
    with wp.WorkerPool(1) as pool:
        t = (ctypes.c_int64 * 2)()
        pool.submit(stamped, t, 300_000_000).result()
        stamped(t, 100_000_000)
    stop.set()
    thread.join()
    assert counts[0] > 1000, counts
    print("held")
    """,
    )
