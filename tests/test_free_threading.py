"""Races that many threads provoke at one barrier. They matter most where there is no GIL, and run everywhere."""

from __future__ import annotations

import array
import concurrent.futures as cf
import sys
import sysconfig
import threading
from collections.abc import Callable
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, Helpers, wait_until

THREADS = 6


@pytest.fixture(autouse=True)
def switch_often() -> Any:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(work: Callable[[int], object], threads: int = THREADS) -> None:
    """Calls work(0), work(1)... in as many threads, all let go at the same moment."""
    barrier = threading.Barrier(threads)
    errors: list[BaseException] = []

    def run(i: int) -> None:
        try:
            barrier.wait(LONG)
            work(i)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(LONG)
        assert not worker.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python always has a GIL")
def test_the_extension_leaves_the_gil_off(run_scenario: RunScenario) -> None:
    """A module that does not say `Py_MOD_GIL_NOT_USED` turns it on and warns, unless the environment forbids that."""
    done = run_scenario(
        """
        import sys, workerpool._core
        print(sys._is_gil_enabled())
        """,
        env={"PYTHON_GIL": None},
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_submit_cancel_result(helpers: Helpers) -> None:
    native = helpers.native("id_long", "long (long)")
    for _ in range(20):
        with wp.WorkerPool(2, queue_size=30) as pool:

            def work(i: int, pool: wp.WorkerPool = pool) -> None:
                for j in range(30):
                    futures = [pool.submit(native, j), pool.submit(int, j)]
                    if (i + j) % 3 == 0:
                        for future in futures:
                            future.cancel()
                    for future in futures:
                        assert future.cancelled() or future.result(LONG) == j

            together(work)
        assert pool.stats().unfinished == 0


@pytest.mark.parametrize(
    "act", ["result", "cancel", "request_cancel", "add_done_callback", "wait", "repr", "attribute"]
)
def test_all_do_the_same_to_one_future(helpers: Helpers, act: str) -> None:
    sleep = helpers.native("sleep_ns", "int64_t (int64_t)")
    with wp.WorkerPool(2) as pool:
        for round_number in range(60):
            future: Any = pool.submit(sleep, 20_000) if round_number % 2 else pool.submit(str, 5)
            called: list[Any] = []

            def work(i: int, future: Any = future, called: list[Any] = called) -> None:
                if act == "result":
                    assert future.result(LONG) in (20_000, "5")
                elif act == "wait":
                    cf.wait([future], LONG)
                elif act == "repr":
                    repr(future)
                elif act == "attribute":
                    setattr(future, f"mine{i}", i)
                elif act == "add_done_callback":
                    future.add_done_callback(called.append)
                else:
                    getattr(future, act)()

            together(work)
            cf.wait([future], LONG)
            pool.drain()
            if act == "add_done_callback":
                deadline = threading.Event()
                while len(called) < THREADS and not deadline.wait(0.001):
                    pass
                assert called == [future] * THREADS
            if act == "attribute":
                assert [getattr(future, f"mine{i}") for i in range(THREADS)] == list(range(THREADS))


def test_manual_future_is_ended_once() -> None:
    for _ in range(200):
        future: wp.Future[int] = wp.Future()
        wins: list[int] = []

        def work(i: int, future: wp.Future[int] = future, wins: list[int] = wins) -> None:
            try:
                if i % 3 == 0:
                    future.set_result(i)
                elif i % 3 == 1:
                    future.set_exception(ValueError(i))
                elif not future.cancel():
                    return
                wins.append(i)
            except cf.InvalidStateError:
                pass

        together(work)
        # Several may have cancelled it, for cancel() is true again; but it has one outcome.
        kinds = {"cancelled" if i % 3 == 2 else i for i in wins}
        assert len(kinds) == 1
        assert future.done()


def test_maps_and_results_side_by_side(helpers: Helpers) -> None:
    native = helpers.native("id_long", "long (long)")
    with wp.WorkerPool(2, queue_size=50) as pool:

        def work(i: int) -> None:
            function = native if i % 2 else int
            for _ in range(5):
                assert sum(pool.map(function, range(500))) == 124_750
                with pool.results(20) as results:
                    for j in range(15):
                        results.submit(function, j)
                    results.close()
                    assert sorted(r.value for r in results) == list(range(15))
                iterator = pool.map(function, range(10_000))
                next(iterator)
                del iterator

        together(work)


def test_one_results_queue_for_all(helpers: Helpers) -> None:
    native = helpers.native("id_long", "long (long)")
    seen: list[int] = []
    with wp.WorkerPool(2) as pool:
        results = pool.results(10)
        feeding = threading.Semaphore(0)

        def work(i: int) -> None:
            if i < 3:
                for j in range(500):
                    results.submit(native if j % 2 else int, 1000 * i + j)
                feeding.release()
                if i == 0:
                    for _ in range(3):
                        assert feeding.acquire(timeout=LONG)
                    results.close()
            else:
                seen.extend([r.value for r in results])

        together(work)
    assert sorted(seen) == [1000 * i + j for i in range(3) for j in range(500)]


def test_one_map_taken_from_by_all(helpers: Helpers) -> None:
    """One thread at a time; the others get an error, and no item is lost or yielded twice."""
    native = helpers.native("id_long", "long (long)")
    for function in (native, int):
        with wp.WorkerPool(2) as pool:
            iterator = pool.map(function, range(3000))
            seen: list[int] = []

            def work(i: int, iterator: Any = iterator, seen: list[int] = seen) -> None:
                while True:
                    try:
                        seen.append(next(iterator))
                    except ValueError:
                        continue
                    except StopIteration:
                        return

            together(work)
            assert sorted(seen) == list(range(3000))


def test_tokens(helpers: Helpers) -> None:
    for _ in range(30):
        root = wp.CancelToken()
        with wp.WorkerPool(2, queue_size=None) as pool:
            futures: list[Any] = []

            def work(i: int, root: wp.CancelToken = root, pool: Any = pool, futures: list[Any] = futures) -> None:
                try:
                    for j in range(30):
                        child = wp.CancelToken(parent=root, timeout=LONG if j % 2 else None)
                        futures.append(pool.options(token=child, queue_timeout=LONG).submit(int, j))
                        if i == 0 and j == 20:
                            root.cancel()
                        elif j % 7 == 0:
                            child.cancel()
                except cf.CancelledError:
                    assert root.cancelled

            together(work)
            for future in futures:
                assert future.cancelled() or isinstance(future.result(LONG), int)
        assert pool.stats().unfinished == 0


def test_pools_come_and_go(helpers: Helpers) -> None:
    native = helpers.native("id_long", "long (long)")

    def work(i: int) -> None:
        for j in range(15):
            with wp.WorkerPool(2, queue_size=(None, 5, 0)[j % 3]) as pool:
                futures = [pool.submit(native if k % 2 else int, k) for k in range(20)]
                pool.resize(1 + j % 4)
                pool.stats()
            assert [future.result() for future in futures] == list(range(20))

    together(work)


def test_one_pool_shut_down_under_load(helpers: Helpers) -> None:
    native = helpers.native("id_long", "long (long)")
    for round_number in range(15):
        pool = wp.WorkerPool(2, queue_size=10)
        accepted: list[Any] = []

        def work(
            i: int, pool: Any = pool, accepted: list[Any] = accepted, cancel: bool = round_number % 2 == 0
        ) -> None:
            if i == 0:
                for _ in range(5):
                    pool.submit(int).result(LONG)
                pool.shutdown(cancel_futures=cancel)
                return
            try:
                while True:
                    accepted.append(pool.submit(native, 1))
                    accepted.append(pool.submit(int, 1))
                    for value in pool.map(int, range(20)):
                        assert value in range(20)
            except (RuntimeError, cf.CancelledError):
                pass

        together(work)
        assert all(future.done() for future in accepted)


def test_native_functions_are_shared(helpers: Helpers) -> None:
    def work(i: int) -> None:
        for _ in range(50):
            function = wp.native(f"{helpers.path}:sum_bytes", "uint64_t (const void *, size_t)")
            assert function(shared, len(shared)) == 255 * 128
            with pytest.raises(TypeError):
                function(1.5, 1)

    shared = bytearray(range(256))
    together(work)
    shared.append(1)


@pytest.mark.stress
@pytest.mark.parametrize("make", [bytearray, lambda size: array.array("b", bytes(size))], ids=["bytearray", "array"])
def test_jobs_with_one_buffer_leave_its_exports_counted_right(helpers: Helpers, make: Callable[[int], Any]) -> None:
    """CPython 3.13 counts them with a plain ++ and --. A count that was lost is a buffer that can never be resized."""
    first_byte = helpers.native("sum_bytes", "uint64_t (const unsigned char *, size_t)")
    buffer = make(64)
    with wp.WorkerPool(3) as pool:

        def submit(i: int) -> None:
            for future in [pool.submit(first_byte, buffer, 1) for _ in range(3000)]:
                assert future.result(LONG) == 0

        together(submit)
    wait_until(lambda: can_grow(buffer), timeout=5)


def can_grow(buffer: Any) -> bool:
    try:
        buffer.append(1)
    except BufferError:
        return False
    return True
