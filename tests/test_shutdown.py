"""Shutting down is a protocol: it ends, says what still runs, and loses nothing. Each in a process of its own."""

from __future__ import annotations

import pytest

from conftest import RunScenario
from support import Helpers

# `busy(pool)` keeps the pool's only worker in a job until `leave` is set.
COMMON = """
import gc, os, signal, sys, threading, time, weakref, workerpool as wp
from concurrent.futures import CancelledError

leave = threading.Event()

def busy(pool):
    begun = threading.Event()
    future = pool.submit(lambda: begun.set() or leave.wait())
    assert begun.wait(10)
    return future

def interrupt_soon(seconds=0.2):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()

"""


@pytest.fixture
def run(run_scenario: RunScenario) -> RunScenario:
    def with_common(code: str, **options: object) -> object:
        import textwrap

        return run_scenario(COMMON + textwrap.dedent(code), **options)

    return with_common  # type: ignore[return-value]


# ---- Dropping and breaking off ----


def test_half_read_map_is_dropped(run: RunScenario, helpers: Helpers) -> None:
    done = run(
        """
        native = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        for function, value in ((native, 1000), (time.sleep, 0.0001)):
            with wp.WorkerPool(2) as pool:
                results = pool.map(function, [value] * 10_000)
                next(results)
                del results
            lane = pool.stats().lanes["normal"]
            assert lane.submitted == lane.done + lane.cancelled, lane
            with wp.WorkerPool(2) as pool:
                for _ in pool.map(function, [value] * 10_000):
                    break
        pool = wp.WorkerPool(2)
        results = pool.map(int, range(1000))
        next(results)
        print("ended")
        """,
        args=[helpers.path],
    )
    assert done.stdout == "ended\n"


def test_half_read_results_are_dropped(run: RunScenario, helpers: Helpers) -> None:
    done = run(
        """
        native = wp.native(sys.argv[1] + ":id_long", "long (long)")
        for function in (native, int):
            with wp.WorkerPool(2) as pool:
                results = pool.results(100)
                for i in range(100):
                    results.submit(function, i)
                results.get()
                del results
            assert pool.stats().lanes["normal"].done == 100
            with wp.WorkerPool(2) as pool, pool.results(50) as results:
                for i in range(50):
                    results.submit(function, i)
                for r in results:
                    break
        pool = wp.WorkerPool(2)
        results = pool.results()
        results.submit(int)
        print("ended")
        """,
        args=[helpers.path],
    )
    assert done.stdout == "ended\n"


def test_exception_inside_with(run: RunScenario) -> None:
    done = run(
        """
        ran = []
        try:
            with wp.WorkerPool(1, queue_size=None) as pool, pool.results() as results:
                for i in range(100):
                    pool.submit(ran.append, i)
                results.submit(ran.append, 100)
                waiting = pool.map(ran.append, range(101, 110))
                raise ValueError("inside")
        except ValueError as error:
            print(error, len(ran))
        """
    )
    assert done.stdout == "inside 110\n"


def test_exception_inside_with_while_a_submit_is_blocked_elsewhere(run: RunScenario) -> None:
    done = run(
        """
        outcome = []

        def feeder(pool):
            try:
                for i in range(1000):
                    pool.submit(time.sleep, 0.001)
            except RuntimeError as error:
                outcome.append(str(error))

        try:
            with wp.WorkerPool(1, queue_size=1) as pool:
                thread = threading.Thread(target=feeder, args=(pool,))
                thread.start()
                time.sleep(0.05)
                raise ValueError
        except ValueError:
            thread.join()
            print(outcome)
        """
    )
    assert done.stdout == "['cannot schedule new futures after shutdown']\n"


# ---- Shutting down twice, in parts, at a time ----


def test_second_shutdown(run: RunScenario) -> None:
    done = run(
        """
        for make in (wp.WorkerPool, wp.ThreadPoolExecutor):
            pool = make(2)
            future = pool.submit(int, 5)
            pool.shutdown()
            pool.shutdown()
            pool.shutdown(wait=False)
            pool.shutdown(cancel_futures=True, timeout=1)
            with pool:
                pass
            print(future.result())
            unused = make(2)
            unused.shutdown()
            unused.shutdown()
        """
    )
    assert done.stdout == "5\n5\n"


def test_shutdown_without_wait_then_with(run: RunScenario) -> None:
    done = run(
        """
        pool = wp.WorkerPool(1)
        first = busy(pool)
        futures = [pool.submit(int, i) for i in range(5)]
        pool.shutdown(wait=False)
        print(any(f.done() for f in futures), end=" ")
        leave.set()
        pool.shutdown()
        print([f.result(0) for f in futures])
        """
    )
    assert done.stdout == "False [0, 1, 2, 3, 4]\n"


