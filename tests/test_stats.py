"""stats(): the numbers add up."""

from __future__ import annotations

import dataclasses
import time

import pytest

import workerpool as wp
from support import LONG, Helpers, occupied, wait_until


def fail() -> None:
    raise ValueError


def test_of_a_new_pool() -> None:
    with wp.WorkerPool(3, queue_size=7) as pool:
        stats = pool.stats()
        assert isinstance(stats, wp.PoolStats)
        assert (stats.max_workers, stats.workers, stats.busy, stats.unfinished, stats.busy_time) == (3, 0, 0, 0, 0)
        assert list(stats.lanes) == ["high", "normal", "low"]
        for lane in stats.lanes.values():
            assert isinstance(lane, wp.LaneStats)
            assert lane.capacity == 7
            numbers = dataclasses.asdict(lane)
            assert numbers.pop("capacity") == 7
            for name in ("wait_time", "run_time"):
                assert numbers.pop(name) == {"p50": 0, "p90": 0, "p99": 0, "max": 0}
            assert set(numbers.values()) == {0}
        with pytest.raises(dataclasses.FrozenInstanceError):
            stats.workers = 5  # type: ignore[misc]


def test_every_outcome_is_counted_once(helpers: Helpers) -> None:
    fail_with = helpers.native("fail_with", "int (int, int)", raises="nonzero")
    with wp.WorkerPool(1, queue_size=5, on_full="raise") as pool:
        with occupied(pool):
            futures = [pool.submit(int), pool.submit(fail), pool.submit(fail_with, 1, 1), pool.submit(int)]
            futures.append(pool.options(queue_timeout=0.01).submit(int))
            with pytest.raises(wp.QueueFull):
                pool.submit(int)
            assert futures[3].cancel()
            wait_until(futures[4].done)
            stats = pool.stats()
            assert (stats.workers, stats.busy, stats.unfinished) == (1, 1, 4)
            assert stats.lanes["normal"].waiting == 3
        pool.options(run_timeout=0.001).submit(time.sleep, 0.01).exception(LONG)
        pool.drain()
        stats = pool.stats()
    lane = stats.lanes["normal"]
    assert (lane.done, lane.failed, lane.cancelled, lane.expired, lane.timed_out, lane.lost) == (2, 2, 1, 1, 1, 0)
    assert (lane.submitted, lane.rejected, lane.waiting) == (7, 1, 0)
    assert (stats.unfinished, stats.lanes["high"].submitted) == (0, 0)


def test_map_counts_its_calls(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(2) as pool:
        for function in (int, id_int):
            list(pool.lane("low").map(function, range(1000)))
        pool.drain()
        lane = pool.stats().lanes["low"]
    assert lane.submitted == lane.done == 2000


def test_times(helpers: Helpers) -> None:
    sleep = helpers.native("sleep_ns", "int64_t (int64_t)")
    with wp.WorkerPool(1) as pool:
        for _ in range(10):
            pool.submit(sleep, 5_000_000)
        pool.submit(time.sleep, 0.03)
        pool.drain()
        stats = pool.stats()
    lane = stats.lanes["normal"]
    assert 0.005 <= lane.run_time["p50"] < 1
    assert 0.03 <= lane.run_time["max"] < 5
    assert lane.run_time["p50"] <= lane.run_time["p90"] <= lane.run_time["p99"] <= lane.run_time["max"]
    assert lane.wait_time["max"] >= 0.045
    assert stats.busy_time >= 0.075


def test_after_shutdown_and_of_workers_that_left() -> None:
    pool = wp.WorkerPool(4)
    with occupied(pool, 4):
        for _ in range(10):
            pool.submit(int)
    pool.resize(1)
    pool.shutdown()
    stats = pool.stats()
    assert stats.lanes["normal"].done == 14
    assert (stats.workers, stats.busy, stats.unfinished) == (0, 0, 0)
    assert stats.busy_time > 0
