"""The drop-in for concurrent.futures.ThreadPoolExecutor, and the pools as Executors of other libraries."""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextvars
import inspect
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, Helpers, occupied, wait_until

BOTH = pytest.mark.parametrize("make", [wp.ThreadPoolExecutor, wp.WorkerPool])


# ---- What it is ----


def test_types() -> None:
    assert issubclass(wp.ThreadPoolExecutor, wp.WorkerPool)
    assert issubclass(wp.ThreadPoolExecutor, cf.ThreadPoolExecutor)
    assert issubclass(wp.WorkerPool, cf.Executor)
    assert not issubclass(wp.WorkerPool, cf.ThreadPoolExecutor)
    assert issubclass(wp.View, cf.Executor)
    assert "ThreadPoolExecutor" in str(wp.ThreadPoolExecutor)


def test_signature_of_the_constructor() -> None:
    mine = inspect.signature(wp.ThreadPoolExecutor)
    theirs = inspect.signature(cf.ThreadPoolExecutor)
    for name, parameter in theirs.parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            assert mine.parameters[name].default == parameter.default
            assert mine.parameters[name].kind == parameter.kind


@BOTH
def test_truth_and_length(make: Any) -> None:
    """Libraries write `pool or default`: a pool must not be false when its queue is empty."""
    with make(1) as pool:
        assert bool(pool) is True
        assert not hasattr(pool, "__len__")
        assert bool(pool.lane("high")) is True
        assert weakref.ref(pool)() is pool


def test_attributes_that_libraries_read() -> None:
    standard = cf.ThreadPoolExecutor()
    with wp.ThreadPoolExecutor() as pool:
        assert pool._max_workers == standard._max_workers
    with wp.ThreadPoolExecutor(3, "named") as pool:
        assert pool._max_workers == 3
        assert pool._thread_name_prefix == "named"
        assert pool._shutdown is False
        assert len(pool._threads) == 0
        with occupied(pool, 3):
            assert len(pool._threads) == 3
            for _ in range(5):
                pool.submit(int)
            assert pool._work_queue.qsize() == 5
    assert pool._shutdown is True
    view = wp.WorkerPool(5).options(label="x")
    assert view._max_workers == 5
    assert view._shutdown is False
    view.pool.shutdown()
    assert view._shutdown is True


def test_default_workers_of_a_worker_pool() -> None:
    with wp.WorkerPool() as pool:
        assert 1 <= pool._max_workers <= (os.cpu_count() or 1)
        if hasattr(os, "sched_getaffinity"):
            assert pool._max_workers <= len(os.sched_getaffinity(0))


# ---- CPython's documentation ----


def test_documentation_deadlock_examples_do_not_deadlock_here(run_scenario: RunScenario) -> None:
    """ "When the callable associated with a Future waits on the results of another Future"."""
    done = run_scenario(
        """
        import time
        from workerpool import ThreadPoolExecutor

        def wait_on_future():
            f = executor.submit(pow, 5, 2)
            # This will never complete because there is only one worker thread and
            # it is executing this function.
            print(f.result())

        executor = ThreadPoolExecutor(max_workers=1)
        executor.submit(wait_on_future).result()
        """
    )
    assert done.stdout == "25\n"


def test_documentation_submit_example() -> None:
    with wp.ThreadPoolExecutor(max_workers=1) as executor:
        future = executor.submit(pow, 323, 1235)
        assert future.result() == 323**1235


def test_documentation_shutil_example(tmp_path: Any) -> None:
    import shutil

    for i in range(1, 5):
        (tmp_path / f"src{i}.txt").write_text(str(i))
    with wp.ThreadPoolExecutor(max_workers=4) as e:
        for i in range(1, 5):
            e.submit(shutil.copy, tmp_path / f"src{i}.txt", tmp_path / f"dest{i}.txt")
    assert [(tmp_path / f"dest{i}.txt").read_text() for i in range(1, 5)] == ["1", "2", "3", "4"]