def test_many_threads_shut_down_at_a_time(run: RunScenario) -> None:
    done = run(
        """
        for _ in range(30):
            pool = wp.WorkerPool(3)
            futures = [pool.submit(time.sleep, 0) for _ in range(30)]
            threads = [threading.Thread(target=pool.shutdown) for _ in range(5)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert all(f.done() for f in futures)
        print("ended")
        """
    )
    assert done.stdout == "ended\n"


def test_submit_and_shutdown_race(run: RunScenario, helpers: Helpers) -> None:
    """Each submit is either refused or its job is done."""
    done = run(
        """
        native = wp.native(sys.argv[1] + ":id_long", "long (long)")
        for round in range(60):
            pool = wp.WorkerPool(2, queue_size=(4, None, 0)[round % 3])
            accepted = []

            def submit():
                try:
                    while True:
                        accepted.append(pool.submit(native, 1))
                        accepted.append(pool.submit(int, 1))
                except RuntimeError:
                    pass

            threads = [threading.Thread(target=submit) for _ in range(3)]
            for t in threads:
                t.start()
            time.sleep(0.003)
            pool.shutdown(cancel_futures=round % 2 == 0)
            for t in threads:
                t.join()
            assert all(f.done() for f in accepted)
            assert all(f.cancelled() or f.result() == 1 for f in accepted)
            if round % 2:
                assert not any(f.cancelled() for f in accepted)
            assert pool.stats().unfinished == 0
        print("ended")
        """,
        args=[helpers.path],
        timeout=30,
        options=(),
    )
    assert done.stdout == "ended\n"


def test_timeout_says_what_runs_and_can_be_tried_again(run: RunScenario, helpers: Helpers) -> None:
    done = run(
        """
        import ctypes
        wait_at = wp.native(sys.argv[1] + ":wait_at", "int (int64_t *)")
        gate = (ctypes.c_int64 * 2)()
        pool = wp.WorkerPool(2)
        python = busy(pool)
        native = pool.submit(wait_at, gate)
        while not gate[0]:
            pass
        waiting = pool.submit(int, 5)
        begin = time.monotonic()
        try:
            pool.shutdown(timeout=0.1)
        except TimeoutError as error:
            print(error)
        assert 0.09 < time.monotonic() - begin < 5
        try:
            pool.submit(int)
        except RuntimeError:
            print("closed")
        try:
            pool.shutdown(timeout=0)
        except TimeoutError:
            print("again")
        leave.set()
        gate[1] = 1
        pool.shutdown(timeout=10)
        print(python.result(0), native.result(0), waiting.result(0))
        """,
        args=[helpers.path],
    )
    first, *rest = done.stdout.splitlines()
    assert first.startswith("jobs still run after the timeout of shutdown():")
    assert "worker 0: a Python callable" in first
    assert "worker 1: the native function wait_at" in first
    assert rest == ["closed", "again", "True 0 5"]


def test_shutdown_cancels_what_waits_and_not_what_runs(run: RunScenario) -> None:
    done = run(
        """
        pool = wp.WorkerPool(1, queue_size=None)
        running = busy(pool)
        called = []
        waiting = [pool.lane(lane).submit(int) for lane in pool.lanes for _ in range(100)]
        for f in waiting:
            f.add_done_callback(called.append)
        pool.shutdown(wait=False, cancel_futures=True)
        assert all(f.cancelled() for f in waiting)
        assert len(called) == 300
        leave.set()
        print(running.result(10), pool.stats().lanes["low"].cancelled)
        """
    )
    assert done.stdout == "True 100\n"


@pytest.mark.parametrize("call", ["pool.shutdown()", "pool.drain()", "pool.lane('high').shutdown()"])
def test_on_a_worker_of_the_pool_itself(run: RunScenario, call: str) -> None:
    done = run(
        f"""
        pool = wp.WorkerPool(2)
        error = pool.submit(lambda: {call}).exception(10)
        print(type(error).__name__, "would wait for the job that calls it" in str(error))
        what = "pool" if "lane" not in {call!r} else "view"
        closed = f"; the {{what}} takes no more jobs now: call shutdown(wait=False) here"
        assert str(error).endswith(closed if "shutdown" in {call!r} else "worker of this pool"), error
        print(pool.submit(pool.shutdown, wait=False).exception(10) if pool._shutdown is False else None)
        pool.shutdown()
        """
    )
    assert done.stdout == "RuntimeError True\nNone\n"


def test_on_a_worker_of_another_pool(run: RunScenario) -> None:
    done = run(
        """
        with wp.WorkerPool(1) as outer:
            inner = wp.WorkerPool(1)
            future = inner.submit(time.sleep, 0.01)
            outer.submit(inner.shutdown).result(10)
            print(future.done())
        """
    )
    assert done.stdout == "True\n"


# ---- Drain ----


