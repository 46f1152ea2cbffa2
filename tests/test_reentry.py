"""The pool called from where nobody expects it: finalizers, exit handlers, signal handlers and callbacks."""

from __future__ import annotations

import pytest

from conftest import RunScenario
from support import Helpers

COMMON = """
import atexit, gc, os, signal, sys, threading, time, workerpool as wp
from concurrent.futures import wait

native = wp.native(sys.argv[1] + ":id_long", "long (long)")
sleep = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")

def use(pool):
    assert pool.submit(int, 5).result() == 5
    assert pool.submit(native, 6).result() == 6
    assert list(pool.map(int, range(100))) == list(range(100))
    assert list(pool.map(native, range(1000))) == list(range(1000))

"""


@pytest.fixture
def run(run_scenario: RunScenario, helpers: Helpers) -> RunScenario:
    def with_common(code: str, **options: object) -> object:
        import textwrap

        return run_scenario(COMMON + textwrap.dedent(code), args=[helpers.path], **options)

    return with_common  # type: ignore[return-value]


# ---- Finalizers ----


def test_finalizer_that_makes_uses_and_drops_a_pool(run: RunScenario) -> None:
    """In the middle of a submit too, where a collection of garbage may come at any allocation."""
    done = run(
        """
        finalized = []

        class Owner:
            def __init__(self):
                self.me = self
            def __del__(self):
                with wp.WorkerPool(1) as own:
                    use(own)
                shared.submit(int).result()
                finalized.append(threading.current_thread())

        shared = wp.WorkerPool(2)
        gc.set_threshold(10)
        for _ in range(30):
            Owner()
            futures = [shared.submit(lambda: [[] for _ in range(20)]) for _ in range(10)]
            # Not concurrent.futures.wait(): it holds the futures' locks while it makes objects, and a finalizer that
            # waits for a job in there waits for a worker that waits for such a lock.
            for future in futures:
                future.result()
        gc.collect()
        print(len(finalized))
        """,
        timeout=60,
    )
    assert done.stdout == "30\n"


def test_finalizer_at_the_end_of_the_interpreter(run: RunScenario) -> None:
    """There the pool says that it is too late, and nothing hangs."""
    done = run(
        """
        class Owner:
            pool = wp.WorkerPool(1)
            def __del__(self, print=print, RuntimeError=RuntimeError, Exception=Exception, make=wp.WorkerPool):
                try:
                    self.pool.submit(int)
                except RuntimeError as error:
                    print(error)
                try:
                    make(1).submit(int)  # What it needs to make one may be gone.
                except Exception as error:
                    print("nor in a new one")

        Owner.pool.submit(int).result()
        owner = Owner()
        """
    )
    assert done.stdout == "cannot schedule new futures after interpreter shutdown\nnor in a new one\n"
    assert done.stderr == ""


def test_finalizer_of_a_jobs_result_runs_on_a_worker(run: RunScenario) -> None:
    done = run(
        """
        class Thing:
            def __del__(self):
                use(pool)
                done.release()

        done = threading.Semaphore(0)
        pool = wp.WorkerPool(1)
        for _ in range(20):
            pool.submit(Thing)
        for _ in range(20):
            assert done.acquire(timeout=10)
        pool.shutdown()
        """
    )
    assert done.stderr == ""


# ---- Exit handlers ----


def test_exit_handler_that_uses_a_pool(run: RunScenario) -> None:
    """They run after the exit of threading, which ended the pools; what is done can be read, nothing can be begun."""
    done = run(
        """
        pool = wp.WorkerPool(1)
        future = pool.submit(int, 5)

        @atexit.register
        def late():
            print(future.result(), pool.stats().unfinished)
            fresh = wp.WorkerPool(1)
            for act in (lambda: pool.submit(int), lambda: list(pool.map(int, [1])), lambda: fresh.submit(int)):
                try:
                    act()
                except RuntimeError as error:
                    print(error)
            pool.drain()
            pool.shutdown()
        """
    )
    assert done.stdout.splitlines() == ["5 0"] + ["cannot schedule new futures after interpreter shutdown"] * 3


