"""results(): the jobs and results channels of a Go pool. Every job is reported once, and the bound holds."""

from __future__ import annotations

import ctypes
import gc
import inspect
import itertools
import textwrap
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import CancelledError
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, Helpers, NativeGate, occupied, wait_until


@pytest.fixture(params=["python", "native"])
def identity(request: pytest.FixtureRequest, helpers: Helpers) -> Any:
    return helpers.native("id_long", "long (long)") if request.param == "native" else int


def feed(results: wp.Results[Any], *jobs: Any) -> threading.Thread:
    """Submits jobs from a thread and closes the queue."""

    def run() -> None:
        with results:
            for fn, *args in jobs:
                results.submit(fn, *args)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_pattern_of_the_design(helpers: Helpers) -> None:
    sum_bytes = helpers.native("sum_bytes", "uint64_t (const void *, size_t)")
    chunks = [bytes([i]) * 10 for i in range(50)]
    seen = {}
    with wp.WorkerPool(max_workers=2, queue_size=1000) as pool, pool.results(maxsize=100) as results:
        for chunk in chunks:
            results.submit(sum_bytes, chunk, len(chunk))
        results.close()
        for r in results:
            assert r.ok
            seen[r.index] = r.value
    assert seen == {i: 10 * i for i in range(50)}


def test_ten_thousand_jobs_on_five_workers(identity: Any) -> None:
    calls: list[int] = []

    def counted(i: int) -> int:
        calls.append(i)
        return i

    function = counted if identity is int else identity
    with wp.WorkerPool(5, queue_size=100) as pool, pool.results(maxsize=200) as results:
        thread = feed(results, *((function, 3 * i) for i in range(10_000)))
        seen = [(r.index, r.unwrap(), r.worker) for r in results]
        thread.join(LONG)
    assert sorted((index, value) for index, value, _ in seen) == [(i, 3 * i) for i in range(10_000)]
    assert {worker for _, _, worker in seen} <= {0, 1, 2, 3, 4, None}
    if function is counted:
        assert sorted(calls) == [3 * i for i in range(10_000)]
    assert pool.stats().lanes["normal"].done == 10_000


def test_counter_in_c_says_each_job_ran_once(helpers: Helpers) -> None:
    total = ctypes.c_int64(0)
    add_to = helpers.native("add_to", "int64_t (int64_t *, int64_t)")
    with wp.WorkerPool(5) as pool, pool.results(None) as results:
        for _ in range(10_000):
            results.submit(add_to, ctypes.byref(total), 1)
        results.close()
        values = [r.value for r in results]
    assert total.value == 10_000
    assert sorted(values) == list(range(1, 10_001))


def test_attributes_of_a_result() -> None:
    def slow(x: int) -> int:
        time.sleep(0.02)
        return x

    with wp.WorkerPool(1) as pool:
        with pool.options(label="named", lane="high").results() as results:
            with occupied(pool):
                assert results.submit(slow, 7) == 0
                assert results.submit(int, "x") == 1
                time.sleep(0.02)
            first, second = results.get(), results.get()
        assert (first.index, first.value, first.error, first.ok) == (0, 7, None, True)
        assert (first.worker, first.label) == (0, "named")
        assert first.ran >= 0.018
        assert first.waited >= 0.018
        assert first.unwrap() == 7
        assert repr(first) == "<Result 0: 7>"
        assert (second.index, second.value, second.ok) == (1, None, False)
        assert isinstance(second.error, ValueError)
        assert repr(second).startswith("<Result 1: error ValueError(")
        for _ in range(2):
            with pytest.raises(ValueError, match="invalid literal"):
                second.unwrap()
        with pytest.raises(AttributeError):
            first.value = 1  # type: ignore[misc]
        with pytest.raises(TypeError):
            wp.Result()


def test_results_come_in_the_order_in_which_jobs_end() -> None:
    event = threading.Event()
    with wp.WorkerPool(2) as pool, pool.results() as results:
        results.submit(event.wait, LONG)
        results.submit(int, 1)
        assert results.get(LONG).index == 1
        event.set()
        assert results.get(LONG).index == 0


