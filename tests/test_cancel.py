"""Cancelling: what waits ends at once, what runs is asked to stop, and who waits is woken."""

from __future__ import annotations

import concurrent.futures
import ctypes
import gc
import threading
import time
import weakref
from concurrent.futures import CancelledError
from typing import Any

import pytest

import workerpool as wp
from support import LONG, Helpers, NativeGate, occupied, wait_until


class PollingPython:
    """A Python job that polls current_job() until it is asked to stop."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.stopped = threading.Event()

    def __call__(self) -> str:
        job = wp.current_job()
        assert job is not None
        self.begun.set()
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            if job.cancelled:
                self.stopped.set()
                job.raise_if_cancelled()
            time.sleep(0.001)
        return "ran to its end"


class PollingNative:
    """The same in C: poll_job() returns 1, which is an error, when it was asked to stop."""

    def __init__(self, helpers: Helpers) -> None:
        self._begun = ctypes.c_int64(0)
        self._poll = helpers.native("poll_job", "int (int64_t *, int64_t, wp_job *)", raises="nonzero")

    def submit_to(self, pool: Any) -> wp.Future[Any]:
        future: wp.Future[Any] = pool.submit(self._poll, ctypes.byref(self._begun), LONG * 10**9)
        wait_until(lambda: self._begun.value > 0)
        return future


def submit_polling(kind: str, pool: Any, helpers: Helpers) -> wp.Future[Any]:
    """Submits a job that runs until it is asked to stop, and returns when it runs."""
    if kind == "native":
        return PollingNative(helpers).submit_to(pool)
    polling = PollingPython()
    future: wp.Future[Any] = pool.submit(polling)
    assert polling.begun.wait(LONG)
    return future


KINDS = pytest.mark.parametrize("kind", ["python", "native"])


# ---- A future ----


def test_cancel_before_it_began(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            for job in ((int, 5), (id_int, 5)):
                future = pool.submit(*job)
                assert not future.cancelled()
                assert future.cancel()
                assert future.cancel()  # Again is no change.
                assert future.cancelled()
                assert future.done()
                assert not future.running()
                for method in (future.result, future.exception):
                    with pytest.raises(CancelledError):
                        method(LONG)
            assert pool.stats().lanes["normal"].waiting == 0
        assert pool.submit(int, 5).result(LONG) == 5
    stats = pool.stats().lanes["normal"]
    assert (stats.cancelled, stats.done) == (2, 2)


def test_cancel_while_running_and_after() -> None:
    with wp.WorkerPool(1) as pool:
        begun = threading.Event()
        leave = threading.Event()
        future = pool.submit(lambda: begun.set() or leave.wait(LONG))
        assert begun.wait(LONG)
        assert future.running()
        assert not future.cancel()
        leave.set()
        assert future.result(LONG) is True
        assert not future.cancel()
        assert not future.request_cancel()
        assert not future.cancelled()


def test_cancel_lets_go_of_the_arguments_at_once(helpers: Helpers) -> None:
    class Thing:
        pass

    data = bytearray(10)
    sum_bytes = helpers.native("sum_bytes", "uint64_t (const void *, size_t)")
    with wp.WorkerPool(1) as pool, occupied(pool):
        thing = Thing()
        alive = weakref.ref(thing)
        future = pool.submit(id, thing)
        native = pool.submit(sum_bytes, data, 10)
        del thing
        assert future.cancel()
        assert native.cancel()
        del future, native
        gc.collect()
        wait_until(lambda: alive() is None, 5)
        data.append(1)


def test_cancel_wakes_waiters() -> None:
    """The standard library's own shutdown(cancel_futures=True) leaves waiters asleep (cpython#109934)."""
    outcomes: list[Any] = []

    def wait_for(future: wp.Future[int]) -> None:
        try:
            future.result(LONG)
        except CancelledError:
            outcomes.append("cancelled")

    with wp.WorkerPool(1) as pool, occupied(pool):
        for how in ("cancel", "request_cancel", "shutdown"):
            future = pool.submit(int)
            threads = [threading.Thread(target=wait_for, args=(future,)) for _ in range(2)]
            threads.append(threading.Thread(target=concurrent.futures.wait, args=([future], LONG)))
            threads.append(threading.Thread(target=lambda f=future: list(concurrent.futures.as_completed([f], LONG))))
            for thread in threads:
                thread.start()
            threads[0].join(0.02)
            if how == "shutdown":
                pool.shutdown(wait=False, cancel_futures=True)
            else:
                assert getattr(future, how)()
            begin = time.monotonic()
            for thread in threads:
                thread.join(LONG)
                assert not thread.is_alive()
            assert time.monotonic() - begin < LONG / 2
    assert outcomes == ["cancelled"] * 6


