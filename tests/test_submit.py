"""submit(): what goes in comes out, once, in order, with its arguments, context and errors."""

from __future__ import annotations

import contextvars
import ctypes
import functools
import gc
import threading
import traceback
import weakref
from typing import Any

import pytest

import workerpool as wp
from support import FREE_THREADED, LONG, Helpers, NativeGate, occupied, wait_until


def test_python_and_native(helpers: Helpers) -> None:
    id_long = helpers.native("id_long", "long (long)")
    with wp.WorkerPool(2) as pool:
        assert pool.submit(id_long, 5).result(LONG) == 5
        assert pool.submit(pow, 2, 10).result(LONG) == 1024
        assert pool.submit(id_long, -5).result() == -5
        assert pool.submit(pow, 2, 10).result() == 1024


def test_arguments_reach_the_callable() -> None:
    def call(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    with wp.WorkerPool(1) as pool:
        assert pool.submit(call).result(LONG) == ((), {})
        assert pool.submit(call, 1, 2, x=3).result(LONG) == ((1, 2), {"x": 3})
        # Keyword arguments belong to fn, whatever they are called.
        named = {"fn": 1, "self": 2, "timeout": 3, "args": 4, "token": 5, "lane": 6}
        assert pool.submit(call, **named).result(LONG) == ((), named)
        many = list(range(500))
        assert pool.submit(call, *many).result(LONG) == (tuple(many), {})


def test_kinds_of_callables() -> None:
    class Thing:
        def method(self) -> str:
            return "method"

        @classmethod
        def of_class(cls) -> str:
            return cls.__name__

        def __call__(self) -> str:
            return "call"

    with wp.WorkerPool(2) as pool:
        jobs = [Thing().method, Thing.of_class, Thing(), functools.partial(str, 5), lambda: "lambda", dict]
        assert [pool.submit(job).result(LONG) for job in jobs] == ["method", "Thing", "call", "5", "lambda", {}]


def test_first_in_first_out_on_one_worker(helpers: Helpers) -> None:
    log = (ctypes.c_int64 * 2001)()
    write_log = helpers.native("write_log", "void (int64_t *, int64_t)")
    order: list[int] = []
    with wp.WorkerPool(1, queue_size=None) as pool:
        with occupied(pool):
            for i in range(1000):
                pool.submit(write_log, log, 2 * i)
                pool.submit(lambda i=i: (order.append(i), log.__setitem__(0, log[0])))
        pool.drain()
    assert order == list(range(1000))
    assert list(log[1:1001]) == [2 * i for i in range(1000)]


def test_exception_with_traceback() -> None:
    def inner() -> None:
        raise ValueError("of the job")

    def outer() -> None:
        inner()

    with wp.WorkerPool(1) as pool:
        future = pool.submit(outer)
        for _ in range(3):
            with pytest.raises(ValueError, match="of the job") as caught:
                future.result(LONG)
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert "outer" in names
        assert names[-1] == "inner"
        assert future.exception() is caught.value


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration])
def test_exceptions_of_every_kind_reach_the_caller(kind: type[BaseException]) -> None:
    def job() -> None:
        raise kind("from the job")

    with wp.WorkerPool(1) as pool:
        future = pool.submit(job)
        assert isinstance(future.exception(LONG), kind)
        with pytest.raises(kind):
            future.result()
        assert pool.submit(int).result(LONG) == 0  # The worker lives on.


def test_exception_of_a_class_that_cannot_be_made() -> None:
    class Unmakable(Exception):
        def __init__(self) -> None:
            raise RuntimeError("not even this")

    def job() -> None:
        raise Unmakable

    with wp.WorkerPool(1) as pool, pytest.raises(RuntimeError, match="not even this"):
        pool.submit(job).result(LONG)


@pytest.mark.keeps("the context of the main thread keeps each variable that was set in it")
def test_context_variables_are_those_of_the_submit() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def job() -> tuple[str, str]:
        seen = variable.get()
        variable.set("by the job")
        return seen, variable.get()

    with wp.WorkerPool(1) as pool:
        assert pool.submit(job).result(LONG) == ("unset", "by the job")
        variable.set("first")
        with occupied(pool):
            future = pool.submit(job)
            variable.set("second")
        assert future.result(LONG) == ("first", "by the job")
        assert variable.get() == "second"
        # And the worker's own context is as empty as before.
        assert contextvars.Context().run(lambda: pool.submit(variable.get)).result(LONG) == "unset"