def test_drain(run: RunScenario) -> None:
    done = run(
        """
        with wp.WorkerPool(2) as pool:
            print(pool.drain(), pool.drain(0), end=" ")
            running = busy(pool)
            print(pool.drain(0.05), pool.drain(timeout=0), end=" ")
            futures = [pool.submit(time.sleep, 0.001) for _ in range(50)]
            threading.Timer(0.05, leave.set).start()
            print(pool.drain(10), all(f.done() for f in futures))
            try:
                pool.drain("soon")
            except TypeError as error:
                print(error)
        print(pool.drain())
        """
    )
    assert done.stdout.splitlines()[0] == "True True False False True True"
    assert "timeout must be a number of seconds" in done.stdout
    assert done.stdout.endswith("True\n")


# ---- The collector ----


def test_pool_with_jobs_waiting_is_collected(run: RunScenario, helpers: Helpers) -> None:
    done = run(
        """
        native = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        own = 2 if os.environ.get("WORKERPOOL_SANITIZED") == "thread" else 1  # The sanitizer has one as well.
        ran = []
        for make in (wp.WorkerPool, wp.ThreadPoolExecutor):
            pool = make(2)
            futures = [pool.submit(ran.append, i) for i in range(500)]
            futures += [pool.submit(native, 1000) for i in range(500)]
            alive = weakref.ref(pool)
            del pool
            gc.collect()
            assert alive() is None
            for f in futures:
                f.result(10)
        for _ in range(100):
            wp.WorkerPool(2).submit(ran.append, 0)
        while len(ran) < 1100:
            time.sleep(0.001)
        deadline = time.monotonic() + 10
        while len(os.listdir("/proc/self/task")) > own and time.monotonic() < deadline:
            time.sleep(0.01)
        print(len(ran), len(os.listdir("/proc/self/task")) - own)
        """,
        args=[helpers.path],
    )
    assert done.stdout == "1100 0\n"


def test_idle_pools_leave_no_threads_when_dropped(run: RunScenario) -> None:
    done = run(
        """
        own = 2 if os.environ.get("WORKERPOOL_SANITIZED") == "thread" else 1
        for _ in range(50):
            pool = wp.WorkerPool(3)
            list(pool.map(int, range(100)))
            f = pool.submit(int)
            f.result()
            del pool, f
        gc.collect()
        deadline = time.monotonic() + 10
        while len(os.listdir("/proc/self/task")) > own and time.monotonic() < deadline:
            time.sleep(0.01)
        print(len(os.listdir("/proc/self/task")) - own)
        """
    )
    assert done.stdout == "0\n"


def test_last_reference_to_a_pool_goes_on_its_own_worker(run: RunScenario) -> None:
    done = run(
        """
        class Box:
            pass

        for _ in range(50):
            box = Box()
            box.pool = wp.WorkerPool(1)
            future = box.pool.submit(lambda box: box.__dict__.clear(), box)
            del box
            future.result(10)
            del future
        gc.collect()
        print("ended")
        """
    )
    assert done.stdout == "ended\n"


def test_pool_in_a_cycle_with_its_jobs(run: RunScenario) -> None:
    done = run(
        """
        pool = wp.WorkerPool(1)
        pool.me = pool
        pool.future = pool.submit(lambda: pool)
        pool.future.result(10)
        pool.view = pool.options(token=wp.CancelToken())
        pool.results_queue = pool.results()
        pool.iterator = pool.map(int, range(10))
        pool.drain()
        alive = weakref.ref(pool)
        del pool
        for _ in range(100):
            gc.collect()
            if alive() is None:
                break
            time.sleep(0.01)
        print(alive())
        """
    )
    assert done.stdout == "None\n"


# ---- Ctrl-C ends every wait, and nothing is lost ----

