"""Lanes: urgent work goes first, the rest is not starved, and limits on a lane hold."""

from __future__ import annotations

import ctypes
import threading
import time

import pytest

import workerpool as wp
from support import LONG, Helpers, NativeGate, occupied, wait_until


def test_urgent_before_waiting_bulk_jobs(helpers: Helpers) -> None:
    """100,000 bulk jobs wait and both workers are in 1 ms jobs: an urgent job begins before any that had not begun."""
    bulk = 100_000
    log = (ctypes.c_int64 * (bulk + 1))()
    log_begin = helpers.native("log_begin", "void (int64_t *, int64_t)")
    clock = helpers.native("clock_ns", "int64_t (void)")
    with wp.WorkerPool(2, queue_size=None) as pool:
        urgent = pool.lane("high")
        low = pool.lane("low")
        for _ in range(bulk):
            low.submit(log_begin, log, 1_000_000)
        wait_until(lambda: log[0] >= 2)
        for _ in range(20):
            future = urgent.submit(clock)
            submitted = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            begun = future.result(LONG)
            overtook = sum(submitted < time_of_bulk < begun for time_of_bulk in log[1 : log[0] + 1])
            # A worker may have begun a job just before the submit and read the clock just after it.
            assert overtook <= 2, (overtook, begun - submitted)
        assert pool.stats().lanes["low"].waiting > 90_000
        pool.shutdown(cancel_futures=True)


