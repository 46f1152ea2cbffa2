"""map() of a pool whose submit() is not the extension's own."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import threading
import unittest.mock
from collections.abc import Iterator
from typing import Any

import pytest

import workerpool as wp
from support import LONG, occupied

BOTH = pytest.mark.parametrize("make", [wp.ThreadPoolExecutor, wp.WorkerPool])


def counting(cls: Any) -> Any:
    class Counting(cls):  # type: ignore[misc]
        count = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            self.count += 1
            return super().submit(fn, *args, **kwargs)

    return Counting


@BOTH
def test_subclass_overrides_submit_and_map_ignores_it(make: Any) -> None:
    with counting(make)(2) as pool:
        assert list(pool.map(abs, range(5))) == list(range(5))
        assert pool.count == 5
        assert list(pool.map(pow, range(5), range(9), in_order=True)) == [1, 1, 4, 27, 256]
        assert sorted(pool.map(abs, range(-9, 0), in_order=False, buffersize=2)) == list(range(1, 10))
        assert list(pool.map(abs, [])) == []
        assert list(pool.lane("low").map(abs, [1])) == [1]


@BOTH
def test_submit_patched_onto_the_instance_or_class(make: Any) -> None:
    """tqdm 4.70 patches the instance's, instrumentation the class's."""
    called = []

    def patch(original: Any) -> Any:
        def submit(*args: Any, **kwargs: Any) -> Any:
            called.append(args[-1])
            return original(*args, **kwargs)

        return submit

    with make(1) as pool:
        pool.submit = patch(pool.submit)
        assert list(pool.map(abs, range(3))) == called == [0, 1, 2]
        called.clear()
        del pool.submit
        with unittest.mock.patch.object(make, "submit", patch(make.submit)):
            assert list(pool.map(abs, range(3))) == called == [0, 1, 2]
        with unittest.mock.patch.object(wp.View, "submit", patch(wp.View.submit)):
            assert list(pool.options(label="x").map(abs, range(3))) == called[3:] == [0, 1, 2]
        pool.submit = unittest.mock.MagicMock(side_effect=pool.submit)
        assert list(pool.map(abs, range(3))) == [0, 1, 2]
        assert pool.submit.call_count == 3
        del pool.submit
        assert type(pool.map(abs, [1])).__name__ == "Map"


@BOTH
def test_errors_come_in_their_place(make: Any) -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("source")

    with counting(make)(1) as pool:
        results = pool.map(lambda x: 1 // x, [1, 1, 0, 1])
        assert [next(results), next(results)] == [1, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == []
        results = pool.map(abs, source())
        assert [next(results), next(results)] == [1, 2]
        with pytest.raises(KeyError):
            next(results)
        assert list(results) == []

        def stop(_: int) -> None:
            raise StopIteration

        with pytest.raises(RuntimeError):
            list(pool.map(stop, [1]))


@BOTH
def test_timeout_and_close_cancel_the_rest(make: Any) -> None:
    with counting(make)(1) as pool:
        ran = []
        with occupied(pool):
            for in_order in (True, False):
                results = pool.map(ran.append, range(10), timeout=0.01, in_order=in_order)
                with pytest.raises(TimeoutError):
                    next(results)
            results = pool.map(ran.append, range(10))
            results.close()
            assert list(results) == []
        assert pool.submit(int).result(LONG) == 0
        assert ran == []


def test_dropped_before_the_first_result() -> None:
    ran: list[int] = []
    with counting(wp.ThreadPoolExecutor)(1) as pool:
        with occupied(pool):
            pool.map(ran.append, range(10))
            gc.collect()
    assert ran == list(range(10))  # As the standard library's, whose map is all submitted then.
    ran.clear()
    with counting(wp.WorkerPool)(1) as pool:
        with occupied(pool):
            pool.map(ran.append, range(10))
            gc.collect()
    assert ran == []


def test_no_more_input_is_taken_than_buffersize() -> None:
    taken = []

    def source() -> Iterator[int]:
        for i in range(20):
            taken.append(i)
            yield i

    with counting(wp.WorkerPool)(2) as pool:
        results = pool.map(abs, source(), buffersize=3)
        assert len(taken) == 3
        assert next(results) == 0
        assert len(taken) == 3
        assert next(results) == 1
        assert len(taken) == 4
        assert list(results) == list(range(2, 20))


def test_job_maps_on_its_own_pool() -> None:
    with counting(wp.ThreadPoolExecutor)(1) as pool:
        assert pool.submit(lambda: list(pool.map(abs, range(20)))).result(LONG) == list(range(20))


def test_futures_of_another_kind() -> None:
    class Elsewhere(wp.WorkerPool):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            future: cf.Future[Any] = cf.Future()
            threading.Thread(target=lambda: future.set_result(fn(*args, **kwargs))).start()
            return future

    with Elsewhere(1) as pool:
        assert list(pool.map(abs, range(5))) == list(range(5))
        assert sorted(pool.map(abs, range(5), in_order=False)) == list(range(5))
