"""Forks: the child neither hangs nor warns, its pools work, and the parent notices nothing."""

from __future__ import annotations

import multiprocessing
import sys

import pytest

from conftest import RunScenario
from support import FREE_THREADED, Helpers

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")

# Forks are made on purpose here; from 3.12 on Python warns of them where threads run, so they are let through by name
# in the scenarios in which the pool has started threads.
COMMON = """
import gc, multiprocessing, os, sys, threading, time, warnings, workerpool as wp
from concurrent.futures import CancelledError, wait

def in_child(work):
    "Runs work() in a forked child and checks that it ended well."
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid

def join(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

if not getattr(sys, "_is_gil_enabled", lambda: True)():
    # Without the GIL CPython 3.13 does not survive a fork while another thread holds its stop-the-world lock (a
    # garbage collection is enough): the child finds it taken for ever. So threads are let come to rest first.
    real_fork = os.fork

    def state_of(thread):
        try:
            with open(f"/proc/self/task/{thread}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return "gone"

    def fork():
        at_rest = 0
        while at_rest < 5:
            others = set(os.listdir("/proc/self/task")) - {str(threading.get_native_id())}
            at_rest = at_rest + 1 if all(state_of(thread) == "S" for thread in others) else 0
            time.sleep(0.005)
        return real_fork()

    os.fork = fork

def threads_may_run():
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork.*", DeprecationWarning)

native = wp.native(sys.argv[1] + ":id_long", "long (long)")
sleep = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")

def use(pool):
    assert pool.submit(int, 5).result(10) == 5
    assert pool.submit(native, 6).result(10) == 6
    assert list(pool.map(int, range(100))) == list(range(100))
    assert list(pool.map(native, range(1000))) == list(range(1000))
    with pool.results() as results:
        for i in range(20):
            results.submit(native, i)
        results.close()
        assert sorted(r.value for r in results) == list(range(20))
    assert pool.options(run_timeout=10, token=wp.CancelToken(timeout=10)).submit(native, 7).result(10) == 7
    called = threading.Event()
    pool.submit(sleep, 1000).add_done_callback(lambda f: called.set())
    assert called.wait(10)

"""


@pytest.fixture
def run(run_scenario: RunScenario, helpers: Helpers) -> RunScenario:
    def with_common(code: str, **options: object) -> object:
        import textwrap

        return run_scenario(COMMON + textwrap.dedent(code), args=[helpers.path], **options)

    return with_common  # type: ignore[return-value]


def test_before_use_there_is_no_thread_and_no_warning(run: RunScenario) -> None:
    done = run(
        """
        pool = wp.WorkerPool(2)
        token = wp.CancelToken(timeout=10)
        view = pool.options(token=token, lane="high")
        pid = in_child(lambda: (use(pool), use(view), pool.shutdown()))
        join(pid)
        use(pool)
        pool.shutdown()
        """
    )
    assert done.stderr == ""


def test_import_alone_starts_nothing(run: RunScenario) -> None:
    done = run("print(len(os.listdir('/proc/self/task')))")
    assert done.stdout == "1\n"


def test_after_use_the_pool_starts_afresh_in_the_child(run: RunScenario) -> None:
    done = run(
        """
        threads_may_run()
        pool = wp.WorkerPool(3)
        use(pool)
        for _ in range(5):
            pid = in_child(lambda: (use(pool), pool.shutdown()))
            use(pool)
            join(pid)
        use(pool)
        pool.shutdown()
        """
    )
    assert done.stderr == ""


def test_jobs_of_before_are_lost_in_the_child_and_done_in_the_parent(run: RunScenario) -> None:
    done = run(
        """
        threads_may_run()
        leave = threading.Event()
        pool = wp.WorkerPool(1)
        done = pool.submit(int, 1)
        done.result()
        running = pool.submit(leave.wait, 20)
        while not running.running():
            pass
        waiting = [pool.submit(int, 2), pool.submit(native, 3)]
        iterator = pool.map(int, range(5))
        unordered = pool.map(native, range(5), in_order=False)

        def child():
            assert done.result() == 1
            for future in (running, *waiting):
                for method in (future.result, future.exception):
                    begin = time.monotonic()
                    try:
                        assert isinstance(method(), wp.BrokenPool)
                    except wp.BrokenPool as error:
                        assert "forked" in str(error)
                    assert time.monotonic() - begin < 5
                assert future.done()
                assert not future.running()
                assert not future.cancel()
                assert not future.request_cancel()
                assert "raised BrokenPool" in repr(future), repr(future)
            assert wait([running, *waiting], 5).not_done == set()
            called = []
            running.add_done_callback(called.append)
            assert called == [running]
            for m in (iterator, unordered):
                try:
                    next(m)
                except wp.BrokenPool:
                    pass
                else:
                    raise AssertionError
            use(pool)
            assert pool.stats().lanes["normal"].waiting == 0
            pool.shutdown()

        pid = in_child(child)
        join(pid)
        leave.set()
        assert [f.result() for f in (running, *waiting)] == [True, 2, 3]
        assert list(iterator) == list(range(5))
        assert sorted(unordered) == list(range(5))
        pool.shutdown()
        """
    )
    assert done.stderr == ""


