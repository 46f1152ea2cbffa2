"""Three time limits, three outcomes: getting in, waiting, running."""

from __future__ import annotations

import ctypes
import threading
import time

import pytest

import workerpool as wp
from support import LONG, Helpers, NativeGate, occupied, wait_until


def test_three_distinct_errors() -> None:
    for error in (wp.SubmitTimeout, wp.JobExpired, wp.JobTimeout):
        assert issubclass(error, wp.Error)
        assert issubclass(error, TimeoutError)
    assert issubclass(wp.SubmitTimeout, wp.QueueFull)
    assert not issubclass(wp.QueueFull, TimeoutError)
    assert not issubclass(wp.JobExpired, wp.JobTimeout)
    assert not issubclass(wp.JobTimeout, wp.JobExpired)


def test_queue_timeout(helpers: Helpers) -> None:
    ran = []
    add_to = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            view = pool.options(queue_timeout=0.05)
            futures = [view.submit(ran.append, 1), view.submit(add_to, 1)]
            begin = time.monotonic()
            for future in futures:
                with pytest.raises(wp.JobExpired, match=r"waited longer than its queue_timeout of 0.05 s"):
                    future.result(LONG)
                assert future.done()
                assert not future.cancelled()
                assert isinstance(future.exception(), wp.JobExpired)
            assert time.monotonic() - begin < LONG / 2
            assert pool.stats().lanes["normal"].waiting == 0
        assert pool.submit(int, 5).result(LONG) == 5
    assert ran == []
    stats = pool.stats().lanes["normal"]
    assert (stats.expired, stats.done) == (2, 2)


def test_queue_timeout_does_not_limit_the_run(helpers: Helpers) -> None:
    begun = ctypes.c_int64(0)
    poll = helpers.native("poll_job", "int (int64_t *, int64_t, wp_job *)")
    with wp.WorkerPool(1) as pool:
        view = pool.options(queue_timeout=0.3)
        assert view.submit(poll, ctypes.byref(begun), 600_000_000).result(LONG) == 0
        later = pool.options(queue_timeout=0.3, run_timeout=0.6)
        begin = time.monotonic()
        assert isinstance(later.submit(poll, ctypes.byref(begun), LONG * 10**9).exception(LONG), wp.JobTimeout)
        assert time.monotonic() - begin > 0.59


def test_queue_timeout_with_a_token_that_has_a_later_limit(helpers: Helpers) -> None:
    """The token's limit still holds once the job runs."""
    begun = ctypes.c_int64(0)
    poll = helpers.native("poll_job", "int (int64_t *, int64_t, wp_job *)", raises="nonzero")
    with wp.WorkerPool(1) as pool:
        begin = time.monotonic()
        view = pool.options(queue_timeout=0.3, token=wp.CancelToken(timeout=0.6))
        future = view.submit(poll, ctypes.byref(begun), LONG * 10**9)
        wait_until(future.done)
        assert future.cancelled()
        assert 0.59 < time.monotonic() - begin < LONG / 2


def test_run_timeout(helpers: Helpers) -> None:
    sleep = helpers.native("sleep_ns", "int64_t (int64_t)")
    with wp.WorkerPool(1) as pool:
        view = pool.options(run_timeout=0.03)
        for job in ((time.sleep, 0.06), (sleep, 60_000_000)):
            future = view.submit(*job)
            with pytest.raises(wp.JobTimeout, match=r"ran longer than its run_timeout of 0.03 s"):
                future.result(LONG)
            assert not future.cancelled()
        patient = pool.options(run_timeout=LONG)
        assert patient.submit(int, 5).result(LONG) == 5
        assert patient.submit(sleep, 1).result(LONG) == 1
    stats = pool.stats().lanes["normal"]
    assert (stats.timed_out, stats.done) == (2, 2)


def test_run_timeout_of_a_job_that_does_not_look() -> None:
    """It is neither stopped nor does it free who waits for it; its outcome says that it took too long."""
    gate = threading.Event()
    with wp.WorkerPool(1) as pool:
        future = pool.options(run_timeout=0.02).submit(gate.wait, LONG)
        with pytest.raises(TimeoutError) as of_the_wait:
            future.result(0.2)
        assert not isinstance(of_the_wait.value, wp.JobTimeout)
        assert future.running()
        gate.set()
        with pytest.raises(wp.JobTimeout):
            future.result(LONG)


def test_run_timeout_counts_from_the_begin() -> None:
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            future = pool.options(run_timeout=0.5).submit(int, 5)
            time.sleep(0.6)
        assert future.result(LONG) == 5