def test_cancel_batches() -> None:
    ran: list[int] = []
    with wp.WorkerPool(2, queue_size=None) as pool:
        with occupied(pool, 2):
            futures = [pool.submit(ran.append, i) for i in range(10_000)]
            assert all(future.cancel() for future in futures[::2])
            assert pool.stats().lanes["normal"].waiting == 5000
    assert sorted(ran) == list(range(1, 10_000, 2))


def test_cancel_while_workers_take_them() -> None:
    """Each is either run or cancelled, and cancel() says which."""
    ran: list[int] = []
    for _ in range(20):
        ran.clear()
        with wp.WorkerPool(2, queue_size=None) as pool:
            futures = [pool.submit(ran.append, i) for i in range(500)]
            cancelled = {i for i, future in reversed(list(enumerate(futures))) if future.cancel()}
        assert sorted(ran) == [i for i in range(500) if i not in cancelled]
        assert {i for i, future in enumerate(futures) if future.cancelled()} == cancelled


# ---- Running jobs ----


@KINDS
def test_request_cancel_stops_a_running_job(kind: str, helpers: Helpers) -> None:
    with wp.WorkerPool(1) as pool:
        future = submit_polling(kind, pool, helpers)
        assert future.running()
        assert not future.cancel()
        assert future.request_cancel()
        with pytest.raises(CancelledError):
            future.result(LONG)
        assert future.cancelled()
        assert not future.request_cancel()
    assert pool.stats().lanes["normal"].cancelled == 1


@KINDS
@pytest.mark.parametrize("by", ["cancel", "parent", "grandparent", "timeout", "parent's timeout"])
def test_token_stops_a_running_job(kind: str, by: str, helpers: Helpers) -> None:
    grandparent = wp.CancelToken()
    parent = wp.CancelToken(timeout=0.5 if by == "parent's timeout" else None, parent=grandparent)
    token = wp.CancelToken(timeout=0.5 if by == "timeout" else None, parent=parent)
    with wp.WorkerPool(1) as pool:
        future = submit_polling(kind, pool.options(token=token), helpers)
        if "timeout" not in by:
            assert {"cancel": token, "parent": parent, "grandparent": grandparent}[by].cancel()
        with pytest.raises(CancelledError):
            future.result(LONG)
        assert future.cancelled()
    assert token.cancelled


@KINDS
def test_run_timeout_stops_a_running_job(kind: str, helpers: Helpers) -> None:
    with wp.WorkerPool(1) as pool:
        begin = time.monotonic()
        future = submit_polling(kind, pool.options(run_timeout=0.1), helpers)
        error = future.exception(LONG)
        assert isinstance(error, wp.JobTimeout)
        assert 0.09 < time.monotonic() - begin < LONG / 2
        assert not future.cancelled()


def test_job_that_does_not_look_runs_to_its_end() -> None:
    with wp.WorkerPool(1) as pool:
        begun = threading.Event()
        leave = threading.Event()
        future = pool.submit(lambda: begun.set() or leave.wait(LONG))
        assert begun.wait(LONG)
        assert future.request_cancel()
        leave.set()
        assert future.result(LONG) is True


def test_cancelled_error_without_a_request_is_a_failure() -> None:
    def job() -> None:
        raise CancelledError

    with wp.WorkerPool(1) as pool:
        future = pool.submit(job)
        with pytest.raises(CancelledError):
            future.result(LONG)
        assert not future.cancelled()
        assert isinstance(future.exception(), CancelledError)


def test_raise_if_cancelled_without_a_request() -> None:
    with wp.WorkerPool(1) as pool:
        assert pool.submit(lambda: wp.current_job().raise_if_cancelled()).result(LONG) is None


def test_job_object_after_its_job() -> None:
    with wp.WorkerPool(1) as pool:
        job = pool.options(label="x").submit(wp.current_job).result(LONG)
        assert (job.lane, job.label, job.worker) == ("normal", "x", 0)
        assert not job.cancelled


# ---- Tokens ----


def test_token() -> None:
    token = wp.CancelToken()
    assert not token.cancelled
    assert token.time_left is None
    assert token.parent is None
    token.raise_if_cancelled()
    assert "not cancelled" in repr(token)
    assert token.cancel()
    assert not token.cancel()
    assert token.cancelled
    assert "not" not in repr(token)
    with pytest.raises(CancelledError):
        token.raise_if_cancelled()
    assert weakref.ref(token)() is token


