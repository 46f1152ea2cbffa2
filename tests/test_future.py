"""The contract of concurrent.futures.Future, and what waits for futures."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import itertools
import logging
import random
import threading
import time
import weakref
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, Helpers, occupied, wait_until


def fail(text: str = "of the job") -> None:
    raise ValueError(text)


@pytest.fixture
def finished() -> Any:
    with wp.WorkerPool(1) as pool:
        yield {"result": pool.submit(int, 5), "exception": pool.submit(fail), "cancelled": cancelled_future(pool)}


def cancelled_future(pool: wp.WorkerPool) -> wp.Future[int]:
    with occupied(pool):
        future: wp.Future[int] = pool.submit(int)
        assert future.cancel()
    return future


# ---- One future ----


def test_is_a_concurrent_future() -> None:
    with wp.WorkerPool(1) as pool:
        future = pool.submit(int)
        assert isinstance(future, cf.Future)
        assert type(future) is wp.Future
        assert wp.Future[int] is not None
        assert hash(future) == hash(future)
        assert future == future  # noqa: PLR0124
        assert future != pool.submit(int)


def test_states(finished: dict[str, Any]) -> None:
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            waiting = pool.submit(int)
            assert (waiting.running(), waiting.done(), waiting.cancelled()) == (False, False, False)
            assert waiting._state == "PENDING"
            running = threading.Event()
            assert repr(waiting).endswith("state=pending>")
        leave = threading.Event()
        future = pool.submit(lambda: running.set() or leave.wait(LONG))
        assert running.wait(LONG)
        assert (future.running(), future.done(), future.cancelled()) == (True, False, False)
        assert future._state == "RUNNING"
        assert repr(future).endswith("state=running>")
        leave.set()
        assert future.result(LONG)
    for future in finished.values():
        cf.wait([future], LONG)
        assert (future.running(), future.done()) == (False, True)
    assert finished["result"]._state == finished["exception"]._state == "FINISHED"
    assert finished["cancelled"]._state == "CANCELLED_AND_NOTIFIED"
    assert repr(finished["result"]).endswith("state=finished returned int>")
    assert repr(finished["exception"]).endswith("state=finished raised ValueError>")
    assert repr(finished["cancelled"]).endswith("state=cancelled>")
    assert finished["result"]._result == 5
    assert finished["result"]._exception is None
    assert finished["exception"]._result is None
    assert isinstance(finished["exception"]._exception, ValueError)


def test_result_and_exception_are_the_same_object_each_time() -> None:
    with wp.WorkerPool(1) as pool:
        future = pool.submit(list)
        assert future.result(LONG) is future.result()
        assert future.exception() is None
        failed = pool.submit(fail)
        assert failed.exception(LONG) is failed.exception()


def test_arguments_of_result_and_exception(finished: dict[str, Any]) -> None:
    future = finished["result"]
    assert future.result(LONG) == future.result(timeout=LONG) == future.result(None) == 5
    assert future.exception(timeout=None) is None
    with occupied_pool() as pool:
        waiting = pool.submit(int)
        for method in (waiting.result, waiting.exception):
            for arguments, keywords in (((1, 2), {}), ((), {"x": 1}), ((1,), {"timeout": 1})):
                with pytest.raises(TypeError):
                    method(*arguments, **keywords)
            with pytest.raises(TypeError):
                method("soon")
            with pytest.raises(ValueError, match="NaN"):
                method(float("nan"))
            with pytest.raises(TimeoutError):
                method(-1)


def occupied_pool() -> Any:
    class Occupied:
        def __enter__(self) -> wp.WorkerPool:
            self.pool = wp.WorkerPool(1)
            self.context = occupied(self.pool)
            self.context.__enter__()
            return self.pool

        def __exit__(self, *args: object) -> None:
            self.context.__exit__(None, None, None)
            self.pool.shutdown()

    return Occupied()


def test_snapshot(finished: dict[str, Any]) -> None:
    cf.wait(finished.values(), LONG)
    assert finished["result"]._get_snapshot() == (True, False, 5, None)
    done, cancelled, result, exception = finished["exception"]._get_snapshot()
    assert (done, cancelled, result) == (True, False, None)
    assert isinstance(exception, ValueError)
    assert finished["cancelled"]._get_snapshot() == (True, True, None, None)
    with occupied_pool() as pool:
        assert pool.submit(int)._get_snapshot() == (False, False, None, None)


def test_a_pools_future_cannot_be_set_from_outside() -> None:
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            waiting = pool.submit(int, 5)
            for act in (
                lambda: waiting.set_result(1),
                lambda: waiting.set_exception(ValueError()),
                waiting.set_running_or_notify_cancel,
            ):
                with pytest.raises(cf.InvalidStateError):
                    act()
        assert waiting.result(LONG) == 5
        with pytest.raises(cf.InvalidStateError, match="FINISHED"):
            waiting.set_result(1)
        assert waiting.result() == 5


# ---- Futures that no pool runs ----


def test_manual_future() -> None:
    future: wp.Future[int] = wp.Future()
    assert not future.done()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    assert future.set_running_or_notify_cancel() is True
    assert future.running()
    assert not future.cancel()
    with pytest.raises(cf.InvalidStateError):
        future.set_running_or_notify_cancel()
    called: list[Any] = []
    future.add_done_callback(called.append)
    future.set_result(5)
    assert called == [future]
    assert future.result() == 5
    for act in (lambda: future.set_result(6), lambda: future.set_exception(ValueError())):
        with pytest.raises(cf.InvalidStateError, match="FINISHED"):
            act()
    assert future.result() == 5
    assert (future.worker, future.lane, future.label) == (None, None, None)


def test_manual_future_with_an_exception_or_cancelled() -> None:
    failed: wp.Future[int] = wp.Future()
    error = ValueError("set")
    failed.set_exception(error)
    assert failed.exception() is error
    with pytest.raises(ValueError, match="set"):
        failed.result()
    cancelled: wp.Future[int] = wp.Future()
    assert cancelled.cancel()
    assert cancelled.set_running_or_notify_cancel() is False
    with pytest.raises(cf.InvalidStateError):
        cancelled.set_result(1)
    with pytest.raises(cf.CancelledError):
        cancelled.result()
    assert cf.wait([failed, cancelled], LONG).not_done == set()
    requested: wp.Future[int] = wp.Future()
    assert requested.request_cancel()
    assert requested.cancelled()
    for wrong in ("text", ValueError, None):
        with pytest.raises(TypeError):
            wp.Future().set_exception(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        wp.Future(1)  # type: ignore[call-arg]


def test_manual_future_is_set_by_one_thread_only() -> None:
    for _ in range(50):
        future: wp.Future[int] = wp.Future()
        barrier = threading.Barrier(4)
        wins: list[int] = []

        def race(i: int, future: wp.Future[int] = future, barrier: Any = barrier, wins: Any = wins) -> None:
            barrier.wait(LONG)
            try:
                future.set_result(i)
            except cf.InvalidStateError:
                return
            wins.append(i)

        threads = [threading.Thread(target=race, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        assert future.result(LONG) in range(4)
        for thread in threads:
            thread.join(LONG)
        assert wins == [future.result()]


def test_manual_future_set_wakes_all_who_wait() -> None:
    future: wp.Future[int] = wp.Future()
    seen: list[Any] = []
    threads = [threading.Thread(target=lambda: seen.append(future.result(LONG))) for _ in range(5)]
    threads.append(threading.Thread(target=lambda: seen.append(next(cf.as_completed([future])).result())))
    for thread in threads:
        thread.start()
    threads[0].join(0.02)
    future.set_result(7)
    for thread in threads:
        thread.join(LONG)
    assert seen == [7] * 6


# ---- Callbacks ----


def test_callbacks_run_in_order_once_with_the_future(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(1) as pool:
        for job in ((int, 5), (id_int, 5), (fail,)):
            called: list[Any] = []
            with occupied(pool):
                future = pool.submit(*job)
                for i in range(5):
                    future.add_done_callback(lambda f, i=i, called=called: called.append((i, f)))
            wait_until(lambda called=called: len(called) == 5)
            assert called == [(i, future) for i in range(5)]
            assert future.done()
            future.add_done_callback(called.append)
            assert called[5:] == [future]


def test_callbacks_see_the_outcome() -> None:
    seen: list[Any] = []
    with wp.WorkerPool(1) as pool, occupied(pool):
        future = pool.submit(int, 5)
        future.add_done_callback(lambda f: seen.append((f.done(), f.running(), f.result(0), f._get_snapshot())))
    assert seen == [(True, False, 5, (True, False, 5, None))]


def test_exceptions_in_callbacks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    called = []
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            future = pool.submit(int)
            future.add_done_callback(lambda _: 1 // 0)
            future.add_done_callback(called.append)
        wait_until(lambda: called)
        future.add_done_callback(lambda _: fail("at once"))
        assert pool.submit(int, 3).result(LONG) == 3
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert all(message.startswith("exception calling callback for <Future at") for message in messages)
    assert [record.name for record in caplog.records] == ["concurrent.futures"] * 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError, ValueError]


def test_callback_that_submits_and_waits(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(1, queue_size=1) as pool:
        for first in (int, id_int):
            done = threading.Event()
            seen: list[Any] = []

            def again(future: Any, seen: Any = seen, done: Any = done) -> None:
                seen.append(future.result())
                seen.append(pool.submit(int, 7).result(LONG))
                done.set()

            pool.submit(first, 5).add_done_callback(again)
            assert done.wait(LONG)
            assert seen == [5, 7]


def test_callback_that_adds_callbacks_to_its_future() -> None:
    called: list[int] = []

    def first(future: Any) -> None:
        called.append(1)
        future.add_done_callback(lambda _: called.append(2))

    with wp.WorkerPool(1) as pool, occupied(pool):
        pool.submit(int).add_done_callback(first)
    assert called == [1, 2]


def test_no_callback_is_lost_or_called_twice_when_it_races_with_the_end(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    called = [0] * 2000
    with wp.WorkerPool(2) as pool:
        for i in range(2000):
            future = pool.submit(id_int, i) if i % 2 else pool.submit(int, i)
            future.add_done_callback(lambda _, i=i: called.__setitem__(i, called[i] + 1))
        pool.drain()
        wait_until(lambda: sum(called) >= 2000)
    assert called == [1] * 2000


def test_shutdown_returns_after_the_callbacks(helpers: Helpers) -> None:
    """A native job's callbacks are called by another thread than the one that ran it; none may be left out."""
    id_int = helpers.native("id_int", "int (int)")
    called: list[Any] = []
    with wp.WorkerPool(2) as pool:
        for i in range(500):
            pool.submit(id_int, i).add_done_callback(called.append)
    assert len(called) == 500


