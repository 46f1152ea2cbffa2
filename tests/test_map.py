"""map(): lazy, ordered, bounded; errors at their place; dropped maps cancel; nothing hangs."""

from __future__ import annotations

import contextvars
import ctypes
import gc
import itertools
import operator
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workerpool as wp
from conftest import RunScenario
from support import FREE_THREADED, LONG, Helpers, NativeGate, occupied, wait_until


class Counted:
    """An input that knows how much of it was taken."""

    def __init__(self, n: float = float("inf")) -> None:
        self.taken = 0
        self._n = n

    def __iter__(self) -> Iterator[int]:
        while self.taken < self._n:
            self.taken += 1
            yield self.taken - 1


@pytest.fixture(params=["python", "native"])
def identity(request: pytest.FixtureRequest, helpers: Helpers) -> Any:
    return helpers.native("id_long", "long (long)") if request.param == "native" else int


# ---- What comes out ----


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 1000, 5000])
def test_results_in_order(identity: Any, n: int) -> None:
    with wp.WorkerPool(3) as pool:
        assert list(pool.map(identity, range(n))) == list(range(n))
        assert list(pool.map(identity, iter(range(n)))) == list(range(n))
        assert sorted(pool.map(identity, range(n), in_order=False)) == list(range(n))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 300),
    workers=st.integers(1, 4),
    queue_size=st.sampled_from([0, 1, 2, 5, 1024, None]),
    buffersize=st.none() | st.integers(1, 50),
    chunksize=st.none() | st.integers(1, 70),
    in_order=st.booleans(),
    native=st.booleans(),
)
def test_any_settings(
    helpers: Helpers,
    n: int,
    workers: int,
    queue_size: int | None,
    buffersize: int | None,
    chunksize: int | None,
    in_order: bool,
    native: bool,
) -> None:
    function = helpers.native("id_long", "long (long)") if native else int
    with wp.WorkerPool(workers, queue_size=queue_size) as pool:
        values = list(pool.map(function, Counted(n), buffersize=buffersize, chunksize=chunksize, in_order=in_order))
    assert (values if in_order else sorted(values)) == list(range(n))


def test_several_iterables_end_with_the_shortest(helpers: Helpers) -> None:
    add = helpers.native("sum_doubles", "double (double, double, double, double)")
    with wp.WorkerPool(2) as pool:
        assert list(pool.map(pow, range(5), itertools.repeat(2))) == [0, 1, 4, 9, 16]
        assert list(pool.map(add, range(3), range(10), range(5), range(9))) == [0, 4, 8]
        assert list(pool.map(lambda a, b: (a, b), "ab", [])) == []
        long, short = Counted(), [1, 2]
        assert list(pool.map(lambda a, b: (a, b), short, long)) == [(1, 0), (2, 1)]


@pytest.mark.parametrize("in_order", [True, False])
def test_length_hint_is_what_is_to_come(identity: Any, in_order: bool) -> None:
    with wp.WorkerPool(2) as pool:
        results = pool.map(identity, range(4000), in_order=in_order)
        assert operator.length_hint(results) == 4000
        for taken, _ in enumerate(itertools.islice(results, 1000), 1):
            assert operator.length_hint(results) == 4000 - taken
        assert len(list(results)) == 3000
        assert operator.length_hint(results) == 0
        closed = pool.map(identity, range(4000), in_order=in_order)
        closed.close()
        assert operator.length_hint(closed) == 0


def test_length_hint_of_several_inputs_is_of_the_shortest() -> None:
    with wp.WorkerPool(1) as pool:
        assert operator.length_hint(pool.map(max, range(30), (5,) * 20, b"x" * 25), -1) == 20
        assert operator.length_hint(pool.map(max, range(30), iter(range(20))), -1) == -1