def test_exit_handler_that_imports_the_package_first(run_scenario: RunScenario) -> None:
    """Python has no hook left that would end the pools, so only what was waited for is sure to be done."""
    done = run_scenario(
        """
        import atexit

        @atexit.register
        def late():
            import time, workerpool as wp
            with wp.WorkerPool(2) as pool:
                print(sum(pool.map(int, range(10))))
            atexit.kept = wp.WorkerPool(2)
            print(atexit.kept.submit(int, 5).result())
            for _ in range(10):
                atexit.kept.submit(time.sleep, 0.01).add_done_callback(id)
        """
    )
    assert done.stdout == "45\n5\n"


# ---- Signal handlers ----

MAIN_THREAD = {
    "submit": "pool.submit(int).result()",
    "native": "pool.submit(native, 1).result()",
    "map": "list(pool.map(int, range(50)))",
    "native map": "list(pool.map(native, range(5000)))",
    "python": "sum(range(1000))",
    "drain": "[pool.submit(sleep, 1000) for _ in range(10)]; pool.drain()",
    "own pool": "own = wp.WorkerPool(1); own.submit(sleep, 1000); own.shutdown()",
    "results": "results.submit(native, 1); results.get()",
    "callback": "pool.submit(sleep, 1000).add_done_callback(lambda f: None)",
    "wait": "wait([pool.submit(int)])",
}


@pytest.mark.parametrize("work", MAIN_THREAD)
def test_signal_handler_that_uses_the_pool(run: RunScenario, work: str) -> None:
    """It runs in the main thread between two steps of anything, so no lock may be held there."""
    done = run(
        f"""
        calls = 0
        over = False

        def handler(number, frame):
            global calls
            if over:
                return
            use(pool)
            token = wp.CancelToken(timeout=10)
            pool.options(token=token, queue_timeout=10, run_timeout=10).submit(int).add_done_callback(lambda f: None)
            token.cancel()
            with wp.WorkerPool(1) as fresh:
                fresh.submit(int).result()
            calls += 1
            signal.setitimer(signal.ITIMER_REAL, 0.003)

        pool = wp.WorkerPool(2)
        results = pool.results()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        end = time.monotonic() + 10
        while calls < 20 and time.monotonic() < end:
            {MAIN_THREAD[work]}
        over = True  # A handler that comes between here and the next line sets no timer.
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert calls >= 20, calls
        pool.shutdown()
        """,
        timeout=30,
    )
    assert done.stderr == ""


def test_signal_handler_that_shuts_the_pool_down(run: RunScenario) -> None:
    """While the main thread waits for a job of it, and the shutdown waits for that job as well."""
    done = run(
        """
        def handler(number, frame):
            leave.set()
            pool.shutdown()
            print("shut down")

        def job():
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            return leave.wait(20)

        leave = threading.Event()
        pool = wp.WorkerPool(1)
        signal.signal(signal.SIGALRM, handler)
        print(pool.submit(job).result())
        try:
            pool.submit(int)
        except RuntimeError as error:
            print(error)
        """
    )
    assert done.stdout == "shut down\nTrue\ncannot schedule new futures after shutdown\n"


def test_signal_handler_that_raises_during_a_blocked_submit(run: RunScenario) -> None:
    done = run(
        """
        class Alarm(Exception):
            pass

        def handler(number, frame):
            raise Alarm

        leave = threading.Event()
        pool = wp.WorkerPool(1, queue_size=1)
        signal.signal(signal.SIGALRM, handler)
        futures = [pool.submit(leave.wait, 20)]
        while not futures[0].running():
            time.sleep(0.001)
        futures.append(pool.submit(int, 1))
        for _ in range(5):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                pool.submit(int)
            except Alarm:
                pass
            else:
                raise AssertionError
        leave.set()
        pool.shutdown()
        stats = pool.stats()
        print([f.result() for f in futures], stats.lanes["normal"].submitted, stats.unfinished)
        """
    )
    assert done.stdout == "[True, 1] 2 0\n"


