"""The end of the interpreter with pools in every state. Each in a process of its own."""

from __future__ import annotations

import pytest

from conftest import RunScenario
from support import Helpers


def test_sys_exit_with_jobs_waiting(run_scenario: RunScenario, helpers: Helpers) -> None:
    """What was submitted is done first, as the standard library does it."""
    done = run_scenario(
        """
        import ctypes, os, sys, workerpool as wp

        native = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        pool = wp.WorkerPool(2, queue_size=None)
        for i in range(200):
            pool.submit(native, 100_000)
            pool.submit(os.write, 1, b".")
        sys.exit(3)
        """,
        args=[helpers.path],
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "." * 200, "")


@pytest.mark.parametrize("leave", ["pass", "sys.exit()", "del pool", "pool.shutdown(wait=False)"])
def test_exit_waits_for_what_runs(run_scenario: RunScenario, helpers: Helpers, leave: str) -> None:
    """Jobs that have begun and are far from done, in C and in Python."""
    done = run_scenario(
        f"""
        import ctypes, os, sys, threading, time, workerpool as wp

        native = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        begun = threading.Event()

        def job():
            begun.set()
            time.sleep(0.3)
            os.write(1, b"python ")

        pool = wp.WorkerPool(2)
        pool.submit(native, 500_000_000).add_done_callback(lambda f: os.write(1, b"native"))
        pool.submit(job)
        assert begun.wait(10)
        {leave}
        """,
        args=[helpers.path],
    )
    assert (done.stdout, done.stderr) == ("python native", "")


def test_uncaught_exception_with_jobs_waiting(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import os, workerpool as wp

        pool = wp.WorkerPool(1)
        for i in range(50):
            pool.submit(os.write, 1, b".")
        raise ValueError("uncaught")
        """,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "." * 50)
    assert "ValueError: uncaught" in done.stderr


def test_os_exit_with_jobs_running(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import os, time, workerpool as wp

        pool = wp.WorkerPool(2)
        for _ in range(10):
            pool.submit(time.sleep, 100)
        os._exit(0)
        """
    )
    assert done.stderr == ""


def test_unread_map_and_results_at_exit(run_scenario: RunScenario, helpers: Helpers) -> None:
    done = run_scenario(
        """
        import itertools, sys, workerpool as wp

        native = wp.native(sys.argv[1] + ":id_long", "long (long)")
        pool = wp.WorkerPool(2)
        iterators = [pool.map(f, itertools.count()) for f in (native, int)]
        for iterator in iterators:
            next(iterator)
        results = pool.results()
        for i in range(100):
            results.submit(int, i)
        token = wp.CancelToken(timeout=100)
        future = pool.options(token=token, run_timeout=100).submit(int)
        """,
        args=[helpers.path],
    )
    assert done.stderr == ""


def test_ctrl_c_during_exit(run_scenario: RunScenario) -> None:
    """The exit waits for a job that would take long; Ctrl-C ends the wait."""
    done = run_scenario(
        """
        import os, signal, threading, time, workerpool as wp

        def job():
            while not wp.current_job().cancelled:
                time.sleep(0.01)

        pool = wp.WorkerPool(1)
        future = pool.submit(job)
        while not future.running():
            pass

        def interrupt():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)

        # Called as the exit begins, before the hook that waits for the pools.
        threading._register_atexit(threading.Thread(target=interrupt, daemon=True).start)
        """,
        check=False,
        options=("-X", "dev"),
    )
    assert done.returncode in {0, 1, 130, -2}
    assert "Fatal" not in done.stderr


def test_daemon_threads_that_use_the_pool_at_exit(run_scenario: RunScenario, helpers: Helpers) -> None:
    done = run_scenario(
        """
        import sys, threading, time, workerpool as wp

        native = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        pool = wp.WorkerPool(2, queue_size=4)
        begun = threading.Semaphore(0)

        def quietly(work):
            def run():
                begun.release()
                try:
                    while True:
                        work()
                except RuntimeError:
                    pass
            threading.Thread(target=run, daemon=True).start()

        quietly(lambda: pool.submit(native, 1000).result())
        quietly(lambda: pool.submit(time.sleep, 0))
        quietly(lambda: list(pool.map(int, range(100))))
        quietly(lambda: pool.submit(time.sleep, 0).add_done_callback(lambda f: None))
        quietly(lambda: pool.options(queue_timeout=0.001).submit(int))
        for _ in range(5):
            begun.acquire()
        time.sleep(0.05)
        """,
        args=[helpers.path],
    )
    assert done.stderr == ""