def test_token_tree() -> None:
    root = wp.CancelToken()
    left, right = wp.CancelToken(parent=root), wp.CancelToken(parent=root)
    leaf = wp.CancelToken(parent=left)
    assert leaf.parent is left
    left.cancel()
    assert (root.cancelled, left.cancelled, right.cancelled, leaf.cancelled) == (False, True, False, True)
    root.cancel()
    assert right.cancelled
    assert wp.CancelToken(parent=root).cancelled  # Born cancelled.


def test_token_with_a_time_limit() -> None:
    token = wp.CancelToken(timeout=0.03)
    child = wp.CancelToken(timeout=100, parent=token)
    assert 0 < token.time_left <= 0.03
    assert child.time_left <= 0.03
    wait_until(lambda: token.cancelled)
    assert child.cancelled
    assert token.time_left == 0.0
    assert wp.CancelToken(timeout=0).cancelled


def test_deep_chain_of_tokens() -> None:
    top = token = wp.CancelToken()
    for _ in range(20_000):
        token = wp.CancelToken(parent=token)
    top.cancel()
    assert token.cancelled
    del token, top


def test_tokens_are_collected() -> None:
    root = wp.CancelToken()
    alive = [weakref.ref(wp.CancelToken(parent=root)) for _ in range(100)]
    assert not any(ref() for ref in alive)
    root.cancel()


def test_token_cancels_what_waits_in_every_lane_and_pool(helpers: Helpers) -> None:
    token = wp.CancelToken()
    gate = NativeGate(helpers)
    with wp.WorkerPool(1, queue_size=None) as one, wp.WorkerPool(1, queue_size=None) as two:
        for pool in (one, two):
            gate.close_worker(pool)
        futures = [
            pool.options(token=token, lane=lane).submit(int)
            for pool in (one, two)
            for lane in ("high", "normal", "low")
            for _ in range(500)
        ]
        others = [one.submit(int, 5), two.submit(int, 6)]
        assert token.cancel()
        assert all(future.cancelled() for future in futures)
        assert one.stats().lanes["high"].waiting == 0
        gate.open()
        assert [future.result(LONG) for future in others] == [5, 6]


def test_cancelled_token_takes_no_jobs() -> None:
    token = wp.CancelToken()
    token.cancel()
    with wp.WorkerPool(1) as pool:
        with pytest.raises(CancelledError):
            pool.options(token=token).submit(int)
        assert pool.stats().lanes["normal"].submitted == 0


def test_cancel_everything_at_the_first_error() -> None:
    token = wp.CancelToken()
    begun = threading.Semaphore(0)
    cancelled = threading.Event()

    def job(i: int) -> int:
        if i < 10:
            begun.release()
        elif i == 10:
            for _ in range(10):  # The other worker may still be at one of these.
                assert begun.acquire(timeout=LONG)
            token.cancel()
            cancelled.set()
            raise ValueError(i)
        else:
            assert cancelled.wait(LONG)
        return i

    with wp.WorkerPool(2, queue_size=None) as pool:
        view = pool.options(token=token)
        with occupied(pool, 2):
            futures = [view.submit(job, i) for i in range(1000)]
    kinds = [future.cancelled() for future in futures]
    assert not any(kinds[:10])
    assert isinstance(futures[10].exception(), ValueError)
    assert sum(kinds) >= 988  # All but the one that the other worker was in.


def test_callbacks_run_when_a_token_cancels() -> None:
    token = wp.CancelToken()
    called = []
    with wp.WorkerPool(1) as pool, occupied(pool):
        futures = [pool.options(token=token).submit(int) for _ in range(10)]
        for future in futures:
            future.add_done_callback(called.append)
        token.cancel()
        wait_until(lambda: len(called) == 10)
        assert set(called) == set(futures)


def test_token_outlives_pool_and_pool_outlives_token() -> None:
    token = wp.CancelToken(timeout=LONG)
    with wp.WorkerPool(1) as pool:
        view = pool.options(token=token)
        for _ in range(100):
            view.submit(int)
        del view
    del pool
    gc.collect()
    assert token.cancel()
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            future = pool.options(token=wp.CancelToken(timeout=0.02)).submit(int)
            with pytest.raises(CancelledError):
                future.result(LONG)


def test_cancel_from_many_threads_at_a_time() -> None:
    for _ in range(20):
        root = wp.CancelToken()
        tokens = [wp.CancelToken(parent=root) for _ in range(10)]
        with wp.WorkerPool(2, queue_size=None) as pool:
            futures = [pool.options(token=token).submit(time.sleep, 0) for token in tokens for _ in range(50)]
            firsts: list[bool] = []
            threads = [
                threading.Thread(target=lambda t=t, firsts=firsts: firsts.append(t.cancel()))
                for t in [root, *tokens] * 2
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LONG)
            for future in futures:
                assert future.cancelled() or future.result(LONG) is None
        assert 1 <= sum(firsts) <= 11