def test_documentation_urls_example() -> None:
    urls = [f"http://www.site{i}.com/" for i in range(5)] + ["http://nonexistent-subdomain.python.org/"]

    def load_url(url: str, timeout: float) -> bytes:
        if "nonexistent" in url:
            raise OSError("no such host")
        return url.encode() * 10

    seen = {}
    with wp.ThreadPoolExecutor(max_workers=5) as executor:
        future_to_url = {executor.submit(load_url, url, 60): url for url in urls}
        for future in cf.as_completed(future_to_url):
            url = future_to_url[future]
            try:
                data = future.result()
            except Exception as exc:
                seen[url] = str(exc)
            else:
                seen[url] = str(len(data))
    assert seen == {url: "no such host" if "nonexistent" in url else str(len(url) * 10) for url in urls}


# ---- Behaviours of the standard library's own tests ----


@pytest.fixture(params=[cf.ThreadPoolExecutor, wp.ThreadPoolExecutor], ids=["standard", "workerpool"])
def executor_type(request: pytest.FixtureRequest) -> Any:
    """The same expectations hold for the original."""
    return request.param


@pytest.mark.parametrize("number", [0, -1, -100])
def test_max_workers_too_small(executor_type: Any, number: int) -> None:
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        executor_type(max_workers=number)


def test_initializer_that_cannot_be_called(executor_type: Any) -> None:
    with pytest.raises(TypeError, match="initializer must be a callable"):
        executor_type(initializer=1)


