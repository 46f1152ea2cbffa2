"""A worker as a thread of Python's: what threading says of it, and what it and its children leave behind."""

from __future__ import annotations

import concurrent.futures as cf
import ctypes
import os
import queue
import sys
import threading
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, occupied, wait_until

BOTH = pytest.mark.parametrize("make", [wp.ThreadPoolExecutor, wp.WorkerPool])


@BOTH
def test_current_thread_is_a_thread_that_can_be_joined(make: Any) -> None:
    with make(1, thread_name_prefix="face") as pool:
        thread = pool.submit(threading.current_thread).result(LONG)
        assert type(thread) is threading.Thread
        assert thread is pool.submit(threading.current_thread).result(LONG)
        assert thread in threading.enumerate()
        assert thread.is_alive()
        assert not thread.daemon
        assert thread.name == "face_0"
        assert thread.ident == pool.submit(threading.get_ident).result(LONG)
        assert thread.native_id == pool.submit(threading.get_native_id).result(LONG)
        thread.join(0.01)
        assert thread.is_alive()
        assert pool._threads == {thread}
        with pytest.raises(RuntimeError, match="cannot join current thread"):
            pool.submit(thread.join).result(LONG)
        with pytest.raises(RuntimeError, match="only be started once"):
            thread.start()
    thread.join(LONG)
    assert not thread.is_alive()
    assert "stopped" in repr(thread)
    assert thread not in threading.enumerate()
    assert pool._threads == set()


def test_join_waits_until_the_worker_has_ended() -> None:
    pool = wp.ThreadPoolExecutor(3)
    with occupied(pool, 3) as leave:
        threads = pool._threads
        assert len(threads) == 3
        pool.shutdown(wait=False)
        for thread in threads:
            thread.join(0.01)
            assert thread.is_alive()
        leave.set()
        for thread in threads:
            thread.join()
            assert not thread.is_alive()


def test_thread_of_a_worker_that_has_left_is_gone() -> None:
    before = set(threading.enumerate())
    with wp.WorkerPool(2, idle_timeout=0.01) as pool:
        thread = pool.submit(threading.current_thread).result(LONG)
        thread.join(LONG)
        assert not thread.is_alive()
        again = pool.submit(threading.current_thread).result(LONG)
        assert again is not thread
        assert again.is_alive() or again not in pool._threads
    assert not again.is_alive()
    wait_until(lambda: not any(t.name == again.name and t not in before for t in threading.enumerate()))


def test_thread_locals_and_initializer_are_of_the_same_thread() -> None:
    local = threading.local()

    def initialize() -> None:
        local.thread = threading.current_thread()

    with wp.ThreadPoolExecutor(2, initializer=initialize) as pool:
        for _ in range(20):
            assert pool.submit(lambda: local.thread is threading.current_thread()).result(LONG)


def test_asynchronous_exception_reaches_a_job() -> None:
    """Time limits for functions are made like this: the thread's number must be the right one."""

    class Stop(BaseException):
        pass

    def spin(begun: threading.Event) -> None:
        begun.set()
        while True:
            sum(range(100))

    with wp.ThreadPoolExecutor(1) as pool:
        begun = threading.Event()
        future = pool.submit(spin, begun)
        assert begun.wait(LONG)
        (thread,) = pool._threads
        assert thread.ident is not None
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stop))
        assert isinstance(future.exception(LONG), Stop)
        assert pool.submit(threading.current_thread).result(LONG) is thread


