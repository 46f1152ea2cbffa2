"""resize() and idle_timeout: threads come and go, jobs are none the worse."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

import workerpool as wp
from support import LONG, Helpers, occupied, wait_until


def test_grow_while_jobs_wait() -> None:
    barrier = threading.Barrier(4)
    with wp.WorkerPool(1) as pool:
        futures = [pool.submit(barrier.wait, LONG) for _ in range(4)]
        pool.resize(4)
        assert sorted(future.result(LONG) for future in futures) == [0, 1, 2, 3]
        assert pool._max_workers == pool.stats().max_workers == 4


def test_shrink() -> None:
    with wp.WorkerPool(4) as pool:
        with occupied(pool, 4):
            pool.resize(1)
            assert pool.stats().workers == 4  # They leave after their jobs.
        wait_until(lambda: pool.stats().workers == 1)
        running = most = 0
        lock = threading.Lock()

        def job() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.001)
            with lock:
                running -= 1

        for _ in range(50):
            pool.submit(job)
        pool.drain()
        assert most == 1


def test_idle_workers_leave_at_once_when_there_are_too_many() -> None:
    with wp.WorkerPool(4) as pool:
        with occupied(pool, 4):
            pass
        pool.drain()
        pool.resize(2)
        wait_until(lambda: pool.stats().workers == 2)
        assert pool.submit(int, 3).result(LONG) == 3


def test_up_and_down_under_load(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    futures: list[Any] = []
    stop = threading.Event()

    def resize() -> None:
        while not stop.is_set():
            for n in (1, 5, 2, 8, 3):
                pool.resize(n)
                time.sleep(0.001)

    with wp.WorkerPool(2, queue_size=50) as pool:
        thread = threading.Thread(target=resize)
        thread.start()
        futures.extend(pool.submit(id_int, i) if i % 2 else pool.submit(int, i) for i in range(3000))
        assert [future.result(LONG) for future in futures] == list(range(3000))
        stop.set()
        thread.join(LONG)
    assert pool.stats().unfinished == 0


@pytest.mark.parametrize("wrong", [0, -1, 2**40])
def test_numbers_that_cannot_be(wrong: int) -> None:
    with wp.WorkerPool(3) as pool:
        with pytest.raises(ValueError, match="max_workers must be"):
            pool.resize(wrong)
        for kind in ("2", 2.0, None):
            with pytest.raises(TypeError):
                pool.resize(kind)  # type: ignore[arg-type]
        assert pool._max_workers == 3


def test_resize_on_a_worker_and_after_shutdown() -> None:
    with wp.WorkerPool(2) as pool:
        assert pool.submit(pool.resize, 1).result(LONG) is None
        assert pool.submit(int, 5).result(LONG) == 5
    pool.resize(5)
    assert pool.stats().workers == 0


def test_idle_timeout_ends_workers_and_they_come_back() -> None:
    with wp.WorkerPool(3, idle_timeout=0.02) as pool:
        for _ in range(3):
            with occupied(pool, 3):
                assert pool.stats().workers == 3
            wait_until(lambda: pool.stats().workers == 0)
            assert pool.submit(int, 5).result(LONG) == 5
        for _ in range(100):
            pool.submit(int)
            time.sleep(0.001)
    with pytest.raises(ValueError, match="idle_timeout"):
        wp.WorkerPool(1, idle_timeout=-1)


def test_idle_timeout_of_zero() -> None:
    with wp.WorkerPool(2, idle_timeout=0) as pool:
        for i in range(300):
            assert pool.submit(int, i).result(LONG) == i


def test_without_an_idle_timeout_workers_stay() -> None:
    with wp.WorkerPool(2) as pool:
        with occupied(pool, 2):
            pass
        time.sleep(0.05)
        assert pool.stats().workers == 2


def test_initializer_runs_on_each_new_worker() -> None:
    started: list[int] = []
    with wp.WorkerPool(1, initializer=lambda: started.append(threading.get_ident())) as pool:
        pool.submit(int).result(LONG)
        pool.resize(3)
        with occupied(pool, 3):
            assert len(started) == 3