# ---- wait and as_completed ----


def test_wait_all_completed() -> None:
    with wp.WorkerPool(2) as pool:
        futures = [pool.submit(int, i) for i in range(50)] + [pool.submit(fail)]
        done, not_done = cf.wait(futures, LONG)
        assert done == set(futures)
        assert not_done == set()
        with occupied(pool, 2):
            waiting = pool.submit(int)
            done, not_done = cf.wait([*futures, waiting], 0.01)
            assert (done, not_done) == (set(futures), {waiting})
            assert cf.wait([waiting], 0).not_done == {waiting}


def test_wait_first_completed() -> None:
    with wp.WorkerPool(2) as pool, occupied(pool) as leave:
        slow = [pool.submit(leave.wait, LONG), pool.submit(int)]
        assert cf.wait(slow, 0.01, cf.FIRST_COMPLETED).done == set()
        threading.Timer(0.02, leave.set).start()
        assert cf.wait(slow, LONG, cf.FIRST_COMPLETED).done
        assert cf.wait(slow, LONG, cf.FIRST_COMPLETED).done


def test_wait_first_exception(helpers: Helpers) -> None:
    raises = helpers.native("fail_with", "int (int, int)", raises="nonzero")
    with wp.WorkerPool(3) as pool, occupied(pool) as leave:
        slow = pool.submit(leave.wait, LONG)
        assert cf.wait([slow, pool.submit(int)], 0.02, cf.FIRST_EXCEPTION).not_done == {slow}
        failing = pool.submit(raises, 1, 0)
        assert failing in cf.wait([slow, failing], LONG, cf.FIRST_EXCEPTION).done
        assert cf.wait([slow, failing], LONG, cf.FIRST_EXCEPTION).not_done == {slow}
        later = pool.submit(lambda: time.sleep(0.02) or fail())
        assert later in cf.wait([slow, later], LONG, cf.FIRST_EXCEPTION).done
        leave.set()
        assert cf.wait([slow], LONG, cf.FIRST_EXCEPTION).done == {slow}