# ---- The bound ----


@pytest.mark.parametrize("maxsize", [1, 2, 7])
def test_back_pressure(identity: Any, maxsize: int) -> None:
    with wp.WorkerPool(2) as pool, pool.results(maxsize) as results:
        for _ in range(maxsize):
            results.submit(identity, 1)
        impatient = pool.options(submit_timeout=0.02).results(1)
        impatient.submit(identity, 1)
        with pytest.raises(wp.SubmitTimeout, match="is anybody reading it"):
            impatient.submit(identity, 1)
        submitted = threading.Event()
        thread = threading.Thread(target=lambda: (results.submit(identity, 2), submitted.set()))
        thread.start()
        assert not submitted.wait(0.05)
        for _ in range(maxsize):
            results.get(LONG)
        assert submitted.wait(LONG)
        thread.join(LONG)
        assert results.get(LONG).value == 2


def test_never_more_than_maxsize_between_submit_and_read(identity: Any) -> None:
    submitted = 0
    read = 0

    def run() -> None:
        nonlocal submitted
        with results:
            for i in range(2000):
                results.submit(identity, i)
                submitted += 1

    with wp.WorkerPool(3, queue_size=5) as pool:
        results = pool.results(10)
        thread = threading.Thread(target=run)
        thread.start()
        for _ in results:
            # One more, because the thread counts after its submit returned and this one before it reads the next.
            assert submitted - read <= 10 + 1
            read += 1
        thread.join(LONG)
    assert read == submitted == 2000


def test_unread_and_pending() -> None:
    with wp.WorkerPool(1) as pool, pool.results() as results:
        assert (results.unread, results.pending) == (0, 0)
        with occupied(pool):
            results.submit(int)
            results.submit(int)
            assert (results.unread, results.pending) == (0, 2)
        wait_until(lambda: results.unread == 2)
        assert results.pending == 0
        results.get()
        assert results.unread == 1


def test_policies_of_the_pool_hold() -> None:
    with wp.WorkerPool(1, queue_size=1) as pool, occupied(pool):
        for on_full, expected in (("caller_runs", [False, True]), ("discard", [False, True])):
            results = pool.options(on_full=on_full).results()
            results.submit(int, 1)
            results.submit(int, 2)
            first = results.get(LONG)
            assert first.index == 1
            if on_full == "discard":
                assert isinstance(first.error, CancelledError)
            else:
                assert (first.value, first.worker) == (2, None)
            assert (results.unread, results.pending) == (0, 1), expected
            break
    with wp.WorkerPool(1, queue_size=1) as pool, occupied(pool):
        results = pool.options(on_full="discard").results()
        results.submit(int, 1)
        results.submit(int, 2)
        assert isinstance(results.get(LONG).error, CancelledError)
    with wp.WorkerPool(1, queue_size=1) as pool, occupied(pool):
        results = pool.options(on_full="raise").results()
        results.submit(int, 1)
        with pytest.raises(wp.QueueFull):
            results.submit(int, 2)
        assert results.pending == 1
        small = pool.options(on_full="raise", lane="low").results(1)
        small.submit(int)
        with pytest.raises(wp.QueueFull, match="results queue is full"):
            small.submit(int)


def test_failed_submit_takes_no_place_and_no_number(helpers: Helpers) -> None:
    id_int = helpers.native("id_int", "int (int)")
    with wp.WorkerPool(1) as pool, pool.results(2) as results:
        for _ in range(5):
            with pytest.raises(OverflowError):
                results.submit(id_int, 2**40)
            with pytest.raises(TypeError):
                results.submit(5)  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                results.submit()  # type: ignore[call-arg]
        assert [results.submit(id_int, 1), results.submit(int)] == [0, 1]
        results.close()
        assert sorted(r.index for r in results) == [0, 1]


# ---- Closing and reading ----


