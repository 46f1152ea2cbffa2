"""A full queue: each policy does what it says, a blocked submit can always be ended, and nothing is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, ON_FULL, Helpers, NativeGate, occupied, wait_until


def ended(pool: wp.WorkerPool) -> int:
    return sum(s.done + s.failed + s.cancelled + s.expired + s.timed_out + s.lost for s in pool.stats().lanes.values())


@contextmanager
def full_pool(**options: Any) -> Iterator[tuple[wp.WorkerPool, list[wp.Future[int]], threading.Event]]:
    """Two workers busy, and two jobs in a queue of two."""
    with wp.WorkerPool(2, queue_size=2, **options) as pool, occupied(pool, 2) as leave:
        yield pool, [pool.submit(int, i) for i in (1, 2)], leave


def in_thread(function: Any) -> tuple[threading.Thread, list[Any]]:
    """Runs function() in a thread; the list gets its result or exception."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    return thread, outcome


# ---- The policies ----


def test_block_waits_for_room() -> None:
    with full_pool() as (pool, queued, leave):
        thread, outcome = in_thread(lambda: pool.submit(int, 3))
        thread.join(0.1)
        assert thread.is_alive()
        assert outcome == []
        leave.set()
        thread.join(LONG)
        assert [future.result(LONG) for future in [*queued, *outcome]] == [1, 2, 3]


def test_raise() -> None:
    with full_pool(on_full="raise") as (pool, queued, leave):
        for _ in range(3):
            with pytest.raises(wp.QueueFull, match="queue is full") as caught:
                pool.submit(int, 3)
        assert not isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, wp.Error)
        assert pool.stats().lanes["normal"].rejected == 3
        leave.set()
        assert [future.result(LONG) for future in queued] == [1, 2]


def test_caller_runs(helpers: Helpers) -> None:
    worker_of = helpers.native("worker_of", "uint32_t (wp_job *)")
    with full_pool(on_full="caller_runs") as (pool, queued, leave):
        future = pool.submit(threading.get_ident)
        assert future.done()
        assert future.result() == threading.get_ident()
        assert future.worker is None
        assert pool.submit(worker_of).result() == 2**32 - 1
        failed = pool.submit(int, "x")
        assert isinstance(failed.exception(0), ValueError)
        assert not any(future.done() for future in queued)
        leave.set()
        assert [future.result(LONG) for future in queued] == [1, 2]
    stats = pool.stats().lanes["normal"]
    assert stats.submitted == stats.done + stats.failed == 7


def test_caller_runs_sees_its_own_job() -> None:
    def look() -> Any:
        job = wp.current_job()
        assert job is not None
        return job.worker, job.label, job.cancelled

    with full_pool(on_full="caller_runs") as (pool, _, _):
        assert pool.options(label="here").submit(look).result(0) == (None, "here", False)
        assert wp.current_job() is None