def test_as_completed(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(2) as pool:
        futures = [pool.submit(function, i) for i in range(100) for function in (int, id_int)]
        futures += futures[:10]  # Named twice, yielded once.
        seen = list(cf.as_completed(futures, LONG))
        assert len(seen) == 200
        assert set(seen) == set(futures)
        with occupied(pool, 2):
            waiting = pool.submit(int)
            with pytest.raises(TimeoutError):
                list(cf.as_completed([futures[0], waiting], 0.02))
            iterator = cf.as_completed([futures[0], waiting])
            assert next(iterator) is futures[0]
            iterator.close()
            assert waiting._waiters == []


def test_mixed_with_the_standard_librarys_futures() -> None:
    with wp.WorkerPool(2) as pool, cf.ThreadPoolExecutor(2) as standard:
        futures = [executor.submit(time.sleep, i % 3 / 1000) for i in range(50) for executor in (pool, standard)]
        assert set(cf.as_completed(futures, LONG)) == set(futures)
        failing = [pool.submit(fail), standard.submit(fail)]
        leave = threading.Event()
        slow = [executor.submit(leave.wait, LONG) for executor in (pool, standard)]
        done, not_done = cf.wait([*slow, *failing], LONG, cf.FIRST_EXCEPTION)
        assert done & set(failing)
        assert set(slow) <= not_done
        assert cf.wait([*slow, *failing], LONG, cf.FIRST_COMPLETED).done
        leave.set()
        assert cf.wait([*slow, *failing, *futures], LONG).not_done == set()


def test_waits_on_overlapping_sets_from_many_threads(run_scenario: RunScenario, helpers: Helpers) -> None:
    """concurrent.futures.wait holds the locks of all its futures: one lock for several would deadlock here."""
    done = run_scenario(
        """
        import concurrent.futures as cf, random, sys, threading, time, workerpool as wp

        native = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        counts = []

        def waiter(seed, futures):
            rng = random.Random(seed)
            done = 0
            for _ in range(40):
                some = rng.sample(futures, 30)
                rng.shuffle(some)
                how = rng.choice([cf.ALL_COMPLETED, cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION])
                done += len(cf.wait(some, rng.choice([0, 0.001, None]), how).done)
                list(cf.as_completed(some[:5]))
            counts.append(done)

        with wp.WorkerPool(2, queue_size=None) as one, wp.WorkerPool(2, queue_size=None) as two, \\
                cf.ThreadPoolExecutor(2) as three:
            for round in range(4):
                futures = []
                for i in range(100):
                    futures.append(one.submit(time.sleep, 0.0005))
                    futures.append(two.submit(native, 500_000))
                    futures.append(three.submit(time.sleep, 0.0005))
                random.shuffle(futures)
                threads = [threading.Thread(target=waiter, args=(i, futures)) for i in range(8)]
                for t in threads:
                    t.start()
                for t in threads:
                    t.join()
        print(len(counts))
        """,
        args=[helpers.path],
        timeout=40,
        options=(),
    )
    assert done.stdout == "32\n"


def test_wait_counts_each_future_once(helpers: Helpers) -> None:
    """wait(ALL_COMPLETED) must not return early because a future was told twice."""
    id_int = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(2, queue_size=None) as pool:
        for _ in range(200):
            futures = [pool.submit(id_int, i) for i in range(20)] + [pool.submit(int, i) for i in range(5)]
            random.shuffle(futures)
            done, not_done = cf.wait(futures, LONG)
            assert not not_done
            assert all(future.done() for future in done)


def test_condition_is_a_reentrant_lock() -> None:
    future: wp.Future[int] = wp.Future()
    with future._condition, future._condition:
        assert not future.done()
        future._condition.acquire()
        future._condition.release()
        blocked = threading.Thread(target=future.set_result, args=(1,))
        future.add_done_callback(lambda _: None)
        blocked.start()
        blocked.join(0.02)
        assert blocked.is_alive()
        assert not future.done()
    blocked.join(LONG)
    assert future.result(0) == 1
    with pytest.raises(RuntimeError):
        future._condition.release()


# ---- asyncio ----


def test_asyncio_wrap_future(helpers: Helpers) -> None:
    sleep = helpers.native("sleep_ns", "int64_t (int64_t)")

    async def main(pool: wp.WorkerPool) -> list[Any]:
        futures = [pool.submit(sleep, 1000), pool.submit(int, 5), pool.submit(fail), cancelled_future(pool)]
        return await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)

    with wp.WorkerPool(2) as pool, occupied(pool):
        pass
    with wp.WorkerPool(1) as pool:
        first, second, third, fourth = asyncio.run(main(pool))
    assert (first, second) == (1000, 5)
    assert isinstance(third, ValueError)
    assert isinstance(fourth, asyncio.CancelledError)