WAITS = {
    "result": "pool.submit(int).result()",
    "exception": "pool.submit(int).exception()",
    "result with a limit": "pool.submit(int).result(100)",
    "native result": "pool.submit(native, 5).result()",
    "map": "next(pool.map(int, range(10)))",
    "native map": "next(pool.map(native, range(10)))",
    "unordered map": "next(pool.map(int, range(10), in_order=False))",
    "results": "next(results)",
    "get": "results.get(100)",
    "results submit": "full.submit(int)",
    "shutdown": "pool.shutdown()",
    "shutdown with a limit": "pool.shutdown(timeout=100)",
    "drain": "pool.drain()",
    "view shutdown": "pool.lane('high').shutdown()",
    "wait": "concurrent.futures.wait([pool.submit(int)])",
    "as_completed": "list(concurrent.futures.as_completed([pool.submit(int)]))",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c(run: RunScenario, helpers: Helpers, wait: str) -> None:
    done = run(
        f"""
        import concurrent.futures
        native = wp.native(sys.argv[1] + ":id_long", "long (long)")
        pool = wp.WorkerPool(1)
        results = pool.results()
        full = pool.results(1)
        running = busy(pool)
        full.submit(int)
        before = pool.submit(int, 7)
        begin = time.monotonic()
        try:
            interrupt_soon()
            {WAITS[wait]}
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - begin < 5)
        leave.set()
        pool.shutdown()
        print(running.result(0), before.result(0), pool.stats().unfinished)
        """,
        args=[helpers.path],
    )
    assert done.stdout == "interrupted True\nTrue 7 0\n"


MORE_WAITS = {
    "submit": "narrow.submit(int)",
    "submit with a limit": "narrow.options(submit_timeout=100).submit(int)",
    "submit by a view": "narrow.options(label='one more').submit(int)",
    "map": "next(narrow.map(int, range(10)))",
    "results submit": "narrow_results.submit(int)",
    "run": "asyncio.run(awaited())",
    "eager map": "next(eager.map(int, range(10)))",
    "drain with a limit": "pool.drain(100)",
    "map array": "narrow.map_array(sleep, naps)",
    "submit array": "pool.submit_array(sleep, naps[:1]).result()",
    "with": """
with wp.WorkerPool(1) as inner:
    inner.submit(leave.wait)
""",
    "results with": """
with pool.results() as inner:
    inner.submit(int)
    next(inner)
""",
}


def test_ctrl_c_twice_in_every_wait(run: RunScenario, helpers: Helpers) -> None:
    """Each wait is ended, begun again and ended again; then two Ctrl-C at once; and nothing was lost."""
    done = run(
        f"""
        import array, asyncio, concurrent.futures
        native = wp.native(sys.argv[1] + ":id_long", "long (long)")
        sleep = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        naps = array.array("q", [10_000_000] * 2000)
        pool = wp.WorkerPool(1, queue_size=None)
        narrow = wp.WorkerPool(1, queue_size=1)
        results = pool.results()
        full = pool.results(1)
        narrow_results = narrow.results(5)
        eager = wp.ThreadPoolExecutor(1)
        running = [busy(pool), busy(narrow), busy(eager)]
        full.submit(int)
        before = [pool.submit(int, 7), narrow.submit(int, 7)]

        async def awaited():
            await pool.run(int)

        def interrupt(times):
            time.sleep(0.05)
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

        def interrupted(code, times):
            thread = threading.Thread(target=interrupt, args=(times,))
            begin = time.monotonic()
            try:
                try:
                    thread.start()
                    exec(compile(code, code, "exec"), globals())  # Of a text, Python would remember the Ctrl-C.
                finally:
                    thread.join()
            except KeyboardInterrupt:
                return time.monotonic() - begin < 5
            return False

        waits = {[code for code in WAITS.values() if ".shutdown" not in code] + list(MORE_WAITS.values())!r}
        shutdowns = {[code for code in WAITS.values() if ".shutdown" in code]!r}
        for code in waits + shutdowns:
            for times in (1, 1, 2):
                if not interrupted(code, times):
                    print("not interrupted:", code)
        leave.set()
        pool.shutdown()
        narrow.shutdown()
        eager.shutdown()
        print([f.result(0) for f in running + before], [p.stats().unfinished for p in (pool, narrow, eager)])
        """,
        args=[helpers.path],
        timeout=50,
    )
    assert done.stdout == "[True, True, True, 7, 7] [0, 0, 0]\n"


def test_signal_handlers_run_during_waits_and_the_wait_goes_on(run: RunScenario) -> None:
    done = run(
        """
        seen = []
        signal.signal(signal.SIGALRM, lambda *_: seen.append(threading.current_thread() is threading.main_thread()))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

        def sees(more):
            # Ends when the main thread, which waits for this, has run the handler so many times more.
            enough = len(seen) + more
            while len(seen) < enough:
                time.sleep(0.005)

        with wp.WorkerPool(1) as pool:
            print(pool.submit(sees, 5).result())
            next(pool.map(sees, [3]))
            pool.submit(sees, 3)
            pool.drain()
            pool.submit(sees, 3)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(all(seen))
        """
    )
    assert done.stdout == "None\nTrue\n"


def test_ctrl_c_inside_with(run: RunScenario) -> None:
    """As with the standard library, leaving the block waits for what was submitted; a second Ctrl-C ends that too."""
    done = run(
        """
        ran = []

        def interrupt():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)  # The main thread leaves the block meanwhile.
            leave.set()

        try:
            with wp.WorkerPool(1) as pool:
                busy(pool)
                for i in range(300):
                    pool.submit(ran.append, i)
                threading.Timer(0.1, interrupt).start()
                pool.drain()
        except KeyboardInterrupt:
            print(len(ran), leave.is_set())
        """
    )
    assert done.stdout == "300 True\n"