def test_after_shutdown(executor_type: Any) -> None:
    executor = executor_type(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(pow, 2, 5)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.map(pow, [2], [5])
    executor.shutdown()
    executor.shutdown(False)  # s3transfer gives it by position.


def test_submit_without_a_function(executor_type: Any) -> None:
    with executor_type(1) as executor:
        with pytest.raises(TypeError):
            executor.submit()
        with pytest.raises(TypeError):
            executor.submit(fn=pow, arg=1)


def test_map(executor_type: Any) -> None:
    with executor_type(3) as executor:
        assert list(executor.map(pow, range(10), range(10))) == list(map(pow, range(10), range(10)))
        assert list(executor.map(pow, range(10), range(10), chunksize=3)) == list(map(pow, range(10), range(10)))
        iterator = executor.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
        assert next(iterator) == (0, 1)
        assert next(iterator) == (0, 1)
        with pytest.raises(ZeroDivisionError):
            next(iterator)
        assert list(executor.map(pow, [], [])) == []


def test_map_without_iterables_is_over_nothing(executor_type: Any) -> None:
    with executor_type(1) as executor:
        assert list(executor.map(str)) == []


def test_map_is_eager(executor_type: Any) -> None:
    taken = []
    ran = threading.Semaphore(0)

    def source() -> Iterator[int]:
        for i in range(3000):
            taken.append(i)
            yield i

    with executor_type(2) as executor:
        iterator = executor.map(lambda i: ran.release() or i, source())
        assert len(taken) == 3000
        for _ in range(3000):
            assert ran.acquire(timeout=LONG)  # Though nobody has asked for a result.
        assert list(iterator) == list(range(3000))


def test_map_whose_result_is_dropped_does_all_calls(executor_type: Any) -> None:
    """The standard one is a generator, which dropped before its first step does nothing more."""
    ran: list[int] = []
    with executor_type(1) as executor:
        executor.map(ran.append, range(3000))
    assert ran == list(range(3000))


@pytest.mark.parametrize("end", ["close", "drop"])
def test_map_that_was_begun_and_left_cancels_the_rest(executor_type: Any, end: str) -> None:
    leave = threading.Event()
    ran: list[int] = []
    with executor_type(1) as executor:
        executor.submit(leave.wait, LONG)
        iterator = executor.map(ran.append, range(100), timeout=0)
        with pytest.raises(TimeoutError):
            next(iterator)
        iterator.close() if end == "close" else None
        del iterator
        leave.set()
    assert ran == []


def test_map_timeout(executor_type: Any) -> None:
    results = []
    leave = threading.Event()
    with executor_type(2) as executor:
        try:
            with pytest.raises(TimeoutError):
                for x in executor.map(lambda event: event and event.wait(LONG), [None, None, leave], timeout=0.2):
                    results.append(x)  # noqa: PERF402
        finally:
            leave.set()
    assert results == [None, None]


def test_infinite_input_with_a_buffersize() -> None:
    with wp.ThreadPoolExecutor(2) as executor:
        results = executor.map(str, itertools.count(), buffersize=4)
        assert list(itertools.islice(results, 10)) == [str(i) for i in range(10)]
        results.close()
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            executor.map(str, [1], buffersize=0)
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            executor.map(str, [1], buffersize="x")  # type: ignore[arg-type]


def test_submit_never_waits(executor_type: Any) -> None:
    with executor_type(1) as executor:
        with occupied(executor):
            futures = [executor.submit(int, i) for i in range(5000)]
        assert sum(future.result(LONG) for future in futures) == sum(range(5000))


def test_threads_start_as_jobs_come(executor_type: Any) -> None:
    with executor_type(4) as executor:
        assert len(executor._threads) == 0
        executor.submit(int).result(LONG)
        assert len(executor._threads) == 1
        with occupied(executor, 4):
            assert len(executor._threads) == 4


def test_thread_names(executor_type: Any) -> None:
    name = lambda: threading.current_thread().name  # noqa: E731
    with executor_type(1, thread_name_prefix="mine") as executor:
        assert executor.submit(name).result(LONG) == "mine_0"
    with executor_type(1) as executor:
        found = executor.submit(name).result(LONG)
        assert found.startswith("ThreadPoolExecutor-")
        assert found.endswith("_0")


def test_initializer(executor_type: Any) -> None:
    local = threading.local()

    def initialize(value: int) -> None:
        local.value = value

    with executor_type(3, initializer=initialize, initargs=(42,)) as executor:
        assert [executor.submit(lambda: local.value).result(LONG) for _ in range(20)] == [42] * 20


def test_initializer_failure(executor_type: Any, caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()

    def initialize() -> None:
        assert go_on.wait(LONG)
        raise ValueError("not this one")

    with caplog.at_level(logging.CRITICAL, "concurrent.futures"):
        executor = executor_type(2, initializer=initialize)
        futures = [executor.submit(int) for _ in range(3)]
        go_on.set()
        for future in futures:
            with pytest.raises(cf.thread.BrokenThreadPool):
                future.result(LONG)
        end = time.monotonic() + LONG
        with pytest.raises(cf.BrokenExecutor):
            while time.monotonic() < end:
                executor.submit(int)
        executor.shutdown()
    assert "Exception in initializer:" in caplog.text
    assert "not this one" in caplog.text


def test_cancel_futures(executor_type: Any) -> None:
    executor = executor_type(2)
    with occupied(executor, 2):
        futures = [executor.submit(int, i) for i in range(50)]
        executor.shutdown(wait=False, cancel_futures=True)
        assert all(future.cancelled() for future in futures)
    executor.shutdown()


def test_saturation(executor_type: Any) -> None:
    with executor_type(4) as executor:
        with occupied(executor, 4):
            for _ in range(60):
                executor.submit(int)
            assert executor._work_queue.qsize() == 60


def test_references_are_not_kept(executor_type: Any) -> None:
    class Thing:
        def method(self) -> None:
            pass

    with executor_type(1) as executor:
        thing = Thing()
        alive = weakref.ref(thing)
        future = executor.submit(thing.method)
        del thing
        future.result(LONG)
        wait_until(lambda: alive() is None, 10)


def test_shutdown_without_wait_runs_what_was_submitted(executor_type: Any) -> None:
    executor = executor_type(1)
    with occupied(executor):
        futures = [executor.submit(int, i) for i in range(20)]
        executor.shutdown(wait=False)
    assert [future.result(LONG) for future in futures] == list(range(20))


def test_exit_with_work_pending(executor_type: Any, run_scenario: RunScenario) -> None:
    module = executor_type.__module__.split(".")[0].replace("concurrent", "concurrent.futures")
    done = run_scenario(
        f"""
        from {module} import ThreadPoolExecutor
        import os, time

        def job(i):
            time.sleep(0.01)
            os.write(1, b"%d\\n" % i)

        executor = ThreadPoolExecutor(2)
        for i in range(20):
            executor.submit(job, i)
        """
    )
    assert sorted(map(int, done.stdout.split())) == list(range(20))


def test_submit_after_the_interpreters_shutdown(executor_type: Any, run_scenario: RunScenario) -> None:
    module = executor_type.__module__.split(".")[0].replace("concurrent", "concurrent.futures")
    done = run_scenario(
        f"""
        from {module} import ThreadPoolExecutor
        import atexit

        executor = ThreadPoolExecutor(1)

        @atexit.register
        def late():
            try:
                executor.submit(print, "never")
            except RuntimeError as error:
                print("refused:", error)

        executor.submit(print, "first").result()
        """
    )
    assert done.stdout.startswith("first\nrefused: cannot schedule new futures after ")


# ---- asyncio ----


def test_asyncio_default_executor() -> None:
    variable = contextvars.ContextVar("variable", default="unset")

    async def main(executor: wp.ThreadPoolExecutor) -> list[Any]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(executor)
        variable.set("set")
        in_default = await asyncio.gather(*(loop.run_in_executor(None, pow, 2, i) for i in range(50)))
        in_thread = await asyncio.to_thread(variable.get)
        return [in_default, in_thread]

    executor = wp.ThreadPoolExecutor(2)
    assert asyncio.run(main(executor)) == [[2**i for i in range(50)], "set"]
    assert executor._shutdown  # asyncio.run shuts its default executor down.


@BOTH
def test_asyncio_run_in_executor(make: Any, helpers: Helpers) -> None:
    sleep = helpers.native("sleep_ns", "int64_t (int64_t)")

    async def main(pool: Any) -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, sleep, 1000) == 1000
        assert await loop.run_in_executor(pool.lane("high"), pow, 2, 3) == 8
        with pytest.raises(ValueError, match="invalid literal"):
            await loop.run_in_executor(pool, int, "x")
        # Many at once, native and Python.
        many = [loop.run_in_executor(pool, *job) for _ in range(200) for job in ((sleep, 1), (int, 5))]
        assert await asyncio.gather(*many) == [1, 5] * 200
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.run_in_executor(pool, sleep, 100_000_000), 0.01)

    with make(2) as pool:
        asyncio.run(main(pool))