# ---- Memory ----


def test_weak_references() -> None:
    with wp.WorkerPool(1) as pool:
        future = pool.submit(int)
        future.result(LONG)
        alive = weakref.ref(future)
        assert alive() is future
        del future
        wait_until(lambda: alive() is None)


def test_attributes_of_ones_own_are_kept_and_let_go_of() -> None:
    class Thing:
        pass

    with wp.WorkerPool(1) as pool:
        for make in (lambda: pool.submit(int), wp.Future):
            future = make()
            thing = Thing()
            alive = weakref.ref(thing)
            future.mine = thing  # type: ignore[attr-defined]
            assert future.mine is thing  # type: ignore[attr-defined]
            del thing
            pool.drain()
            del future
            gc.collect()
            assert alive() is None


def cycle_through_attribute(future: Any) -> None:
    future.me = future


def cycle_through_result(future: Any) -> None:
    future.result(LONG).append(future)


@pytest.mark.parametrize("make_cycle", [cycle_through_attribute, cycle_through_result])
def test_cycles_through_futures_are_collected(make_cycle: Any) -> None:
    class Things(list[Any]):
        pass

    with wp.WorkerPool(1) as pool:
        future = pool.submit(Things)
        alive = weakref.ref(future.result(LONG))
        future_alive = weakref.ref(future)
        make_cycle(future)
        pool.drain()
        del future

        def collected() -> bool:
            gc.collect()
            return alive() is None and future_alive() is None

        wait_until(collected, 5)