def test_caller_runs_on_a_worker_of_the_pool(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import workerpool as wp

        def outer(pool):
            futures = [pool.submit(int, i) for i in range(50)]
            return sum(future.result() for future in futures)

        with wp.WorkerPool(1, queue_size=2, on_full="caller_runs") as pool:
            print(pool.submit(outer, pool).result(10), pool.submit(outer, pool).result(10))
        """
    )
    assert done.stdout == "1225 1225\n"


def test_caller_runs_can_be_stopped(helpers: Helpers) -> None:
    """Token and time limit hold for a job that the caller runs, too."""

    def poll() -> None:
        job = wp.current_job()
        assert job is not None
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            job.raise_if_cancelled()
            time.sleep(0.001)

    with full_pool(on_full="caller_runs") as (pool, _, _):
        token = wp.CancelToken()
        timer = threading.Timer(0.05, token.cancel)
        timer.start()
        future = pool.options(token=token).submit(poll)
        timer.join()
        assert future.cancelled()
        limited = pool.options(run_timeout=0.05).submit(poll)
        assert isinstance(limited.exception(0), wp.JobTimeout)
        own_limit = pool.options(token=wp.CancelToken(timeout=0.05)).submit(poll)
        assert own_limit.cancelled()


def test_discard() -> None:
    with full_pool(on_full="discard") as (pool, queued, leave):
        future = pool.submit(int, 3)
        assert future.cancelled()
        assert future.done()
        with pytest.raises(CancelledError):
            future.result(0)
        called: list[object] = []
        future.add_done_callback(called.append)
        assert called == [future]
        leave.set()
        assert [future.result(LONG) for future in queued] == [1, 2]
        assert pool.stats().lanes["normal"].rejected == 1


def test_discard_oldest() -> None:
    with full_pool(on_full="discard_oldest") as (pool, queued, leave):
        third = pool.submit(int, 3)
        assert [future.cancelled() for future in queued] == [True, False]
        fourth = pool.submit(int, 4)
        assert queued[1].cancelled()
        leave.set()
        assert (third.result(LONG), fourth.result(LONG)) == (3, 4)


def test_policy_of_a_view() -> None:
    with full_pool() as (pool, _, _):
        with pytest.raises(wp.QueueFull):
            pool.options(on_full="raise").submit(int)
        assert pool.options(on_full="discard").submit(int).cancelled()
        assert pool.options(on_full="discard").options(on_full="caller_runs").submit(int).done()
        # Each lane has a queue of its own.
        other = pool.options(lane="low", on_full="raise")
        assert [other.submit(int).cancel() for _ in range(2)] == [True, True]


def rejected(pool: wp.WorkerPool) -> int:
    return pool.stats().lanes["normal"].rejected


def test_only_what_was_refused_in_the_end_counts_as_rejected() -> None:
    with full_pool() as (pool, _, leave):
        waits = pool.options(on_full="block")
        threads = [in_thread(lambda: waits.submit(int))[0] for _ in range(4)]
        mapping = [in_thread(lambda: list(waits.map(int, range(20))))[0]]
        time.sleep(0.05)
        assert rejected(pool) == 0
        assert pool.options(on_full="caller_runs").submit(int).done()
        pool.options(on_full="discard_oldest").submit(int)
        assert rejected(pool) == 0
        for timeout in (0, 0.001, 0.02):
            with pytest.raises(wp.SubmitTimeout):
                pool.options(submit_timeout=timeout).submit(int)
        assert rejected(pool) == 3
        with pytest.raises(wp.QueueFull):
            pool.options(on_full="raise").submit(int)
        assert pool.options(on_full="discard").submit(int).cancelled()
        assert rejected(pool) == 5
        with pytest.raises(CancelledError):
            pool.options(token=wp.CancelToken(timeout=0.01)).submit(int)
        leave.set()
        for thread in threads + mapping:
            thread.join(LONG)
        assert rejected(pool) == 5


def test_results_queue_that_waits_for_room_rejects_nothing() -> None:
    with full_pool() as (pool, _, leave):
        results = pool.results()
        thread, _ = in_thread(lambda: [results.submit(int) for _ in range(10)])
        time.sleep(0.02)
        leave.set()
        thread.join(LONG)
        results.close()
        assert len(list(results)) == 10
        assert rejected(pool) == 0


@pytest.mark.parametrize("on_full", ON_FULL)
def test_every_accepted_job_ends_once(on_full: str) -> None:
    ran: list[int] = []
    refused = 0
    futures: list[wp.Future[None]] = []
    with wp.WorkerPool(2, queue_size=4, on_full=on_full) as pool:
        for i in range(2000):
            try:
                futures.append(pool.submit(ran.append, i))
            except wp.QueueFull:
                refused += 1
    assert all(future.done() for future in futures)
    cancelled = sum(future.cancelled() for future in futures)
    assert len(futures) + refused == 2000
    assert len(ran) == len(set(ran)) == len(futures) - cancelled
    if on_full in {"block", "caller_runs"}:
        assert len(ran) == 2000
    stats = pool.stats()
    assert stats.unfinished == 0
    assert stats.lanes["normal"].done == len(ran)
    assert ended(pool) == stats.lanes["normal"].submitted
    assert len(ran) + stats.lanes["normal"].rejected + stats.lanes["normal"].cancelled == 2000


# ---- How a blocked submit ends ----


def test_blocked_submit_ends_at_its_submit_timeout(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with full_pool() as (pool, queued, leave):
        for job in ((int, 3), (id_int, 3)):
            begin = time.monotonic()
            with pytest.raises(wp.SubmitTimeout) as caught:
                pool.options(submit_timeout=0.05).submit(*job)
            assert 0.04 < time.monotonic() - begin < LONG / 2
        assert isinstance(caught.value, wp.QueueFull)
        assert isinstance(caught.value, TimeoutError)
        with pytest.raises(wp.SubmitTimeout):
            pool.options(submit_timeout=0).submit(int)
        leave.set()
        assert [future.result(LONG) for future in queued] == [1, 2]
        assert pool.options(submit_timeout=LONG).submit(int, 5).result(LONG) == 5
    stats = pool.stats().lanes["normal"]
    assert stats.submitted == stats.done == 5


@pytest.mark.parametrize("by", ["cancel", "parent", "timeout"])
def test_blocked_submit_ends_at_its_tokens_cancel(by: str) -> None:
    parent = wp.CancelToken()
    token = wp.CancelToken(timeout=0.1 if by == "timeout" else None, parent=parent)
    with full_pool() as (pool, queued, leave):
        view = pool.options(token=token)
        thread, outcome = in_thread(lambda: view.submit(int, 3))
        if by != "timeout":
            thread.join(0.05)
            assert thread.is_alive()
            (token if by == "cancel" else parent).cancel()
        thread.join(LONG)
        assert isinstance(outcome[0], CancelledError)
        leave.set()
        assert [future.result(LONG) for future in queued] == [1, 2]
    assert pool.stats().lanes["normal"].submitted == 4


@pytest.mark.parametrize("cancel_futures", [False, True])
def test_blocked_submit_ends_at_shutdown(cancel_futures: bool) -> None:
    with full_pool() as (pool, queued, leave):
        threads = [in_thread(lambda: pool.submit(int, 3)) for _ in range(5)]
        threads[0][0].join(0.05)
        assert threads[0][0].is_alive()
        pool.shutdown(wait=False, cancel_futures=cancel_futures)
        for thread, outcome in threads:
            thread.join(LONG)
            assert isinstance(outcome[0], RuntimeError)
            assert "after shutdown" in str(outcome[0])
        leave.set()
        for i, future in enumerate(queued, 1):
            assert future.cancelled() if cancel_futures else future.result(LONG) == i


def test_blocked_submit_ends_at_ctrl_c(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import os, signal, threading, workerpool as wp

        leave = threading.Event()
        with wp.WorkerPool(2, queue_size=2) as pool:
            futures = [pool.submit(leave.wait) for _ in range(2)]
            while any(not f.running() for f in futures):
                pass
            futures += [pool.submit(int, i) for i in range(2)]
            try:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
                pool.submit(int, 2)
            except KeyboardInterrupt:
                print("interrupted")
            stats = pool.stats()
            leave.set()
            print([f.result() for f in futures], stats.unfinished, stats.lanes["normal"].submitted)
        """
    )
    assert done.stdout == "interrupted\n[True, True, 0, 1] 4 4\n"


