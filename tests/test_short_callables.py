"""Short Python callables are left to one worker, and nothing waits for that one if it turns out to be held up."""

from __future__ import annotations

import threading

import pytest

from workerpool import WorkerPool

WORKERS = 6
ENOUGH = 20.0  # Seconds: for what ought to take a millisecond.


def nothing() -> None:
    pass


def a_pool(warm: bool) -> WorkerPool:
    """One that has never run anything, or one that knows its jobs to be short. Each test has all workers to itself."""
    pool = WorkerPool(WORKERS)
    for future in [pool.submit(nothing) for _ in range(1000 if warm else 0)]:
        future.result(ENOUGH)
    return pool


@pytest.mark.parametrize("warm", [False, True])
def test_jobs_that_wait_for_each_other_all_run(warm: bool) -> None:
    with a_pool(warm) as pool:
        for _ in range(20):
            barrier = threading.Barrier(WORKERS)
            futures = [pool.submit(barrier.wait, ENOUGH) for _ in range(WORKERS)]
            assert sorted(future.result(ENOUGH) for future in futures) == list(range(WORKERS))
            for future in [pool.submit(nothing) for _ in range(200)]:
                future.result(ENOUGH)


@pytest.mark.parametrize("warm", [False, True])
def test_jobs_behind_one_that_blocks_are_run_by_others(warm: bool) -> None:
    with a_pool(warm) as pool:
        for _ in range(20):
            event = threading.Event()
            blocked = pool.submit(event.wait, ENOUGH)
            for future in [pool.submit(nothing) for _ in range(200)]:
                future.result(ENOUGH)
            assert not blocked.done()
            event.set()
            assert blocked.result(ENOUGH) is True


@pytest.mark.parametrize("warm", [False, True])
def test_a_job_that_waits_for_a_later_one_is_not_left_alone_by_shutdown(warm: bool) -> None:
    with a_pool(warm) as pool:
        event = threading.Event()
        blocked = pool.submit(event.wait, ENOUGH)
        rest = [pool.submit(nothing) for _ in range(20)]
        last = pool.submit(event.set)
        pool.shutdown(wait=True)
        assert blocked.result() is True
        assert all(future.done() for future in [*rest, last])


@pytest.mark.parametrize("warm", [False, True])
def test_an_urgent_job_does_not_wait_for_a_blocked_one(warm: bool) -> None:
    with a_pool(warm) as pool:
        for _ in range(20):
            event = threading.Event()
            blocked = pool.submit(event.wait, ENOUGH)
            rest = [pool.submit(nothing) for _ in range(50)]
            assert pool.lane("high").submit(int, "7").result(ENOUGH) == 7
            event.set()
            assert blocked.result(ENOUGH) is True
            for future in rest:
                future.result(ENOUGH)