def test_arguments_are_let_go_of_when_the_job_ends() -> None:
    class Thing:
        pass

    with wp.WorkerPool(1) as pool:
        thing = Thing()
        alive = weakref.ref(thing)
        future = pool.submit(lambda x: None, thing)
        del thing
        future.result(LONG)
        gc.collect()
        wait_until(lambda: alive() is None)
        assert future.done()


def test_failed_job_leaves_no_cycle_through_its_future() -> None:
    class Thing:
        pass

    def job(thing: Thing) -> None:
        raise ValueError("keeps the frame, which has the thing")

    gc.disable()
    try:
        with wp.WorkerPool(1) as pool:
            thing = Thing()
            alive = weakref.ref(thing)
            future = pool.submit(job, thing)
            del thing
            assert isinstance(future.exception(LONG), ValueError)
            del future
            pool.submit(int).result(LONG)
            if FREE_THREADED:
                gc.collect()  # Only it takes objects away from a thread that sleeps.
            wait_until(lambda: alive() is None)
    finally:
        gc.enable()


def test_buffers_are_released_soon_without_another_call(helpers: Helpers) -> None:
    sum_bytes = helpers.native("sum_bytes", "uint64_t (const void *, size_t)")
    data = bytearray(range(256))

    def is_free() -> bool:
        try:
            data.append(0)
        except BufferError:
            return False
        return True

    with wp.WorkerPool(1) as pool:
        gate = NativeGate(helpers)
        gate.close_worker(pool)
        future = pool.submit(sum_bytes, data, 256)
        assert not is_free()
        gate.open()
        wait_until(is_free, 10)
        assert future.result() == 255 * 128


def test_argument_buffers_outlive_the_callers_references(helpers: Helpers) -> None:
    sum_bytes = helpers.native("sum_bytes", "uint64_t (const void *, size_t)")
    with wp.WorkerPool(1, queue_size=None) as pool:
        gate = NativeGate(helpers)
        gate.close_worker(pool)
        futures = [pool.submit(sum_bytes, bytes([i % 256]) * 5000, 5000) for i in range(200)]
        junk = [bytes(5000) for _ in range(400)]
        gate.open()
        assert [future.result(LONG) for future in futures] == [i % 256 * 5000 for i in range(200)]
        assert junk