def test_cancelling_a_waiting_job_lets_a_blocked_submit_in() -> None:
    with full_pool() as (pool, queued, leave):
        thread, outcome = in_thread(lambda: pool.submit(int, 3))
        thread.join(0.05)
        assert thread.is_alive()
        # Sleepers come back when the queue is half empty, so that they find room for several.
        assert all(future.cancel() for future in queued)
        thread.join(LONG)
        leave.set()
        assert outcome[0].result(LONG) == 3


def test_one_cancelled_place_is_room_at_once() -> None:
    with full_pool() as (pool, queued, _):
        assert queued[0].cancel()
        accepted = pool.options(on_full="raise").submit(int, 3)
        assert accepted.cancel()


def test_many_blocked_submitters_all_get_in() -> None:
    total = 0
    with wp.WorkerPool(2, queue_size=2) as pool:
        with occupied(pool, 2):
            threads = [in_thread(lambda i=i: pool.submit(int, i)) for i in range(30)]
        for thread, _ in threads:
            thread.join(LONG)
        total = sum(outcome[0].result(LONG) for _, outcome in threads)
    assert total == sum(range(30))


def test_blocked_submitters_that_give_up_take_no_wakeup_with_them() -> None:
    """Some of the blocked are ended by a time limit while others wait: the others must still get in."""
    with wp.WorkerPool(1, queue_size=1) as pool:
        for _ in range(30):
            with occupied(pool):
                pool.submit(int)
                impatient = [in_thread(lambda: pool.options(submit_timeout=0.01).submit(int)) for _ in range(3)]
                patient = [in_thread(lambda: pool.submit(int, 7)) for _ in range(2)]
                time.sleep(0.008)
            for thread, outcome in patient:
                thread.join(LONG)
                assert outcome[0].result(LONG) == 7
            for thread, _ in impatient:
                thread.join(LONG)