def test_cycle_through_an_exception_is_collected() -> None:
    class Thing:
        pass

    def job(thing: Thing) -> None:
        raise ValueError(thing)

    with wp.WorkerPool(1) as pool:
        thing = Thing()
        alive = weakref.ref(thing)
        future = pool.submit(job, thing)
        error = future.exception(LONG)
        error.future = future  # type: ignore[union-attr]
        del thing, future, error
        wait_until(lambda: gc.collect() < 0 or alive() is None, 5)


def test_manual_future_that_nobody_will_end_is_collected() -> None:
    class Thing:
        pass

    for look in (lambda f: f.add_done_callback(lambda _: f), repr, lambda f: f._condition, lambda f: cf.wait([f], 0)):
        future: wp.Future[int] = wp.Future()
        future.thing = Thing()  # type: ignore[attr-defined]
        alive = weakref.ref(future.thing)  # type: ignore[attr-defined]
        look(future)
        del future
        gc.collect()
        assert alive() is None


def test_callbacks_and_waiters_are_let_go_of() -> None:
    class Callback:
        def __call__(self, future: Any) -> None:
            pass

    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            future = pool.submit(int)
            callback = Callback()
            alive = weakref.ref(callback)
            future.add_done_callback(callback)
            del callback
        future.result(LONG)
        wait_until(lambda: gc.collect() < 0 or alive() is None, 5)


def test_dropped_futures_of_waiting_jobs() -> None:
    ran = []
    with wp.WorkerPool(1, queue_size=None) as pool:
        with occupied(pool):
            for i in range(1000):
                pool.submit(ran.append, i)
            gc.collect()
        pool.drain()
    assert ran == list(range(1000))


def test_future_outlives_its_pool() -> None:
    with wp.WorkerPool(1) as pool:
        futures = [pool.submit(str, i) for i in range(10)]
    del pool
    gc.collect()
    assert [future.result() for future in futures] == [str(i) for i in range(10)]
    assert futures[0].lane == "normal"
    assert all(not future.cancel() for future in futures)


def test_nested_futures_as_results() -> None:
    with wp.WorkerPool(2) as pool:
        future = pool.submit(pool.submit, int, 5)
        assert future.result(LONG).result(LONG) == 5


def test_subclass() -> None:
    class Mine(wp.Future[int]):
        def __init__(self, extra: int) -> None:
            super().__init__()
            self.extra = extra

        @classmethod
        def make(cls) -> Any:
            return cls.__new__(cls)

    future = Mine.make()
    future.set_result(3)
    assert future.result() == 3
    assert isinstance(future, Mine)


def test_many_threads_look_at_one_future(helpers: Helpers) -> None:
    sleep = helpers.native("sleep_ns", "int64_t (int64_t)")
    with wp.WorkerPool(1) as pool:
        for job, _ in itertools.product(((sleep, 1_000_000), (time.sleep, 0.001)), range(20)):
            future = pool.submit(*job)
            called: list[Any] = []

            def look(future: Any = future, called: Any = called) -> None:
                future.add_done_callback(called.append)
                cf.wait([future], LONG)
                future.result(LONG)
                repr(future)

            threads = [threading.Thread(target=look) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG)
            wait_until(lambda called=called: len(called) == 6)