def test_results_pending_at_the_fork(run: RunScenario) -> None:
    done = run(
        """
        threads_may_run()
        leave = threading.Event()
        pool = wp.WorkerPool(1)
        results = pool.results()
        results.submit(int, 1)
        pool.drain()
        results.submit(leave.wait, 20)
        results.submit(int, 2)
        results.close()

        def child():
            for act in (lambda: next(results), results.get, lambda: results.submit(int)):
                try:
                    act()
                except wp.BrokenPool as error:
                    print("forked" in str(error), end=" ")
            print(results.unread, results.pending)
            results.close()
            fresh = pool.results()
            fresh.submit(int, 5)
            assert fresh.get(10).value == 5

        join(in_child(child))
        leave.set()
        print([r.value for r in results])
        pool.shutdown()
        """
    )
    assert done.stdout == "True True True 0 0\n[1, True, 2]\n"


def test_child_that_just_exits(run: RunScenario) -> None:
    """The usual end of a child runs the exit hooks, with pools whose threads are in the parent."""
    done = run(
        """
        threads_may_run()
        leave = threading.Event()
        pool = wp.WorkerPool(2, queue_size=None)
        for _ in range(100):
            pool.submit(leave.wait, 20)
            pool.options(queue_timeout=20).submit(int)
            pool.submit(native, 1).add_done_callback(lambda f: None)
        pid = os.fork()
        if pid == 0:
            sys.exit(0)
        join(pid)
        pid = os.fork()
        if pid == 0:
            del pool
            gc.collect()
            sys.exit(0)
        join(pid)
        leave.set()
        pool.shutdown()
        """
    )
    assert done.stderr == ""


def test_shutdown_and_drop_in_the_child(run: RunScenario) -> None:
    done = run(
        """
        threads_may_run()
        leave = threading.Event()
        pool = wp.WorkerPool(2)
        futures = [pool.submit(leave.wait, 20) for _ in range(5)]
        iterator = pool.map(int, range(100))

        def child():
            global pool, futures, iterator
            pool.drain()
            pool.shutdown(cancel_futures=True)
            del pool, futures, iterator
            gc.collect()

        join(in_child(child))
        leave.set()
        assert all(f.result(10) for f in futures)
        assert list(iterator) == list(range(100))
        pool.shutdown()
        """
    )
    assert done.stderr == ""


def test_fork_on_a_worker(run: RunScenario) -> None:
    done = run(
        """
        threads_may_run()

        def job(pool):
            def child():
                use(pool)
                with wp.WorkerPool(2) as fresh:
                    use(fresh)
            join(in_child(child))
            return "ended"

        with wp.WorkerPool(2) as pool:
            print(pool.submit(job, pool).result(20))
        """
    )
    assert done.stdout == "ended\n"


@pytest.mark.skipif(
    FREE_THREADED, reason="without the GIL CPython does not survive a fork while other threads use it; see COMMON"
)
def test_forks_while_many_threads_use_the_pool(run: RunScenario) -> None:
    """The child inherits locks in whatever state they are in at that moment."""
    done = run(
        """
        threads_may_run()
        stop = threading.Event()
        pool = wp.WorkerPool(2, queue_size=20)

        def load(n):
            token = wp.CancelToken()
            while not stop.is_set():
                pool.submit(native, 1).result()
                pool.options(token=token, queue_timeout=10).submit(int)
                list(pool.map(native, range(50)))
                pool.submit(int).add_done_callback(lambda f: None)

        threads = [threading.Thread(target=load, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()

        def child():
            use(pool)
            with wp.WorkerPool(1) as fresh:
                use(fresh)

        for _ in range(25):
            join(in_child(child))
        stop.set()
        for t in threads:
            t.join()
        use(pool)
        pool.shutdown()
        """,
        timeout=50,
    )
    assert done.stderr == ""