def test_closing() -> None:
    with wp.WorkerPool(2) as pool:
        results = pool.results()
        results.submit(int, 1)
        results.close()
        results.close()
        with pytest.raises(RuntimeError, match="after its close"):
            results.submit(int)
        assert [r.value for r in results] == [1]
        assert list(results) == []
        with pytest.raises(EOFError, match="closed"):
            results.get()
        with pytest.raises(EOFError):
            results.get(timeout=0)
        empty = pool.results()
        empty.close()
        assert list(empty) == []


def test_close_ends_a_blocked_submit_and_a_blocked_reader() -> None:
    outcome: list[Any] = []

    def submit(results: wp.Results[Any]) -> None:
        try:
            results.submit(int)
        except RuntimeError as error:
            outcome.append(error)

    with wp.WorkerPool(1) as pool:
        results = pool.results(1)
        results.submit(int)
        thread = threading.Thread(target=submit, args=(results,))
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        results.close()
        thread.join(LONG)
        assert "after its close" in str(outcome[0])
        assert [r.value for r in results] == [0]

        waiting = pool.results()
        readers = [threading.Thread(target=lambda: outcome.append(list(waiting))) for _ in range(4)]
        for reader in readers:
            reader.start()
        readers[0].join(0.05)
        waiting.close()
        for reader in readers:
            reader.join(LONG)
        assert outcome[1:] == [[]] * 4


def test_get_with_a_time_limit() -> None:
    with wp.WorkerPool(1) as pool, pool.results() as results:
        for timeout in (0, 0.02, -1):
            begin = time.monotonic()
            with pytest.raises(TimeoutError, match="no result in time"):
                results.get(timeout)
            assert time.monotonic() - begin < LONG / 2
        with pytest.raises(TypeError):
            results.get("soon")  # type: ignore[arg-type]
        with occupied(pool):
            results.submit(int, 5)
            with pytest.raises(TimeoutError):
                results.get(timeout=0.01)
        assert results.get(timeout=LONG).value == 5


def test_several_readers_and_feeders_share_the_results(identity: Any) -> None:
    seen: Counter[int] = Counter()
    lock = threading.Lock()

    def read() -> None:
        for r in results:
            with lock:
                seen[r.index] += 1

    def submit() -> None:
        for i in range(1000):
            results.submit(identity, i)

    with wp.WorkerPool(2, queue_size=10) as pool:
        results = pool.results(20)
        readers = [threading.Thread(target=read) for _ in range(4)]
        feeders = [threading.Thread(target=submit) for _ in range(3)]
        for thread in readers + feeders:
            thread.start()
        for thread in feeders:
            thread.join(LONG)
        results.close()
        for thread in readers:
            thread.join(LONG)
    assert seen == Counter(range(3000))


# ---- Errors and cancellation are results like others ----


def test_every_outcome_is_reported(helpers: Helpers) -> None:
    fail = helpers.native("fail_with", "int (int, int)", raises="nonzero")
    poll = helpers.native("poll_job", "int (int64_t *, int64_t, wp_job *)")
    begun = ctypes.c_int64(0)
    token = wp.CancelToken()
    queues = []
    with wp.WorkerPool(1, queue_size=None) as pool:
        gate = NativeGate(helpers)
        gate.close_worker(pool)

        def one(view: Any, *job: Any) -> None:
            results = view.results()
            results.submit(*job)
            results.close()
            queues.append(results)

        one(pool, int, 1)
        one(pool, int, "x")
        one(pool, fail, 3, 0)
        one(pool.options(token=token), int)
        one(pool.options(queue_timeout=0.01), int)
        one(pool.options(run_timeout=0.02), poll, ctypes.byref(begun), LONG * 10**9)
        token.cancel()
        time.sleep(0.05)
        gate.open()
        outcomes = [[r.error if r.error is not None else r.value for r in results] for results in queues]
    assert [len(outcome) for outcome in outcomes] == [1] * 6
    kinds = [type(outcome[0]) for outcome in outcomes]
    assert kinds == [int, ValueError, wp.NativeError, CancelledError, wp.JobExpired, wp.JobTimeout]