# ---- Other sizes ----


def test_queue_size_0_hands_over_to_a_free_worker(helpers: Helpers) -> None:
    with wp.WorkerPool(2, queue_size=0) as pool:
        assert [pool.submit(int, i).result(LONG) for i in range(200)] == list(range(200))
        with occupied(pool, 2) as leave:
            with pytest.raises(wp.QueueFull):
                pool.options(on_full="raise").submit(int)
            with pytest.raises(wp.SubmitTimeout):
                pool.options(submit_timeout=0.02).submit(int)
            assert pool.options(on_full="discard").submit(int).cancelled()
            assert pool.options(on_full="discard_oldest").submit(int).cancelled()
            assert pool.options(on_full="caller_runs").submit(threading.get_ident).result(0) == threading.get_ident()
            thread, outcome = in_thread(lambda: pool.submit(int, 5))
            thread.join(0.05)
            assert thread.is_alive()
            leave.set()
            thread.join(LONG)
            assert outcome[0].result(LONG) == 5
        gate = NativeGate(helpers)
        holding = [gate.close_worker(pool) for _ in range(2)]
        gate.open()
        assert [future.result(LONG) for future in holding] == [0, 0]


def test_queue_size_0_from_many_threads() -> None:
    ran: list[int] = []

    def feed(base: int) -> None:
        for i in range(300):
            pool.submit(ran.append, base + i)

    with wp.WorkerPool(3, queue_size=0) as pool:
        threads = [in_thread(lambda b=b: feed(300 * b)) for b in range(4)]
        for thread, outcome in threads:
            thread.join(LONG)
            assert outcome == [None]
    assert sorted(ran) == list(range(1200))


def test_queue_size_none_takes_everything() -> None:
    with wp.WorkerPool(1, queue_size=None) as pool:
        with occupied(pool):
            futures = [pool.submit(int, i) for i in range(20_000)]
            assert pool.stats().lanes["normal"].waiting == 20_000
            assert pool.stats().lanes["normal"].capacity is None
        assert sum(future.result(LONG) for future in futures) == sum(range(20_000))


def test_queue_size_is_exact() -> None:
    for size in (1, 2, 3, 7, 100):
        with wp.WorkerPool(1, queue_size=size, on_full="raise") as pool, occupied(pool):
            futures = [pool.submit(int) for _ in range(size)]
            with pytest.raises(wp.QueueFull):
                pool.submit(int)
            assert pool.stats().lanes["normal"].waiting == len(futures) == size


def test_a_workers_own_submit_never_blocks() -> None:
    def submit_many(pool: wp.WorkerPool) -> list[wp.Future[int]]:
        return [pool.submit(int, i) for i in range(100)]

    with wp.WorkerPool(1, queue_size=2) as pool:
        futures = pool.submit(submit_many, pool).result(LONG)
        assert [future.result(LONG) for future in futures] == list(range(100))
        # Another pool's worker is a caller like any other.
        with wp.WorkerPool(1) as other, occupied(pool):
            pool.submit(int)
            pool.submit(int)
            blocked = other.submit(pool.options(submit_timeout=0.02).submit, int)
            assert isinstance(blocked.exception(LONG), wp.SubmitTimeout)


def test_native_jobs_wait_and_are_handed_over(helpers: Helpers) -> None:
    add = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(2, queue_size=3) as pool:
        futures = [pool.submit(add, i) for i in range(3000)]
        assert [future.result() for future in futures] == list(range(3000))
        wait_until(lambda: pool.stats().unfinished == 0)