def test_daemon_threads_asleep_in_waits_at_exit(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import threading, time, workerpool as wp

        manual = wp.Future()
        pool = wp.WorkerPool(1)
        results = pool.results()
        for wait in (manual.result, results.get, lambda: next(results)):
            threading.Thread(target=wait, daemon=True).start()
        time.sleep(0.1)
        """
    )
    assert done.stderr == ""


def test_other_threads_go_on_submitting_until_they_are_refused(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import threading, workerpool as wp

        pool = wp.WorkerPool(2)

        def feed():
            try:
                while True:
                    pool.submit(int).result()
            except RuntimeError as error:
                print(error)

        threading.Thread(target=feed).start()
        """
    )
    assert done.stdout in {
        "cannot schedule new futures after interpreter shutdown\n",
        "cannot schedule new futures after shutdown\n",
    }


def test_job_that_submits_during_exit(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import threading, time, workerpool as wp

        def outer():
            try:
                while True:
                    pool.submit(int)
                    time.sleep(0.001)
            except RuntimeError as error:
                print(error)
            try:
                list(pool.map(int, range(3)))
            except RuntimeError as error:
                print(error)

        pool = wp.WorkerPool(1)
        pool.submit(outer)
        """
    )
    assert done.stdout.count("cannot schedule new futures after") == 2


def test_pool_kept_by_modules_and_frames(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import atexit, builtins, sys, workerpool as wp

        builtins.pool = wp.WorkerPool(2)
        builtins.future = builtins.pool.submit(int, 5)
        builtins.map = builtins.pool.map(int, range(100))
        sys.keep = builtins.pool.submit(lambda: sys._getframe())
        builtins.pool.submit(int).add_done_callback(lambda f: print("called"))
        atexit.register(lambda: print("at exit", builtins.future.result()))

        class Late:
            def __del__(self):
                assert builtins.future.done()
                builtins.pool.stats()

        sys.late = Late()
        """
    )
    assert done.stdout == "called\nat exit 5\n"
    assert done.stderr == ""


def test_finalizer_that_shuts_down(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import workerpool as wp

        class Owner:
            def __init__(self):
                self.pool = wp.WorkerPool(2)
                self.pool.submit(int)

            def __del__(self):
                self.pool.shutdown()

        owner = Owner()
        cycle = Owner()
        cycle.me = cycle
        """
    )
    assert done.stderr == ""


@pytest.mark.parametrize("n", [0, 1, 30])
def test_exit_with_idle_pools(run_scenario: RunScenario, n: int) -> None:
    done = run_scenario(
        f"""
        import workerpool as wp

        pools = [wp.WorkerPool(2) for _ in range({n})]
        for pool in pools:
            pool.submit(int).result()
        """
    )
    assert done.stderr == ""


def test_exit_while_the_gil_is_wanted_by_callbacks(run_scenario: RunScenario, helpers: Helpers) -> None:
    """Every callback of a native job has run before the interpreter ends."""
    done = run_scenario(
        """
        import os, sys, workerpool as wp

        native = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        pool = wp.WorkerPool(2)
        for _ in range(200):
            pool.submit(native, 1000).add_done_callback(lambda f: os.write(1, b"."))
        """,
        args=[helpers.path],
    )
    assert done.stdout == "." * 200


def test_thread_state_of_a_worker_runs_finalizers_of_thread_locals(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import threading, workerpool as wp

        local = threading.local()

        class Value:
            def __del__(self):
                print("finalized")

        def job():
            local.value = Value()

        with wp.WorkerPool(1) as pool:
            pool.submit(job).result()
        """
    )
    assert done.stdout == "finalized\n"