def test_cancelled_at_shutdown_and_still_read() -> None:
    with wp.WorkerPool(1, queue_size=None) as pool:
        results = pool.results(None)
        with occupied(pool):
            for _ in range(100):
                results.submit(int)
            pool.shutdown(wait=False, cancel_futures=True)
        results.close()
        assert [type(r.error) for r in results] == [CancelledError] * 100


def test_submit_after_the_pools_shutdown() -> None:
    pool = wp.WorkerPool(1)
    results = pool.results(5)
    pool.shutdown()
    for _ in range(10):
        with pytest.raises(RuntimeError, match="after shutdown"):
            results.submit(int)
    results.close()
    assert list(results) == []


def test_token_ends_a_submit_that_waits_for_a_reader() -> None:
    token = wp.CancelToken()
    with wp.WorkerPool(1) as pool:
        results = pool.options(token=token).results(1)
        results.submit(int)
        timer = threading.Timer(0.05, token.cancel)
        timer.start()
        with pytest.raises(CancelledError):
            results.submit(int)
        timer.join()
        with pytest.raises(CancelledError):
            results.submit(int)


def test_submit_that_waits_for_a_reader_ends_at_shutdown(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import threading, workerpool as wp

        pool = wp.WorkerPool(1)
        results = pool.results(1)
        results.submit(int)
        threading.Timer(0.1, pool.shutdown).start()
        try:
            results.submit(int)
        except RuntimeError as error:
            print(error)
        """
    )
    assert "after shutdown" in done.stdout


# ---- On workers, and dropped ----


def test_read_on_a_worker_of_the_same_pool(run_scenario: RunScenario, helpers: Helpers) -> None:
    done = run_scenario(
        """
        import sys, workerpool as wp

        native = wp.native(sys.argv[1] + ":id_long", "long (long)")

        def job(pool, function, n):
            with pool.results(None) as results:
                for i in range(n):
                    results.submit(function, i)
                results.close()
                return sum(r.unwrap() for r in results)

        for queue_size in (1, 10, 1024):
            with wp.WorkerPool(1, queue_size=queue_size) as pool:
                for function in (int, native):
                    print(pool.submit(job, pool, function, 100).result(10), end=" ")
        """,
        args=[helpers.path],
    )
    assert done.stdout == "4950 " * 6


def test_results_dropped_with_jobs_under_way() -> None:
    class Thing:
        pass

    alive = []

    def make() -> Thing:
        thing = Thing()
        alive.append(weakref.ref(thing))
        return thing

    with wp.WorkerPool(2) as pool:
        results = pool.results()
        for _ in range(100):
            results.submit(make)
        results.get(LONG)
        del results
        pool.drain()
        gc.collect()
        assert len(alive) == 100  # They were accepted, so they ran.
        wait_until(lambda: not any(ref() for ref in alive))


def test_iteration_stops_at_an_error_of_the_reader_only() -> None:
    with wp.WorkerPool(2) as pool:
        results = pool.results()
        for i in range(10):
            results.submit(int, i)
        results.close()
        first = list(itertools.islice(results, 3))
        rest = list(results)
        assert sorted(r.index for r in first + rest) == list(range(10))


@pytest.mark.parametrize("maxsize", [0, -1, 1.5, "x"])
def test_maxsize_that_cannot_be(maxsize: Any) -> None:
    with wp.WorkerPool(1) as pool, pytest.raises((ValueError, TypeError), match="maxsize must be"):
        pool.results(maxsize)


def test_example_in_the_documentation() -> None:
    example = inspect.cleandoc(wp.Results.__doc__ or "").split("\n\nIteration ends")[0].split("\n\n", 1)[1]
    printed: list[tuple[int, Any]] = []
    with wp.WorkerPool(2) as pool:
        given = {"pool": pool, "paths": range(500), "load": abs, "threading": threading}
        exec(textwrap.dedent(example), given | {"print": lambda *line: printed.append(line)})
    assert sorted(printed) == [(i, i) for i in range(500)]