def test_error_of_a_job_that_ran_too_long_is_its_cause() -> None:
    def job() -> None:
        time.sleep(0.05)
        raise ValueError("late")

    with wp.WorkerPool(1) as pool:
        error = pool.options(run_timeout=0.01).submit(job).exception(LONG)
        assert isinstance(error, wp.JobTimeout)
        assert isinstance(error.__cause__, ValueError)


def test_time_limit_of_the_wait_is_not_the_jobs() -> None:
    with wp.WorkerPool(1) as pool, occupied(pool):
        future = pool.submit(int, 5)
        for method in (future.result, future.exception):
            with pytest.raises(TimeoutError) as caught:
                method(0.01)
            assert type(caught.value) is TimeoutError
            with pytest.raises(TimeoutError):
                method(timeout=0)
        assert not future.done()


def test_all_limits_at_once() -> None:
    view_options = {"submit_timeout": LONG, "queue_timeout": LONG, "run_timeout": LONG, "token": wp.CancelToken(LONG)}
    with wp.WorkerPool(2, queue_size=3) as pool:
        view = pool.options(**view_options)
        assert [view.submit(int, i).result() for i in range(300)] == list(range(300))
        futures = [view.submit(int, i) for i in range(300)]
        assert [future.result(LONG) for future in futures] == list(range(300))
        assert list(view.map(int, range(300))) == list(range(300))


def test_many_limits_end_in_the_order_of_their_times() -> None:
    ended: list[int] = []
    with wp.WorkerPool(1, queue_size=None) as pool, occupied(pool):
        futures = []
        for i in (3, 0, 4, 1, 2):
            future = pool.options(queue_timeout=0.1 + 0.1 * i).submit(int)
            future.add_done_callback(lambda _, i=i: ended.append(i))
            futures.append(future)
        wait_until(lambda: len(ended) == 5)
    assert ended == [0, 1, 2, 3, 4]


def test_thousands_of_limits() -> None:
    with wp.WorkerPool(2, queue_size=None) as pool:
        with occupied(pool, 2):
            expiring = [pool.options(queue_timeout=0.05 + i % 7 / 100).submit(int) for i in range(3000)]
            patient = [pool.options(queue_timeout=LONG, run_timeout=LONG).submit(int, i) for i in range(3000)]
            cancelled = [pool.options(queue_timeout=LONG).submit(int) for _ in range(1000)]
            assert all(future.cancel() for future in cancelled)
            for future in expiring:
                assert isinstance(future.exception(LONG), wp.JobExpired)
        assert [future.result(LONG) for future in patient] == list(range(3000))


def test_limits_while_native_jobs_keep_all_workers_busy(helpers: Helpers) -> None:
    gate = NativeGate(helpers)
    with wp.WorkerPool(1) as pool:
        gate.close_worker(pool)
        future = pool.options(queue_timeout=0.02).submit(int)
        assert isinstance(future.exception(LONG), wp.JobExpired)
        gate.open()


def test_queue_timeout_of_zero() -> None:
    with wp.WorkerPool(1) as pool, occupied(pool):
        assert isinstance(pool.options(queue_timeout=0).submit(int).exception(LONG), wp.JobExpired)


@pytest.mark.parametrize("name", ["submit_timeout", "queue_timeout", "run_timeout"])
def test_limits_that_cannot_be(name: str) -> None:
    with wp.WorkerPool(1) as pool:
        for value, error in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError), ([], TypeError)):
            with pytest.raises(error, match=name):
                pool.options(**{name: value})
        for value in (0, 1, 0.5, 1e300, float("inf"), None):
            assert isinstance(pool.options(**{name: value}), wp.View)
        assert pool.options(**{name: 1e300}).submit(int, 3).result(LONG) == 3


def test_expiring_jobs_and_workers_race() -> None:
    """Jobs whose time is over just when a worker comes for them end one way or the other, once."""
    ran: list[int] = []
    lock = threading.Lock()

    def job(i: int) -> int:
        with lock:
            ran.append(i)
        time.sleep(0.0002)
        return i

    with wp.WorkerPool(2, queue_size=None) as pool:
        futures = [pool.options(queue_timeout=0.0003 * i).submit(job, i) for i in range(500)]
    expired = {i for i, future in enumerate(futures) if isinstance(future.exception(), wp.JobExpired)}
    assert sorted(ran) == [i for i in range(500) if i not in expired]
    assert {future.result() for i, future in enumerate(futures) if i not in expired} == set(ran)