def test_urgent_before_bulk_jobs_that_are_very_short(helpers: Helpers) -> None:
    """Bulk jobs are claimed by the hundred: an urgent one still begins after a moment's worth of them."""
    spin = helpers.native("spin_ns", "int64_t (int64_t)")
    clock = helpers.native("clock_ns", "int64_t (void)")
    with wp.WorkerPool(2, queue_size=None) as pool:
        for _ in range(60_000):
            pool.lane("low").submit(spin, 20_000)
        waits = []
        for _ in range(10):
            begin = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            future = pool.options(lane="high").submit(clock)
            wait_until(future.done)
            waits.append(future.result() - begin)
        assert sorted(waits)[len(waits) // 2] < 20_000_000
        pool.shutdown(cancel_futures=True)


def test_strict_order_on_one_worker() -> None:
    order: list[str] = []
    with wp.WorkerPool(1, fairness=0) as pool:
        with occupied(pool):
            for i in range(20):
                for lane in ("low", "normal", "high"):
                    pool.lane(lane).submit(order.append, f"{lane}{i}")
        pool.drain()
    assert order == [f"{lane}{i}" for lane in ("high", "normal", "low") for i in range(20)]


@pytest.mark.parametrize("fairness", [2, 5, 16])
def test_fairness_lets_the_low_lane_move(fairness: int) -> None:
    order: list[str] = []
    with wp.WorkerPool(1, fairness=fairness, queue_size=None) as pool:
        with occupied(pool):
            for i in range(10):
                pool.lane("low").submit(order.append, f"low{i}")
            for i in range(400):
                pool.lane("high").submit(order.append, f"high{i}")
        pool.drain()
    places = [order.index(f"low{i}") for i in range(10)]
    assert places == sorted(places)
    gaps = [b - a for a, b in zip([-1, *places], places, strict=False)]
    assert max(gaps) <= fairness
    if fairness > 2:
        assert places[0] >= 1  # Not simply the low lane first.
    assert [x for x in order if x.startswith("high")] == [f"high{i}" for i in range(400)]


def test_fairness_with_three_lanes_serves_each_in_time() -> None:
    order: list[str] = []
    with wp.WorkerPool(1, fairness=8, queue_size=None) as pool:
        with occupied(pool):
            for lane, count in (("low", 20), ("normal", 20), ("high", 400)):
                for i in range(count):
                    pool.lane(lane).submit(order.append, f"{lane}{i}")
        pool.drain()
    for lane in ("low", "normal"):
        places = [order.index(f"{lane}{i}") for i in range(20)]
        assert max(b - a for a, b in zip([-1, *places], places, strict=False)) <= 8


def test_fairness_under_a_steady_stream() -> None:
    """The urgent lane never runs dry, and the low lane is served all the same."""
    stop = threading.Event()
    with wp.WorkerPool(1, fairness=10, queue_size=50) as pool:

        def feed() -> None:
            while not stop.is_set():
                pool.lane("high").submit(time.sleep, 0)

        thread = threading.Thread(target=feed)
        thread.start()
        wait_until(lambda: pool.stats().lanes["high"].waiting > 10)
        try:
            assert pool.lane("low").submit(int, 5).result(LONG) == 5
        finally:
            stop.set()
            thread.join(LONG)


def test_max_running(helpers: Helpers) -> None:
    lanes = ["high", wp.Lane("disk", max_running=2), "low"]
    running = 0
    most = 0
    lock = threading.Lock()

    def job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    with wp.WorkerPool(5, lanes=lanes) as pool:
        disk = pool.lane("disk")
        futures = [disk.submit(job) for _ in range(40)]
        # The other workers are free for other lanes meanwhile.
        assert pool.lane("low").submit(int, 3).result(LONG) == 3
        for future in futures:
            future.result(LONG)
        assert list(disk.map(lambda i: (job(), i)[1], range(40))) == list(range(40))
    assert most == 2


def test_max_running_holds_for_native_jobs_and_for_those_who_wait(helpers: Helpers) -> None:
    """A waiter may run a short native job itself, but not beyond the lane's limit."""
    gate = NativeGate(helpers)
    quick = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(2, lanes=[wp.Lane("one", max_running=1), "other"]) as pool:
        one = pool.lane("one")
        for i in range(100):
            assert one.submit(quick, i).result() == i  # Measured as short.
        holding = gate.close_worker(one)
        future = one.submit(quick, 5)
        with pytest.raises(TimeoutError):
            future.result(0.05)
        opener = threading.Timer(0.05, gate.open)
        opener.start()
        assert future.result() == 5
        assert holding.done()
        opener.join()


def test_default_lane() -> None:
    for names, expected in (
        (("high", "normal", "low"), "normal"),
        (("normal", "b", "c"), "normal"),
        (("a", "b", "c"), "b"),
        (("a", "b"), "b"),
        (("only",), "only"),
    ):
        with wp.WorkerPool(1, lanes=names) as pool:
            assert pool.lanes == names
            assert pool.submit(int).lane == expected


def test_lanes_have_capacities_of_their_own() -> None:
    lanes = [wp.Lane("small", capacity=1), wp.Lane("endless", capacity=None), "same"]
    with wp.WorkerPool(1, lanes=lanes, queue_size=3, on_full="raise") as pool:
        stats = pool.stats().lanes
        assert {name: lane.capacity for name, lane in stats.items()} == {"small": 1, "endless": None, "same": 3}
        with occupied(pool.lane("same")):
            pool.lane("small").submit(int)
            with pytest.raises(wp.QueueFull):
                pool.lane("small").submit(int)
            for _ in range(100):
                pool.lane("endless").submit(int)
            for _ in range(3):
                pool.lane("same").submit(int)
            with pytest.raises(wp.QueueFull):
                pool.lane("same").submit(int)


def test_views() -> None:
    token = wp.CancelToken()
    with wp.WorkerPool(1) as pool:
        view = pool.lane("high").options(label="x").options(token=token)
        assert (view.lane_name, view.label, view.token, view.pool) == ("high", "x", token, pool)
        assert isinstance(view, wp.View)
        assert "high" in repr(view)
        assert "x" in repr(view)
        future = view.submit(int)
        assert (future.lane, future.label) == ("high", "x")
        assert list(view.map(int, range(5))) == list(range(5))
        assert view.lane("low").lane_name == "low"
        assert view.options(lane="low").label == "x"
        with view:
            view.submit(int)
        with pytest.raises(RuntimeError, match="after shutdown"):
            view.submit(int)
        assert pool.submit(int, 4).result(LONG) == 4  # The pool goes on.


def test_a_view_outlives_the_name_of_its_pool() -> None:
    view = wp.WorkerPool(1).lane("high")
    assert view.submit(int, 5).result(LONG) == 5
    view.pool.shutdown()


@pytest.mark.parametrize("name", ["urgent", "", None, 1, b"high", "HIGH"])
def test_unknown_lane(name: object) -> None:
    with wp.WorkerPool(1) as pool:
        if name is not None:
            with pytest.raises(ValueError, match=r"there is no lane .*; this pool has \('high', 'normal', 'low'\)"):
                pool.lane(name)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="there is no lane"):
                pool.options(lane=name)  # type: ignore[arg-type]


def test_lanes_that_cannot_be() -> None:
    for lanes, error in (
        ([], ValueError),
        (["a", "a"], ValueError),
        ("high", TypeError),
        ([1], TypeError),
        ([f"lane{i}" for i in range(1000)], ValueError),
        ([wp.Lane("a", capacity=-1)], ValueError),
        ([wp.Lane("a", capacity="x")], TypeError),  # type: ignore[arg-type]
        ([wp.Lane("a", max_running=0)], ValueError),
    ):
        with pytest.raises(error):
            wp.WorkerPool(1, lanes=lanes)