def test_length_hint_of_more_than_there_can_be() -> None:
    with wp.WorkerPool(1) as pool:
        for most in (2**40, 2**62, 2**63, 2**64, 10**30, 10**6000):
            results = pool.map(int, range(most))
            assert operator.length_hint(results, -1) == -1
            assert next(results) == 0
            results.close()
        items = list(range(1000))
        assert list(pool.map(max, items, range(2**64))) == list(pool.map(max, range(2**64), items)) == items
        assert operator.length_hint(pool.map(max, range(2**64), items, range(10**30)), -1) == 1000
        with pytest.raises(ZeroDivisionError):  # Rather than MemoryError.
            list(pool.map(lambda i: 1 // (5 - i), range(2**50)))


def test_length_hint_while_the_consumer_waits() -> None:
    """It is not known then, and asking does not disturb who waits."""
    asked = threading.Event()

    def watch(_: int) -> None:
        assert asked.wait(LONG)
        wait_until(lambda: operator.length_hint(results, -1) == -1)

    with wp.WorkerPool(1) as pool:
        results = pool.map(watch, [0])
        asked.set()
        assert next(results) is None


def test_unordered_yields_what_is_ready(identity: Any) -> None:
    first = threading.Event()

    def job(i: int) -> int:
        if i == 0:
            assert first.wait(LONG)
        return i

    with wp.WorkerPool(2) as pool:
        results = pool.map(job, range(50), in_order=False, chunksize=1)
        seen = [next(results) for _ in range(49)]
        assert 0 not in seen
        first.set()
        assert next(results) == 0
        assert list(results) == []


# ---- Lazy and bounded ----


@pytest.mark.parametrize("buffersize", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("in_order", [True, False])
def test_strict_bound(identity: Any, buffersize: int, in_order: bool) -> None:
    source = Counted()
    with wp.WorkerPool(2) as pool:
        results = pool.map(identity, source, buffersize=buffersize, in_order=in_order)
        assert source.taken <= buffersize
        for yielded in range(1, 500):
            next(results)
            assert source.taken <= yielded + buffersize
        results.close()


def test_default_bound_follows_the_queue(identity: Any) -> None:
    for queue_size, bound in ((100, 100), (2, 6), (0, 6)):
        source = Counted()
        with wp.WorkerPool(3, queue_size=queue_size) as pool:
            results = pool.map(identity, source)
            for yielded in range(1, 1000):
                next(results)
                assert source.taken <= yielded + bound
            results.close()


def test_infinite_input(identity: Any) -> None:
    with wp.WorkerPool(2) as pool:
        assert list(itertools.islice(pool.map(identity, itertools.count()), 10_000)) == list(range(10_000))


def test_slow_input_gets_its_first_results_early(identity: Any) -> None:
    """Every result is there before the input is asked for the one after the next."""
    asked = threading.Semaphore(0)
    seen: list[int] = []

    def source() -> Iterator[int]:
        for i in range(5):
            if i >= 2:
                assert len(seen) >= i - 1
            time.sleep(0.02)
            asked.release()
            yield i

    with wp.WorkerPool(2) as pool:
        for value in pool.map(identity, source()):
            seen.append(value)  # noqa: PERF402
    assert seen == list(range(5))


def test_input_is_taken_by_the_consumers_thread_only(identity: Any) -> None:
    threads = set()

    def source() -> Iterator[int]:
        for i in range(300):
            threads.add(threading.get_ident())
            yield i

    with wp.WorkerPool(4) as pool:
        assert list(pool.map(identity, source(), buffersize=10)) == list(range(300))
    assert threads == {threading.get_ident()}


def test_memory_stays_flat_over_a_million_native_jobs(run_scenario: RunScenario, helpers: Helpers) -> None:
    done = run_scenario(
        """
        import itertools, os, sys, workerpool as wp

        def resident():
            with open("/proc/self/statm") as f:
                return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        add = wp.native(sys.argv[1] + ":id_long", "long (long)")
        sum_bytes = wp.native(sys.argv[1] + ":sum_bytes", "uint64_t (const void *, size_t)")
        total = 0
        with wp.WorkerPool(2, queue_size=1000) as pool:
            for value in itertools.islice(pool.map(add, itertools.count()), 100_000):
                pass
            before = resident()
            for i, value in enumerate(itertools.islice(pool.map(add, itertools.count()), 1_000_000)):
                total += value
                if i % 100_000 == 0:
                    grown = resident() - before
                    assert grown < 20_000_000, grown
            for value in pool.map(sum_bytes, (bytes(10_000) for _ in range(20_000)), itertools.repeat(10_000)):
                assert value == 0
            futures = None
            for i in range(200_000):
                pool.submit(add, i)
            pool.drain()
            grown = resident() - before
        assert total == 999_999 * 500_000
        assert grown < 40_000_000, grown
        print("flat")
        """,
        timeout=50,
        args=[helpers.path],
        options=(),
    )
    assert done.stdout == "flat\n"


def test_memory_stays_flat_over_python_jobs(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import itertools, tracemalloc, workerpool as wp

        with wp.WorkerPool(2, queue_size=100) as pool:
            results = pool.map(str, itertools.count())
            for _ in range(2000):
                next(results)
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(30_000):
                next(results)
            grown = tracemalloc.get_traced_memory()[0] - before
            results.close()
        assert grown < 200_000, grown
        """,
        options=(),
    )
    assert done.stderr == ""


# ---- Errors ----


def test_error_of_a_call_is_raised_at_its_place(helpers: Helpers) -> None:
    def job(i: int) -> int:
        if i == 30:
            raise ValueError("the thirtieth")
        return i

    fail = helpers.native("fail_with", "int (int, int)", raises="negative")
    with wp.WorkerPool(2) as pool:
        results = pool.map(job, Counted(100))
        seen = list(itertools.islice(results, 30))
        with pytest.raises(ValueError, match="the thirtieth"):
            next(results)
        assert seen == list(range(30))
        assert list(results) == []

        native_results = pool.map(fail, [1, 2, -3, 4], [0, 0, 5, 0])
        assert [next(native_results), next(native_results)] == [1, 2]
        with pytest.raises(wp.NativeError, match=r"fail_with\(\) returned -3 \(errno 5"):
            next(native_results)
        assert list(native_results) == []


def test_error_of_the_input_is_raised_at_its_place(identity: Any) -> None:
    def source() -> Iterator[int]:
        yield from range(40)
        raise OSError("input is broken")

    with wp.WorkerPool(2) as pool:
        results = pool.map(identity, source())
        seen = []
        with pytest.raises(OSError, match="input is broken"):
            for value in results:
                seen.append(value)  # noqa: PERF402
        assert seen == list(range(40))
        assert list(results) == []
        first = pool.map(identity, (1 // 0 for _ in [0]))
        with pytest.raises(ZeroDivisionError):
            next(first)


def test_argument_that_does_not_fit_is_an_error_of_the_input(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(2) as pool:
        results = pool.map(id_int, [1, 2, 2**40, 3])
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(OverflowError, match="argument 1"):
            next(results)
        assert list(results) == []


@pytest.mark.parametrize("buffersize", [1, None])
def test_stop_iteration_in_a_call_does_not_end_the_map_silently(buffersize: int | None) -> None:
    def job(i: int) -> int:
        if i == 3:
            raise StopIteration
        return i

    with wp.WorkerPool(2) as pool:
        seen = []
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            for value in pool.map(job, range(10), buffersize=buffersize):
                seen.append(value)  # noqa: PERF402
        assert seen == [0, 1, 2]
        assert isinstance(caught.value.__cause__, StopIteration)


def test_unordered_errors_come_as_they_end() -> None:
    def job(i: int) -> int:
        if i == 5:
            raise ValueError("five")
        return i

    with wp.WorkerPool(2) as pool, pytest.raises(ValueError, match="five"):
        list(pool.map(job, range(10), in_order=False))


def test_what_is_refused_at_once() -> None:
    with wp.WorkerPool(1) as pool:
        with pytest.raises(TypeError, match="at least one iterable"):
            pool.map(int)
        with pytest.raises(TypeError, match="not iterable"):
            pool.map(int, 5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="callable"):
            pool.map(5, [1])  # type: ignore[arg-type]
        for name in ("chunksize", "buffersize"):
            with pytest.raises(ValueError, match=f"{name} must be at least 1"):
                pool.map(int, [1], **{name: 0})
            with pytest.raises(TypeError, match=f"{name} must be a whole number"):
                pool.map(int, [1], **{name: 1.5})
        with pytest.raises(TypeError, match="timeout"):
            pool.map(int, [1], timeout="x")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at most"):
            pool.map(print, *[[1]] * 1000)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.map(int, [1])


# ---- Time ----


def test_timeout_counts_from_the_call(helpers: Helpers) -> None:
    gate = NativeGate(helpers)
    with wp.WorkerPool(1) as pool:
        gate.close_worker(pool)
        begin = time.monotonic()
        results = pool.map(int, range(5), timeout=0.1)
        with pytest.raises(TimeoutError):
            next(results)
        assert 0.09 < time.monotonic() - begin < LONG / 2
        assert list(results) == []
        gate.open()
        pool.drain()
        assert pool.stats().lanes["normal"].done == 1  # The rest was cancelled.
        assert list(pool.map(int, range(5), timeout=LONG)) == list(range(5))


def test_limits_of_a_view_hold_for_each_call(helpers: Helpers) -> None:
    begun = ctypes.c_int64(0)
    poll = helpers.native("poll_job", "int (int64_t *, int64_t, wp_job *)")
    with wp.WorkerPool(2) as pool:
        results = pool.options(run_timeout=0.05).map(poll, [ctypes.byref(begun)] * 3, [LONG * 10**9] * 3)
        with pytest.raises(wp.JobTimeout):
            next(results)
        results.close()
        with occupied(pool, 2):
            waiting = pool.options(queue_timeout=0.02).map(int, range(3))
            with pytest.raises(wp.JobExpired):
                next(waiting)
        assert list(pool.options(queue_timeout=LONG, run_timeout=LONG).map(int, range(300))) == list(range(300))


def test_items_of_calls_that_expired_are_let_go_of() -> None:
    class Item:
        pass

    items = [Item() for _ in range(3)]
    alive = [weakref.ref(item) for item in items]
    with wp.WorkerPool(2) as pool:
        with occupied(pool, 2):
            waiting = pool.options(queue_timeout=0.02).map(type, items)
            with pytest.raises(wp.JobExpired):
                next(waiting)
        del waiting, items
    wait_until(lambda: gc.collect() >= 0 and not any(item() for item in alive))


# ---- Giving up ----


@pytest.mark.parametrize("how", ["close", "drop", "error"])
def test_giving_up_cancels_the_rest(how: str) -> None:
    leave = threading.Event()
    ran: list[int] = []

    def job(i: int) -> None:
        ran.append(i)
        assert i == 0 or leave.wait(LONG)
        if how == "error":
            raise ValueError

    with wp.WorkerPool(1) as pool:
        results = pool.map(job, range(1000), chunksize=1)
        if how == "error":
            with pytest.raises(ValueError):  # noqa: PT011
                next(results)
        else:
            next(results)
        if how == "close":
            results.close()
            results.close()
        if how != "drop":
            assert list(results) == []
        del results
        leave.set()
        pool.drain()
        stats = pool.stats()
        assert stats.unfinished == 0
        assert len(ran) <= 2
        lane = stats.lanes["normal"]
        assert lane.cancelled >= 998
        assert lane.submitted == lane.done + lane.failed + lane.cancelled


def test_dropped_map_lets_go_of_arguments_and_results() -> None:
    class Thing:
        pass

    things = [Thing() for _ in range(100)]
    alive = [weakref.ref(thing) for thing in things]
    with wp.WorkerPool(2) as pool:
        results = pool.map(lambda thing: thing, things)
        next(results)
        del things, results
        pool.drain()
        gc.collect()
        wait_until(lambda: not any(ref() for ref in alive))


def test_yielded_results_are_not_kept() -> None:
    class Thing:
        pass

    with wp.WorkerPool(2) as pool:
        results = pool.map(lambda _: Thing(), range(100))
        for _ in range(50):
            alive = weakref.ref(next(results))
            if FREE_THREADED:
                gc.collect()  # Only it takes objects away from the thread that made them, while that sleeps.
            assert alive() is None
        results.close()


def test_map_that_is_part_of_a_cycle_is_collected() -> None:
    class Box:
        results: Any = None

    box = Box()
    alive = weakref.ref(box)
    with wp.WorkerPool(2) as pool:
        box.results = pool.map(lambda i, box=box: i, range(100_000))
        next(box.results)
        del box
        pool.drain(0.01)
        wait_until(lambda: gc.collect() < 0 or alive() is None)
        pool.drain(LONG)


def test_token_ends_a_map(identity: Any) -> None:
    token = wp.CancelToken()
    with wp.WorkerPool(2) as pool:
        results = pool.options(token=token).map(identity, itertools.count(), buffersize=100)
        assert [next(results) for _ in range(150)] == list(range(150))
        token.cancel()
        with pytest.raises(CancelledError):
            for _ in range(1000):
                next(results)
        assert list(results) == []


def test_token_ends_a_map_whose_calls_wait(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import threading, workerpool as wp
        from concurrent.futures import CancelledError

        leave = threading.Event()
        with wp.WorkerPool(1) as pool:
            pool.submit(leave.wait)
            for in_order in (True, False):
                token = wp.CancelToken()
                results = pool.options(token=token).map(int, range(100), in_order=in_order)
                threading.Timer(0.1, token.cancel).start()
                try:
                    next(results)
                except CancelledError:
                    print("cancelled", list(results))
            leave.set()
        """
    )
    assert done.stdout == "cancelled []\n" * 2


def test_token_ends_a_map_that_waits_for_room(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import threading, workerpool as wp
        from concurrent.futures import CancelledError

        leave = threading.Event()
        with wp.WorkerPool(1, queue_size=1) as pool:
            holding = pool.submit(leave.wait)
            while not holding.running():
                pass
            pool.submit(int)
            token = wp.CancelToken()
            threading.Timer(0.1, token.cancel).start()
            try:
                print(list(pool.options(token=token).map(int, range(100))))
            except CancelledError:
                print("cancelled")
            leave.set()
        """
    )
    assert done.stdout == "cancelled\n"


@pytest.mark.parametrize("how", ["cancel_futures", "initializer"])
def test_cancelled_by_shutdown_or_broken_pool(run_scenario: RunScenario, how: str) -> None:
    done = run_scenario(
        """
        import logging, sys, threading, workerpool as wp
        from concurrent.futures import CancelledError

        logging.disable()
        sys.unraisablehook = lambda _: None
        go_on = threading.Event()
        leave = threading.Event()

        def fail():
            go_on.wait()
            if sys.argv[1] == "initializer":
                raise ValueError

        pool = wp.WorkerPool(1, initializer=fail)
        if sys.argv[1] == "initializer":
            results = pool.map(int, range(100))
            unordered = pool.map(int, range(100), in_order=False)
            go_on.set()
        else:
            go_on.set()
            holding = pool.submit(leave.wait)
            while not holding.running():
                pass
            results = pool.map(int, range(100))
            unordered = pool.map(int, range(100), in_order=False)
            pool.shutdown(wait=False, cancel_futures=True)
        for r in (results, unordered):
            try:
                print(list(r))
            except CancelledError:
                print("cancelled", list(r))
            except wp.BrokenPool:
                print("broken", list(r))
        leave.set()
        """,
        args=[how],
    )
    expected = "broken []\n" if how == "initializer" else "cancelled []\n"
    assert done.stdout == expected * 2


def test_shutdown_before_the_rest_of_the_input_was_taken() -> None:
    with wp.WorkerPool(2) as pool:
        results = pool.map(int, range(1000), buffersize=20)
        assert next(results) == 0
        pool.shutdown()
        seen = []
        with pytest.raises(RuntimeError, match="after shutdown"):
            for value in results:
                seen.append(value)  # noqa: PERF402
        assert seen == list(range(1, len(seen) + 1))


# ---- Nested and concurrent ----


def test_nested_on_one_worker(run_scenario: RunScenario, helpers: Helpers) -> None:
    done = run_scenario(
        """
        import sys, workerpool as wp

        native = wp.native(sys.argv[1] + ":id_long", "long (long)")

        def inner(pool, function, depth):
            if depth == 0:
                return sum(pool.map(function, range(100)))
            return sum(pool.map(inner, [pool] * 2, [function] * 2, [depth - 1] * 2))

        for queue_size in (0, 1, 2, 1024):
            with wp.WorkerPool(1, queue_size=queue_size) as pool:
                for function in (native, int):
                    print(pool.submit(inner, pool, function, 3).result(10), end=" ")
                    print(sum(pool.map(inner, [pool], [function], [2])), end=" ")
        """,
        args=[helpers.path],
        timeout=30,
    )
    assert done.stdout == "39600 19800 " * 8


def test_nested_submit_in_a_map_on_one_worker() -> None:
    with wp.WorkerPool(1) as pool:
        assert list(pool.map(lambda i: pool.submit(int, i).result(LONG), range(200))) == list(range(200))


def test_several_threads_may_not_take_from_one_map_at_a_time() -> None:
    inside = threading.Event()
    leave = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        inside.set()
        assert leave.wait(LONG)
        yield 1

    with wp.WorkerPool(1) as pool:
        results = pool.map(int, source(), buffersize=1)
        assert next(results) == 0
        thread = threading.Thread(target=list, args=(results,))
        thread.start()
        assert inside.wait(LONG)
        with pytest.raises(ValueError, match="another thread"):
            next(results)
        with pytest.raises(ValueError, match="another thread"):
            results.close()
        leave.set()
        thread.join(LONG)


def test_input_that_uses_the_map_itself() -> None:
    box: list[Any] = []

    def source() -> Iterator[int]:
        yield 0
        with pytest.raises(ValueError, match="another thread"):
            next(box[0])
        yield 1

    with wp.WorkerPool(1) as pool:
        box.append(pool.map(int, source(), buffersize=1))
        assert list(box[0]) == [0, 1]
        box.clear()


def test_maps_of_many_threads_at_a_time(identity: Any) -> None:
    sums = []
    with wp.WorkerPool(2, queue_size=20) as pool:

        def consume() -> None:
            sums.append(sum(pool.map(identity, range(3000))))

        threads = [threading.Thread(target=consume) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert sums == [sum(range(3000))] * 6


def test_consumer_may_be_another_thread_than_the_maker(identity: Any) -> None:
    with wp.WorkerPool(2) as pool:
        results = pool.map(identity, range(2000), buffersize=50)
        assert next(results) == 0
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.extend(results))
        thread.start()
        thread.join(LONG)
        assert seen == list(range(1, 2000))


@pytest.mark.keeps("the context of the main thread keeps each variable that was set in it")
def test_context_variables(identity: Any) -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    def job(i: int) -> str:
        seen = variable.get()
        variable.set("by a job")
        return seen if seen != "by a job" else "of the map"

    with wp.WorkerPool(2) as pool:
        variable.set("of the map")
        results = pool.map(job, range(100))
        variable.set("later")
        assert set(results) == {"of the map"}
        assert variable.get() == "later"


def test_long_calls_are_spread_over_the_workers() -> None:
    """The first call is long, those behind it in the same block must not wait for it."""
    second = threading.Event()

    def job(i: int) -> bool:
        if i == 1:
            second.set()
        return second.wait(10) if i == 0 else True

    with wp.WorkerPool(2) as pool:
        for _ in range(30):
            list(pool.map(int, range(200)))
            second.clear()
            assert all(pool.map(job, range(2)))


def test_keyword_function_may_be_positional_only() -> None:
    with wp.WorkerPool(1) as pool, pytest.raises(TypeError):
        pool.map(fn=int, iterables=[1])  # type: ignore[call-arg]
