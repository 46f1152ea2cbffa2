"""What a job holds is let go of before its end can be seen: buffers above all."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import gc
import mmap
import sys
import threading
import time
from typing import Any

import pytest

import workerpool as wp
from support import LONG, Helpers, occupied, wait_until


@pytest.fixture
def total(helpers: Helpers) -> Any:
    return helpers.native("sum_bytes", "uint64_t (const unsigned char *, size_t)")


def blocks(n: int) -> list[mmap.mmap]:
    return [mmap.mmap(-1, 4096) for _ in range(n)]


def close_all(memory: list[mmap.mmap]) -> None:
    for block in memory:
        block.close()  # BufferError while a job holds it.


def test_future(total: Any) -> None:
    with wp.WorkerPool(2) as pool:
        for block in blocks(200):
            pool.submit(total, block, 4096).result()
            block.close()
        memory = blocks(200)
        for block, future in zip(memory, [pool.submit(total, b, 4096) for b in memory], strict=True):
            while not future.done():
                time.sleep(0)
            block.close()


def test_done_callback(total: Any) -> None:
    closed = []
    with wp.WorkerPool(2) as pool:
        for block in blocks(300):
            future = pool.submit(total, block, 4096)
            future.add_done_callback(lambda f, block=block: closed.append(block.close()))
    wait_until(lambda: len(closed) == 300)


def test_as_completed(total: Any) -> None:
    with wp.WorkerPool(2) as pool:
        block_of = {}
        for block in blocks(300):
            block_of[pool.submit(total, block, 4096)] = block
        for future in cf.as_completed(block_of):
            block_of[future].close()


@pytest.mark.parametrize("chunksize", [None, 1, 10])
@pytest.mark.parametrize("in_order", [True, False])
def test_map_lets_go_of_each_call_before_its_result_is_seen(total: Any, chunksize: int | None, in_order: bool) -> None:
    memory = blocks(100)
    with wp.WorkerPool(2) as pool:
        results = pool.map(total, memory, [4096] * 100, chunksize=chunksize, in_order=in_order)
        if in_order:
            for block, _ in zip(memory, results, strict=True):
                block.close()
        else:
            assert len(list(results)) == 100
            close_all(memory)


def test_map_of_which_one_result_was_read_lets_go_of_all_calls(total: Any) -> None:
    memory = blocks(100)
    with wp.WorkerPool(2) as pool:
        results = pool.map(total, memory, [4096] * 100)
        next(results)

        def all_closed() -> bool:
            try:
                close_all(memory)
            except BufferError:
                return False
            return True

        wait_until(all_closed)
        assert sum(results) == 0


def test_map_with_limits_and_errors(total: Any, helpers: Helpers) -> None:
    fails = helpers.native("sum_bytes", "uint64_t (const unsigned char *, size_t)", raises="nonzero")
    with wp.WorkerPool(2) as pool:
        for view in (pool, pool.options(run_timeout=LONG)):
            for block in blocks(20):
                block[0] = 1
                with pytest.raises(wp.NativeError):
                    next(view.map(fails, [block], [4096]))
                block.close()


def test_map_that_is_closed_while_all_workers_are_busy(total: Any) -> None:
    memory = blocks(100)
    with wp.WorkerPool(1) as pool, occupied(pool):
        results = pool.map(total, memory, [4096] * 100)
        results.close()
        close_all(memory)


def test_results_queue(total: Any) -> None:
    with wp.WorkerPool(2) as pool, pool.results() as results:
        memory = blocks(200)
        for block in memory:
            index = results.submit(total, block, 4096)
            assert next(results).index == index
            block.close()


@pytest.mark.parametrize("how", ["cancel", "request_cancel", "token", "shutdown"])
def test_cancelled_while_all_workers_are_busy(total: Any, how: str) -> None:
    token = wp.CancelToken()
    memory = blocks(20)
    with wp.WorkerPool(1) as pool, occupied(pool):
        futures = [pool.options(token=token).submit(total, block, 4096) for block in memory]
        if how == "token":
            token.cancel()
        elif how == "shutdown":
            pool.shutdown(wait=False, cancel_futures=True)
        else:
            for future in futures:
                getattr(future, how)()
        close_all(memory)


@pytest.mark.parametrize("how", ["token", "shutdown"])
def test_cancelled_in_a_results_queue(total: Any, how: str) -> None:
    token = wp.CancelToken()
    memory = blocks(20)
    with wp.WorkerPool(1) as pool, occupied(pool):
        with pool.options(token=token).results() as results:
            for block in memory:
                results.submit(total, block, 4096)
        if how == "token":
            token.cancel()
        else:
            pool.shutdown(wait=False, cancel_futures=True)
        close_all(memory)
        assert all(not result.ok for result in results)


def test_expired_while_all_workers_are_busy(total: Any) -> None:
    seen, unseen = blocks(2)
    with wp.WorkerPool(1) as pool, occupied(pool):
        view = pool.options(queue_timeout=0.01)
        future = view.submit(total, seen, 4096)
        other = view.submit(total, unseen, 4096)
        with pytest.raises(wp.JobExpired):
            future.result(LONG)
        seen.close()

        def closed() -> bool:
            try:
                unseen.close()
            except BufferError:
                return False
            return True

        wait_until(closed)
        assert other.done()


@pytest.mark.parametrize("on_full", ["discard", "discard_oldest"])
def test_discarded_by_a_full_queue(total: Any, on_full: str) -> None:
    first, second = blocks(2)
    with wp.WorkerPool(1, queue_size=1, on_full=on_full) as pool, occupied(pool):
        futures = [pool.submit(total, block, 4096) for block in (first, second)]
        for future, block in zip(futures, (first, second), strict=True):
            if future.cancelled():
                block.close()
                break
        else:
            raise AssertionError(on_full)


def test_asyncio(total: Any) -> None:
    async def main(pool: wp.WorkerPool) -> None:
        for block in blocks(100):
            await pool.run(total, block, 4096)
            block.close()
        memory = blocks(100)
        for block, future in zip(memory, [pool.run(total, b, 4096) for b in memory], strict=True):
            await future
            block.close()

    async def cancelled(pool: wp.WorkerPool) -> None:
        memory = blocks(10)
        futures = [pool.run(total, block, 4096) for block in memory]
        for future in futures:
            future.cancel()
        await asyncio.sleep(0)
        close_all(memory)

    with wp.WorkerPool(2) as pool:
        asyncio.run(main(pool))
        with occupied(pool, 2):
            asyncio.run(cancelled(pool))


def test_map_array(helpers: Helpers) -> None:
    double = helpers.native("sum_doubles", "double (double, double, double, double)")
    with wp.WorkerPool(2) as pool:
        for _ in range(30):
            block = mmap.mmap(-1, 8192)
            view = memoryview(block).cast("d")
            pool.submit_array(double, view, 1.0, 1.0, 1.0).result()
            view.release()
            block.close()


def test_arguments_of_a_python_callable_that_never_ran() -> None:
    with wp.WorkerPool(1) as pool, occupied(pool):
        block = mmap.mmap(-1, 4096)
        future = pool.submit(len, memoryview(block))
        assert future.cancel()
        block.close()
        block = mmap.mmap(-1, 4096)
        token = wp.CancelToken()
        future = pool.options(token=token).submit(len, memoryview(block))
        token.cancel()
        assert future.cancelled()
        block.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__release_buffer__ is of 3.12")
def test_release_that_asks_for_its_own_job(total: Any) -> None:
    """Foreign code: it waits for the future whose end is about to be told, from each of the ways to see it."""
    seen: list[Any] = []

    class Exporter:
        def __init__(self) -> None:
            self.memory = bytearray(4096)
            self.future: Any = None

        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(self.memory)

        def __release_buffer__(self, view: memoryview) -> None:
            view.release()
            while self.future is None:
                time.sleep(0.001)
            if not isinstance(self.future, str):
                seen.append((self.future.done(), self.future.result(LONG)))

    def submit(pool: wp.WorkerPool) -> tuple[Exporter, Any]:
        exporter = Exporter()
        future = pool.submit(total, exporter, 4096)
        return exporter, future

    told = threading.Event()
    with wp.WorkerPool(2) as pool:
        for see in (
            lambda f: f.result(LONG),
            lambda f: f.exception(LONG),
            lambda f: cf.wait([f], LONG),
            lambda f: f.add_done_callback(lambda f: told.set()) or told.wait(LONG),
        ):
            exporter, future = submit(pool)
            exporter.future = future
            see(future)
            wait_until(lambda: seen)
            assert seen.pop() == (True, 0)
            told.clear()
            del exporter, future
    gc.collect()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__release_buffer__ is of 3.12")
def test_release_that_takes_long_does_not_hold_up_others(total: Any) -> None:
    go = threading.Event()

    class Slow:
        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(bytearray(4096))

        def __release_buffer__(self, view: memoryview) -> None:
            go.wait(LONG)

    with wp.WorkerPool(2) as pool:
        slow = pool.submit(total, Slow(), 4096)
        pool.drain(1)
        for block in blocks(50):
            future = pool.submit(total, block, 4096)
            while not future.done():
                time.sleep(0)
            block.close()
        go.set()
        assert slow.result(LONG) == 0