# ---- Callbacks ----


@pytest.mark.parametrize("job", ["int", "native, 1"])
def test_callback_that_shuts_the_pool_down(run: RunScenario, job: str) -> None:
    """Without waiting it may; jobs that wait are done, or cancelled if it says so."""
    done = run(
        f"""
        for cancel in (False, True):
            leave = threading.Event()
            pool = wp.WorkerPool(1)
            first = pool.submit(leave.wait, 20)
            second = pool.submit({job})
            second.add_done_callback(lambda f: pool.shutdown(wait=False, cancel_futures=cancel))
            called = []
            others = [pool.submit({job}) for _ in range(50)]
            for future in others:
                future.add_done_callback(called.append)
            leave.set()
            wait([first, second, *others])
            pool.shutdown()
            assert second.done()
            assert len(called) == 50, len(called)
            assert cancel or not any(f.cancelled() for f in others)
            assert pool.stats().unfinished == 0
        """
    )
    assert done.stderr == ""


@pytest.mark.parametrize("job", ["int", "native, 1"])
def test_callback_of_a_cancelled_job_waits_for_the_pool(run: RunScenario, job: str) -> None:
    """It runs on the thread that cancels. Its own job has ended by then, and is not waited for."""
    done = run(
        f"""
        leave = threading.Event()
        pool = wp.WorkerPool(1)
        first = pool.submit(leave.wait, 20)
        drained = []

        def drain(future):
            leave.set()
            drained.append((pool.drain(10), first.done(), future.cancelled()))

        future = pool.submit({job})
        future.add_done_callback(drain)
        assert future.cancel()
        pool.shutdown()
        print(drained, pool.stats().unfinished)
        """
    )
    assert done.stdout == "[(True, True, True)] 0\n"


def test_callback_on_a_worker_that_waits_for_its_own_shutdown_is_told(run: RunScenario) -> None:
    """It cannot wait for itself: the error goes to the log, as all errors of callbacks do, and all goes on."""
    done = run(
        """
        import logging
        logging.basicConfig(format="%(exc_info)s", stream=sys.stdout)
        leave = threading.Event()
        pool = wp.WorkerPool(1)
        future = pool.submit(leave.wait, 20)
        future.add_done_callback(lambda f: pool.shutdown())
        leave.set()
        future.result()
        pool.shutdown()
        """
    )
    assert "RuntimeError" in done.stdout


@pytest.mark.parametrize("job", ["int", "native, 1"])
def test_callbacks_that_raise_and_submit_in_a_chain(run: RunScenario, job: str) -> None:
    done = run(
        f"""
        import logging
        logging.disable()
        pool = wp.WorkerPool(2, queue_size=1)
        ended = threading.Event()
        links = 0

        def again(future):
            global links
            links += 1
            if links == 500:
                ended.set()
            else:
                pool.submit({job}).add_done_callback(again)
            raise ValueError

        pool.submit({job}).add_done_callback(again)
        assert ended.wait(15), links
        pool.shutdown()
        print(links, pool.stats().unfinished)
        """
    )
    assert done.stdout == "500 0\n"


def test_callback_that_exits_does_not_end_the_worker(run: RunScenario) -> None:
    """SystemExit and KeyboardInterrupt of a callback, too, stay where they were raised."""
    done = run(
        """
        import logging
        logging.disable()
        sys.unraisablehook = lambda unraisable: None

        def leave(future):
            raise kind

        with wp.WorkerPool(1) as pool:
            for kind in (SystemExit(3), KeyboardInterrupt()):
                gate = threading.Event()
                future = pool.submit(gate.wait, 20)
                future.add_done_callback(leave)
                gate.set()
                future.result()
                assert pool.submit(int, 1).result() == 1
                assert pool.submit(native, 2).result() == 2
        """
    )
    assert done.stderr == ""