@BOTH
def test_asyncio_cancellation_reaches_the_future(make: Any) -> None:
    async def main(pool: Any) -> None:
        with occupied(pool):
            future = pool.submit(int)
            wrapped = asyncio.wrap_future(future)
            wrapped.cancel()
            with pytest.raises(asyncio.CancelledError):
                await wrapped
            await asyncio.sleep(0)  # The loop tells it in a callback.
            assert future.cancelled()

    with make(1) as pool:
        asyncio.run(main(pool))


# ---- Other libraries ----


def test_constructed_as_s3transfer_does() -> None:
    """It takes the class, calls it with max_workers by keyword, and shuts it down with wait by position."""

    class BoundedExecutor:
        EXECUTOR_CLS = wp.ThreadPoolExecutor

        def __init__(self, max_num_threads: int) -> None:
            self._executor = self.EXECUTOR_CLS(max_workers=max_num_threads)

        def submit(self, task: Any) -> Any:
            return self._executor.submit(task)

        def shutdown(self, wait: bool = True) -> None:
            self._executor.shutdown(wait)

    executor = BoundedExecutor(2)
    done: list[Any] = []
    future = executor.submit(lambda: 5)
    future.add_done_callback(done.append)
    assert future.result(LONG) == 5
    executor.shutdown()
    assert done == [future]


def test_subclasses() -> None:
    class Named(wp.ThreadPoolExecutor):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.submitted = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            self.submitted += 1
            return super().submit(fn, *args, **kwargs)

    with Named(2) as pool:
        assert pool.submit(int, 4).result(LONG) == 4
        assert pool.submitted == 1
        assert "Named" in repr(pool)


def test_subclass_that_forgets_the_constructor() -> None:
    class Forgetful(wp.WorkerPool):
        def __init__(self) -> None:
            pass

    pool = Forgetful()
    for act in (lambda: pool.submit(int), pool.shutdown, pool.stats, lambda: pool.map(int, [1]), pool.results):
        with pytest.raises(RuntimeError, match=r"__init__\(\) was not called"):
            act()


def test_all_of_it_is_there_in_the_drop_in_too(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with wp.ThreadPoolExecutor(2) as pool:
        assert pool.lane("high").submit(id_int, 3).result(LONG) == 3
        assert list(pool.map(id_int, range(2000))) == list(range(2000))
        with pool.results() as results:
            results.submit(id_int, 7)
            assert results.get(LONG).value == 7
        assert pool.stats().lanes["high"].done == 1