# ---- Stuck jobs ----
#
# A job that never ends holds up the exit, as it does with the standard library, until Ctrl-C. Then the interpreter ends
# around it.

STUCK = {
    "native": "pool.submit(wp.native(sys.argv[1] + ':wait_at', 'int (int64_t *)'), words)",
    "python": "pool.submit(lambda: words.__setitem__(0, 1) or threading.Event().wait())",
    "native map": "pool.map(wp.native(sys.argv[1] + ':wait_at', 'int (int64_t *)'), [words] * 5)",
    "array": "pool.submit_array(wp.native(sys.argv[1] + ':wait_at', 'int (int64_t *)'), words, out=ctypes.c_int())",
}


@pytest.mark.parametrize("job", STUCK)
@pytest.mark.parametrize("ctrl_cs", [1, 2])
def test_exit_with_a_stuck_job_ends_at_ctrl_c(
    run_scenario: RunScenario, helpers: Helpers, job: str, ctrl_cs: int
) -> None:
    done = run_scenario(
        f"""
        import ctypes, os, signal, sys, threading, time, workerpool as wp

        words = (ctypes.c_int64 * 2)()
        pool = wp.WorkerPool(1)
        stuck = {STUCK[job]}
        waiting = [pool.submit(int) for _ in range(10)]
        while not words[0]:
            time.sleep(0.001)

        def interrupt():
            for _ in range({ctrl_cs}):
                time.sleep(0.3)
                os.kill(os.getpid(), signal.SIGINT)

        # Called as the exit begins, before the hook that waits for the pools.
        threading._register_atexit(threading.Thread(target=interrupt, daemon=True).start)
        print("at the end")
        sys.stdout.flush()
        """,
        args=[helpers.path],
        check=False,
    )
    assert done.stdout == "at the end\n"
    assert "Fatal" not in done.stderr
    assert done.returncode in {0, 1, 120, 130, -2}


def test_shutdown_with_a_limit_says_what_is_stuck_and_os_exit_leaves(
    run_scenario: RunScenario, helpers: Helpers
) -> None:
    """The way out of a program that must end whatever its jobs do."""
    done = run_scenario(
        """
        import ctypes, os, sys, workerpool as wp

        words = (ctypes.c_int64 * 2)()
        native = wp.native(sys.argv[1] + ":wait_at", "int (int64_t *)")
        pool = wp.WorkerPool(1)
        pool.options(label="the stuck one").submit(native, words)
        while not words[0]:
            pass
        try:
            pool.shutdown(timeout=0.1)
        except TimeoutError as error:
            print(error, flush=True)
            os._exit(5)
        """,
        args=[helpers.path],
        check=False,
    )
    assert done.returncode == 5
    assert "the stuck one" in done.stdout


# ---- What no pool survives ----


def test_native_function_that_exits(run_scenario: RunScenario) -> None:
    """exit() ends the process where it is: with its status, without the interpreter's end."""
    done = run_scenario(
        """
        import atexit, ctypes, workerpool as wp

        atexit.register(print, "never")
        leave = wp.native(ctypes.CDLL(None)._exit, "void (int)")
        with wp.WorkerPool(1) as pool:
            pool.submit(leave, 7).result()
        print("never")
        """,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "")


def test_native_function_that_returns_with_a_lock_held(run_scenario: RunScenario, helpers: Helpers) -> None:
    """The next call that takes the lock is stuck; shutdown with a limit says which."""
    done = run_scenario(
        """
        import ctypes, os, workerpool as wp

        mutex = ctypes.create_string_buffer(64)
        lock = wp.native(ctypes.CDLL(None).pthread_mutex_lock, "int (void *)")
        pool = wp.WorkerPool(2)
        assert pool.submit(lock, mutex).result() == 0
        pool.options(label="the second").submit(lock, mutex)
        assert pool.submit(int, 3).result() == 3
        try:
            pool.shutdown(timeout=0.2)
        except TimeoutError as error:
            print(error, flush=True)
            os._exit(0)
        """
    )
    assert "the second" in done.stdout