@pytest.mark.stress
@pytest.mark.skipif(FREE_THREADED, reason="as above")
def test_forks_while_workers_enter_python_for_the_first_time(run: RunScenario) -> None:
    """They make thread states then, under a lock of CPython's that a fork before 3.13 does not wait for."""
    run(
        """
        threads_may_run()
        stop = threading.Event()

        def churn():
            while not stop.is_set():
                with wp.WorkerPool(4) as pool:
                    for _ in range(4):
                        pool.submit(time.sleep, 0)

        threads = [threading.Thread(target=churn) for _ in range(2)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 8
        while time.monotonic() < end:
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            join(pid)
        stop.set()
        for thread in threads:
            thread.join()
        """,
        timeout=30,
    )


def test_fork_after_the_package_was_imported_twice(run: RunScenario) -> None:
    """As some test runners do it; each time Python is given the hooks again."""
    done = run(
        """
        for name in [name for name in sys.modules if name.startswith("workerpool")]:
            del sys.modules[name]
        import workerpool as again
        assert again is not wp
        threads_may_run()
        with wp.WorkerPool(1) as pool, again.WorkerPool(1) as other:
            assert pool.submit(int, 1).result(10) + other.submit(int, 2).result(10) == 3
            for _ in range(3):
                join(in_child(lambda: (pool.submit(int).result(10), other.submit(int).result(10))))
            assert pool.submit(int, 1).result(10) + other.submit(int, 2).result(10) == 3
        """
    )
    assert done.stderr == ""


def test_grandchildren(run: RunScenario) -> None:
    done = run(
        """
        threads_may_run()
        pool = wp.WorkerPool(1)
        use(pool)

        def child():
            use(pool)
            join(in_child(lambda: use(pool)))
            use(pool)

        join(in_child(child))
        use(pool)
        pool.shutdown()
        """
    )
    assert done.stderr == ""


METHODS = pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())


@METHODS
@pytest.mark.parametrize("state", ["before use", "in use", "results pending"])
def test_multiprocessing(run: RunScenario, method: str, state: str) -> None:
    """Where no thread was started there is no warning; the child's pool works and the parent's goes on."""
    done = run(
        f"""
        def work(function, queue):
            with wp.WorkerPool(2) as pool:
                queue.put(sum(pool.map(function, range(1000))))

        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            leave = threading.Event()
            with wp.WorkerPool(2) as pool:
                results = pool.results()
                futures = []
                if {state!r} != "before use":
                    threads_may_run()
                    use(pool)
                if {state!r} == "results pending":
                    futures = [pool.submit(leave.wait, 20) for _ in range(3)]
                    for i in range(10):
                        results.submit(native, i)
                    iterator = pool.map(int, range(50))
                queue = context.SimpleQueue()
                process = context.Process(target=work, args=(native, queue))
                process.start()
                print(queue.get())
                process.join()
                assert process.exitcode == 0
                leave.set()
                assert all(future.result(10) for future in futures)
                results.close()
                assert sorted(r.value for r in results) == list(range(10 if futures else 0))
                assert not futures or list(iterator) == list(range(50))
                use(pool)
        """,
        timeout=40,
    )
    assert done.stdout == "499500\n"
    assert done.stderr == ""


@METHODS
def test_process_pool_beside_a_worker_pool(run: RunScenario, method: str) -> None:
    """The executor of processes is fed by jobs of the pool, and killed children do it no harm."""
    done = run(
        f"""
        import concurrent.futures

        def square(i):
            return i * i

        if __name__ == "__main__":
            threads_may_run()
            context = multiprocessing.get_context({method!r})
            with wp.WorkerPool(2) as pool, concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as processes:
                processes.submit(square, 1).result()  # Forked before the pool has threads.
                print(list(pool.map(lambda i: processes.submit(square, i).result(), range(10))))
                use(pool)
        """,
        timeout=40,
    )
    assert done.stdout == f"{[i * i for i in range(10)]}\n"


def test_multiprocessing_pool_whose_children_use_an_inherited_pool(run: RunScenario) -> None:
    done = run(
        """
        def work(i):
            return sum(shared.map(native, range(i)))

        shared = wp.WorkerPool(2)
        if __name__ == "__main__":
            threads_may_run()
            use(shared)
            with multiprocessing.get_context("fork").Pool(2) as processes:
                print(processes.map(work, [10, 100, 1000]))
            shared.shutdown()
        """,
        timeout=40,
    )
    assert done.stdout == "[45, 4950, 499500]\n"


def test_subprocess_from_jobs(run: RunScenario) -> None:
    done = run(
        """
        import subprocess
        threads_may_run()
        with wp.WorkerPool(2) as pool:
            command = [sys.executable, "-S", "-c", "print(1)"]
            print(sum(int(out) for out in pool.map(lambda _: subprocess.check_output(command), range(6))))
        """
    )
    assert done.stdout == "6\n"