def test_many_jobs_from_many_threads_each_run_once(helpers: Helpers) -> None:
    add_to = helpers.native("add_to", "int64_t (int64_t *, int64_t)")
    total = ctypes.c_int64(0)
    done = []

    def submitter(pool: wp.WorkerPool, base: int) -> None:
        futures = [pool.submit(add_to, ctypes.byref(total), 1) for _ in range(1000)]
        futures += [pool.submit(done.append, base + i) for i in range(1000)]
        for future in futures:
            future.result(LONG)

    with wp.WorkerPool(4, queue_size=50) as pool:
        threads = [threading.Thread(target=submitter, args=(pool, 1000 * i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert total.value == 4000
    assert sorted(done) == list(range(4000))


def test_worker_lane_and_label_of_a_future(helpers: Helpers) -> None:
    with wp.WorkerPool(3) as pool:
        future = pool.options(lane="high", label="mine").submit(threading.get_ident)
        future.result(LONG)
        assert future.worker in range(3)
        assert (future.lane, future.label) == ("high", "mine")
        plain = pool.submit(int)
        assert (plain.lane, plain.label) == ("normal", None)
        with occupied(pool, 3):
            waiting = pool.submit(int)
            assert waiting.worker is None
            assert waiting.cancel()
            assert waiting.worker is None


def test_current_job() -> None:
    assert wp.current_job() is None

    def look() -> Any:
        job = wp.current_job()
        assert job is not None
        return job.lane, job.label, job.token, job.time_left, job.cancelled, job.worker

    token = wp.CancelToken()
    with wp.WorkerPool(1) as pool:
        assert pool.submit(look).result(LONG) == ("normal", None, None, None, False, 0)
        view = pool.options(lane="low", label="x", token=token, run_timeout=100)
        lane, label, seen, time_left, cancelled, worker = view.submit(look).result(LONG)
        assert (lane, label, cancelled, worker) == ("low", "x", False, 0)
        assert seen is token
        assert 50 < time_left <= 100


def test_unexpectedly_long_job_hides_no_other() -> None:
    """What a worker has claimed together with a job that waits for one of them must still be done by another."""
    with wp.WorkerPool(2, queue_size=None) as pool:
        for _ in range(100):
            for _ in range(500):
                pool.submit(int)
            pool.drain()
            event = threading.Event()
            waiting = pool.submit(event.wait, 10)
            pool.submit(event.set)
            for _ in range(6):
                pool.submit(int)
            assert waiting.result(LONG) is True


def test_jobs_that_wait_for_each_other_get_all_workers() -> None:
    """As many jobs as workers meet at a barrier, though the pool has seen only short jobs and started one worker."""
    with wp.WorkerPool(4) as pool:
        for _ in range(20):
            pool.submit(int).result(LONG)
        barrier = threading.Barrier(4)
        for _ in range(20):
            futures = [pool.submit(barrier.wait, 10) for _ in range(4)]
            assert sorted(future.result(LONG) for future in futures) == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["future", "dropped", "own future", "results", "cancelled", "timed out"])
def test_failed_job_that_keeps_its_job_object_is_collected(how: str) -> None:
    """Its exception keeps the frame, that keeps the Job, and that the outcome: the collector has to see the whole."""

    class Thing:
        future: Any = None

        def work(self) -> None:
            job = wp.current_job()
            assert job is wp.current_job()
            while how in {"cancelled", "timed out"}:
                job.raise_if_cancelled()
            raise ValueError

    with wp.WorkerPool(1) as pool:
        for _ in range(3):
            thing = Thing()
            alive = weakref.ref(thing)
            if how == "results":
                with pool.results() as results:
                    results.submit(thing.work)
                    assert isinstance(results.get(LONG).error, ValueError)
            else:
                future = pool.options(run_timeout=0.01 if how == "timed out" else None).submit(thing.work)
                if how == "cancelled":
                    wait_until(future.running)
                    future.request_cancel()
                if how == "own future":
                    thing.future = future
                wait_until(future.done)
                assert how == "cancelled" or future.exception(LONG) is not None
                del future
            del thing
            wait_until(lambda alive=alive: gc.collect() is not None and alive() is None)


@pytest.mark.parametrize("how", ["job", "tuple of job", "future", "tuple of future", "set by hand", "results"])
def test_result_that_refers_to_its_own_job_is_collected(how: str) -> None:
    """Tuples cannot be cleared, so it is for the future and the Job to let go of the result when the collector asks."""

    class Thing:
        pass

    holder: list[Any] = []

    def work(go: threading.Event) -> object:
        assert go.wait(LONG)
        job = wp.current_job()
        return {
            "job": job,
            "tuple of job": (job, holder[0]),
            "results": (job, holder[0]),
            "future": holder[-1],
            "tuple of future": tuple(holder),
        }[how]

    def make(pool: wp.WorkerPool) -> None:
        go = threading.Event()
        holder.append(Thing())
        if how == "set by hand":
            future: wp.Future[Any] = wp.Future()
            future.set_result((future, holder[0]))
        elif how == "results":
            go.set()
            with pool.results() as results:
                results.submit(work, go)
                assert results.get(LONG).ok
        else:
            future = pool.submit(work, go)
            holder.append(future)
            go.set()
            assert future.result(LONG) is not None

    def alive() -> int:
        """Counted, because weak references to garbage end before it is known whether that can be cleared."""
        return sum(type(thing) in {wp.Job, wp.Future, Thing} for thing in gc.get_objects())

    with wp.WorkerPool(1) as pool:
        gc.collect()
        before = alive()
        make(pool)
        assert alive() > before
        holder.clear()
        wait_until(lambda: gc.collect() is not None and alive() <= before)