def test_program_ends_though_workers_are_no_daemons(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import threading, time, workerpool as wp

        pools = [wp.ThreadPoolExecutor(2), wp.WorkerPool(2)]
        for pool in pools:
            pool.submit(int).result()
        pools[0].submit(time.sleep, 0.1)
        print([type(t).__name__ for t in threading.enumerate()][:2])
        pools[0].submit(print, "done")
        """
    )
    assert done.stdout == "['_MainThread', 'Thread']\ndone\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_child_forked_by_a_job_ends_with_its_own_exit_code(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import multiprocessing, os, sys, threading, warnings
        import workerpool as wp

        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        fork = multiprocessing.get_context("fork")

        def child():
            assert threading.current_thread() is threading.main_thread()
            assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
            sys.exit(7)

        def job():
            process = fork.Process(target=child)
            process.start()
            process.join()
            return process.exitcode

        def plain():
            pid = os.fork()
            if pid == 0:
                threads = list(pool._threads)
                others = [t for t in threads if t is not threading.current_thread()]
                os._exit(5 if not any(t.is_alive() for t in others) else 1)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        with wp.ThreadPoolExecutor(2) as pool:
            print([pool.submit(job).result() for _ in range(3)])
            print(pool.submit(plain).result())
            print(threading.current_thread().name, pool.submit(threading.current_thread).result().is_alive())
        """
    )
    assert done.stdout == "[7, 7, 7]\n5\nMainThread True\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_threads_of_the_parent_are_stopped_in_a_child(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import os, threading, warnings, workerpool as wp

        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        pool = wp.ThreadPoolExecutor(1)
        thread = pool.submit(threading.current_thread).result()
        pid = os.fork()
        if pid == 0:
            thread.join()
            os._exit(3 if not thread.is_alive() and threading.active_count() == 1 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), thread.is_alive())
        """
    )
    assert done.stdout == "3 True\n"


# ---- What the standard library's pool keeps, and others read ----


def test_initializer_that_others_take_over() -> None:
    """spdl makes its pools of processes with what it reads of a pool of threads."""

    def initialize(x: int) -> None:
        pass

    for pool in (
        wp.ThreadPoolExecutor(1, "x", initialize, (1,)),
        wp.WorkerPool(1, initializer=initialize, initargs=[1]),
    ):
        assert pool._initializer is initialize
        assert pool._initargs == (1,)
    if sys.version_info >= (3, 14):
        context = wp.ThreadPoolExecutor(1, "x", initialize, (1,))._create_worker_context()
        assert context.initializer is initialize
        assert context.initargs == (1,)


def test_queue_put_in_the_place_of_the_pools_own() -> None:
    """spdl orders jobs by priority like this, doing itself what the standard pool's submit() and shutdown() do."""

    class Last(queue.LifoQueue[Any]):
        pass

    for cls in (cf.ThreadPoolExecutor, wp.ThreadPoolExecutor):
        pool: Any = cls(1)
        pool._work_queue = items = Last()
        ran: list[int] = []
        futures: list[cf.Future[Any]] = []
        begun, go_on = threading.Event(), threading.Event()

        def submit(fn: Any, *args: Any, pool: Any = pool, items: Any = items, futures: Any = futures) -> None:
            with pool._shutdown_lock:
                assert not pool._broken
                assert not pool._shutdown
                future: cf.Future[Any] = cf.Future()
                futures.append(future)
                new = hasattr(pool, "_resolve_work_item_task")
                task = (pool._resolve_work_item_task(fn, args, {}),) if new else (fn, args, {})
                items.put(cf.thread._WorkItem(future, *task))
                pool._adjust_thread_count()

        submit(lambda begun=begun, go_on=go_on: (begun.set(), go_on.wait(LONG)))
        assert begun.wait(LONG)
        for i in range(5):
            submit(ran.append, i)
        assert pool._work_queue.qsize() == 5
        go_on.set()
        for future in futures:
            future.result(LONG)
        assert ran == [4, 3, 2, 1, 0]
        with pool._shutdown_lock:
            pool._shutdown = True
            for _ in pool._threads:
                items.put(None)
        for thread in pool._threads:
            thread.join(LONG)
            assert not thread.is_alive()
        with pytest.raises(RuntimeError, match="after shutdown"):
            pool.submit(int)


@pytest.mark.parametrize("raises", ["profile", "trace", "async"])
def test_thread_whose_last_steps_are_interrupted_can_be_joined(run_scenario: RunScenario, raises: str) -> None:
    done = run_scenario(
        """
        import ctypes, sys, threading, time, workerpool

        def raise_at_the_end(frame, event, arg):
            if frame.f_code.co_name == "end":
                raise ValueError("at the end")

        if sys.argv[1] == "profile":
            threading.setprofile(raise_at_the_end)
        elif sys.argv[1] == "trace":
            threading.settrace(raise_at_the_end)
        with workerpool.WorkerPool(1) as pool:
            thread = pool.submit(threading.current_thread).result()
            if sys.argv[1] == "async":
                raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
                raise_in(ctypes.c_ulong(thread.ident), ctypes.py_object(ValueError))
        thread.join(10)
        print(thread.is_alive(), thread in threading.enumerate())
        """,
        args=[raises],
    )
    assert done.stdout == "False False\n"
