"""Jobs in C that know they are jobs: what they say about themselves, and the children that they have."""

from __future__ import annotations

import array
import ctypes
import gc
import sys
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, Helpers, occupied, wait_until

ERROR, STOPPED = 10, 4  # Of enum wp_result.


@pytest.fixture
def fail_saying(helpers: Helpers) -> wp.NativeFunction:
    return helpers.native("fail_saying", "int (const char *, int, wp_job *)", raises="nonzero")


# ---- Progress ----


def test_progress_of_a_running_job(helpers: Helpers) -> None:
    report_at = helpers.native("report_at", "int (int64_t *, uint64_t, uint64_t, wp_job *)")
    gate = (ctypes.c_int64 * 2)()
    with wp.WorkerPool(1) as pool:
        future = pool.submit(report_at, gate, 1, 4)
        waiting = pool.submit(report_at, gate, 1, 4)
        wait_until(lambda: gate[0] == 1)
        assert future.progress == 0.25
        assert waiting.progress is None
        gate[1] = 1
        assert future.result(LONG) == 0
        assert future.progress == 1.0
    assert future.progress == 1.0, "also when the pool is gone"


@pytest.mark.parametrize(
    ("said", "noted"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (-1.0, 0.0), (7.0, 1.0), (float("nan"), None)]
)
def test_progress_is_a_fraction(helpers: Helpers, said: float, noted: float | None) -> None:
    report_only = helpers.native("report_only", "double (double, wp_job *)")
    with wp.WorkerPool(1) as pool:
        future = pool.submit(report_only, said)
        future.result(LONG)
        assert future.progress == noted


def test_no_progress_without_a_word(helpers: Helpers) -> None:
    add = helpers.native("sum_doubles", "double (double, double, double, double)")
    with wp.WorkerPool(1) as pool:
        for future in [pool.submit(add, 1, 2, 3, 4), pool.submit(abs, -1), wp.Future()]:
            assert future.progress is None
        with pytest.raises(AttributeError):
            future.progress = 1.0  # type: ignore[misc]


# ---- Failing with a message ----


def test_message_becomes_the_exception(fail_saying: wp.NativeFunction) -> None:
    with wp.WorkerPool(1) as pool:
        assert pool.submit(fail_saying, b"unused", 0).result(LONG) == 0
        future = pool.submit(fail_saying, b"the header is too short", 5)
        with pytest.raises(wp.NativeError, match=r"^the header is too short$") as caught:
            future.result(LONG)
        assert (caught.value.code, caught.value.errno, caught.value.function) == (5, 5, "fail_saying")
        assert str(future.exception()) == "the header is too short"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("Größe: ½ \N{SNOWMAN}".encode(), "Größe: ½ \N{SNOWMAN}"),
        (b"caf\xe9", "caf\N{REPLACEMENT CHARACTER}"),
        (b"", ""),
        (None, "failed, without a message"),
        (b"long " * 20_000, "long " * 20_000),
    ],
)
def test_message_is_text(fail_saying: wp.NativeFunction, message: bytes | None, text: str) -> None:
    with wp.WorkerPool(1) as pool:
        error = pool.submit(fail_saying, message, 1).exception(LONG)
    assert str(error) == text


def test_message_fails_whatever_is_returned(helpers: Helpers) -> None:
    silent = helpers.native("fail_saying", "int (const char *, int, wp_job *)")  # Its results are no errors.
    nothing = helpers.native("fail_without_result", "void (const char *, wp_job *)")
    with wp.WorkerPool(1) as pool:
        error = pool.submit(silent, b"in words", 7).exception(LONG)
        assert isinstance(error, wp.NativeError)
        assert (str(error), error.code, error.errno) == ("in words", 7, 0)
        error = pool.submit(nothing, b"no result").exception(LONG)
        assert isinstance(error, wp.NativeError)
        assert (str(error), error.code) == ("no result", None)
        stats = pool.stats().lanes["normal"]
        assert (stats.failed, stats.done) == (2, 0)


def test_message_by_every_way_to_a_result(fail_saying: wp.NativeFunction) -> None:
    codes = [0, 1] * 20
    with wp.WorkerPool(2) as pool:
        with pool.results() as results:
            for code in codes:
                results.submit(fail_saying, b"by results", code)
            results.close()
            assert sorted(str(result.error) for result in results) == ["None"] * 20 + ["by results"] * 20
        for in_order in (True, False):
            assert list(pool.map(fail_saying, [b"unused"] * 40, [0] * 40, in_order=in_order)) == [0] * 40
            with pytest.raises(wp.NativeError, match=r"^by map$"):
                list(pool.map(fail_saying, [b"by map"] * 40, codes, in_order=in_order))
        told: list[str] = []
        pool.submit(fail_saying, b"by callback", 1).add_done_callback(lambda ended: told.append(str(ended.exception())))
        wait_until(lambda: told == ["by callback"])


def test_message_of_a_direct_call(helpers: Helpers, fail_saying: wp.NativeFunction) -> None:
    assert fail_saying(b"unused", 0) == 0
    with pytest.raises(wp.NativeError, match=r"^said directly$") as caught:
        fail_saying(b"said directly", 3)
    assert caught.value.code == 3
    assert helpers.native("report_only", "double (double, wp_job *)")(0.5) == 0.5


def test_message_wins_over_a_stop_and_a_time_limit_over_both(helpers: Helpers) -> None:
    function = helpers.native("fail_when_stopped", "int (int64_t *, wp_job *)", raises="negative")
    begun = ctypes.c_int64(0)
    with wp.WorkerPool(1) as pool:
        future = pool.submit(function, ctypes.byref(begun))
        wait_until(lambda: begun.value == 1)
        assert future.request_cancel()
        with pytest.raises(wp.NativeError, match=r"^stopped half-way$"):
            future.result(LONG)
        with pytest.raises(wp.JobTimeout):
            pool.options(run_timeout=0.02).submit(function, ctypes.byref(begun)).result(LONG)


def test_notes_go_with_their_job(fail_saying: wp.NativeFunction) -> None:
    """A megabyte a job: if notes were kept, this would need two gigabytes."""
    resource = pytest.importorskip("resource")
    message = b"x" * 1_000_000
    with wp.WorkerPool(2) as pool:
        for _ in range(2000):
            assert len(str(pool.submit(fail_saying, message, 1).exception(LONG))) == 1_000_000
    gc.collect()
    unit = 1 if sys.platform == "darwin" else 1024
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit < 1_500_000_000


# ---- Children ----


def test_children_on_one_worker(run_scenario: RunScenario, helpers: Helpers) -> None:
    code = f"""
import workerpool as wp
sum_by_children = wp.native({helpers.path + ":sum_by_children"!r}, "int64_t (int64_t, wp_job *)", raises="negative")
for workers in (1, 2, 3):
    with wp.WorkerPool(workers, queue_size=2) as pool:
        assert pool.submit(sum_by_children, 500).result() == 500 * 499 // 2
        futures = [pool.submit(sum_by_children, 50) for _ in range(20)]
        assert [future.result() for future in futures] == [1225] * 20
        assert list(pool.map(sum_by_children, [10] * 50)) == [45] * 50
    with wp.WorkerPool(workers, lanes=[wp.Lane("one", max_running=1)]) as pool:
        assert pool.submit(sum_by_children, 100).result() == 4950
assert sum_by_children(100) == 4950, "called directly it has no children, and does it all"
"""
    run_scenario(code, timeout=40)


def test_children_when_the_pool_is_shut_down(helpers: Helpers) -> None:
    function = helpers.native("sum_by_children", "int64_t (int64_t, wp_job *)", raises="negative")
    for _ in range(20):
        pool = wp.WorkerPool(2)
        futures = [pool.submit(function, 100) for _ in range(10)]
        pool.shutdown()
        assert [future.result(LONG) for future in futures] == [4950] * 10


@pytest.mark.parametrize("how", ["request_cancel", "token", "run_timeout"])
def test_a_stop_reaches_the_child(helpers: Helpers, how: str) -> None:
    function = helpers.native("child_that_is_stopped", "int (int64_t *, wp_job *)")
    begun = ctypes.c_int64(0)
    token = wp.CancelToken()
    with wp.WorkerPool(2) as pool:
        options: dict[str, Any] = {"token": {"token": token}, "run_timeout": {"run_timeout": 0.05}}.get(how, {})
        future = pool.options(**options).submit(function, ctypes.byref(begun))
        wait_until(lambda: begun.value == 1)
        if how == "request_cancel":
            assert future.request_cancel()
        elif how == "token":
            assert token.cancel()
        else:
            with pytest.raises(wp.JobTimeout):
                future.result(LONG)
            return
        with pytest.raises(wp.NativeError, match=r"^stopped half-way$"):
            future.result(LONG)
        stats = pool.stats().lanes["normal"]
        assert stats.failed == 2, "the child and its parent"


@pytest.mark.parametrize(
    "how", ["request_cancel", "token", "run_timeout", "map is closed", "token of a map", "results"]
)
def test_no_child_after_the_stop(helpers: Helpers, how: str) -> None:
    function = helpers.native("child_after_the_stop", "int (int64_t *, wp_job *)")
    notes = (ctypes.c_int64 * 3)()
    begun = lambda: notes[0] == 1  # noqa: E731
    token = wp.CancelToken()
    kept: Any = None
    with wp.WorkerPool(2) as pool:
        view = pool.options(token=token)
        if how == "request_cancel":
            future = pool.submit(function, notes)
            wait_until(begun)
            future.request_cancel()
        elif how == "run_timeout":
            pool.options(run_timeout=0.05).submit(function, notes)
        elif how == "map is closed":
            results = pool.map(function, [notes])
            wait_until(begun)
            results.close()
        else:
            if how == "token":
                view.submit(function, notes)
            elif how == "token of a map":
                kept = view.map(function, [notes], buffersize=1)
            else:
                view.results().submit(function, notes)
            wait_until(begun)
            token.cancel()
        wait_until(lambda: notes[1] != 0)
        assert notes[1] == 1 + 4, "WP_STOPPED"
        assert pool.drain(LONG)
        del kept
    assert notes[2] == 0, "the child did not run"


def test_children_in_other_lanes(helpers: Helpers) -> None:
    function = helpers.native("children_in_lanes", "int (int64_t *, int, wp_job *)")
    count = (ctypes.c_int64 * 4)()
    with wp.WorkerPool(1, queue_size=1) as pool:
        assert pool.submit(function, count, 4).result(LONG) == 3, "there is no fourth lane"
        assert pool.drain(LONG)
        assert list(count) == [1, 1, 1, 0]
        assert [lane.submitted for lane in pool.stats().lanes.values()] == [1, 2, 1]
    assert function(count, 4) == 0, "called directly it has no pool"


def test_children_of_a_cancelled_pool(helpers: Helpers) -> None:
    function = helpers.native("children_in_lanes", "int (int64_t *, int, wp_job *)")
    count = (ctypes.c_int64 * 3)()
    pool = wp.WorkerPool(2)
    with occupied(pool):
        assert pool.submit(function, count, 3).result(LONG) == 3
        pool.shutdown(wait=False, cancel_futures=True)
    pool.shutdown()
    assert sum(count) <= 3
    stats = list(pool.stats().lanes.values())
    assert sum(lane.submitted for lane in stats) == sum(lane.done + lane.cancelled for lane in stats) == 5


# ---- Parallel ranges ----


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("grain", [0, 1, 100])
def test_parallel_range_of_a_job(helpers: Helpers, workers: int, grain: int) -> None:
    fill = helpers.native("fill_in_parallel", "int (double *, size_t, size_t, size_t, wp_job *)")
    n = 3000
    expected = array.array("d", range(n))
    with wp.WorkerPool(workers, queue_size=1) as pool:
        for _ in range(10):
            numbers = array.array("d", bytes(8 * n))
            assert pool.submit(fill, numbers, n, grain, 2**63).result(LONG) == 0
            assert numbers == expected
        assert pool.submit(fill, numbers, n, grain, 1500).result(LONG) == ERROR
    numbers = array.array("d", bytes(8 * n))
    assert fill(numbers, n, grain, 2**63) == 0
    assert numbers == expected


def test_parallel_ranges_of_many_jobs(helpers: Helpers) -> None:
    fill = helpers.native("fill_in_parallel", "int (double *, size_t, size_t, size_t, wp_job *)")
    expected = array.array("d", range(200))
    arrays = [array.array("d", bytes(1600)) for _ in range(100)]
    with wp.WorkerPool(2) as pool:
        futures = [pool.submit(fill, numbers, 200, 1, 2**63) for numbers in arrays]
        assert {future.result(LONG) for future in futures} == {0}
    assert all(numbers == expected for numbers in arrays)


def test_messages_from_many_threads_at_once(fail_saying: wp.NativeFunction) -> None:
    """Each job's message is its own."""
    with wp.WorkerPool(3) as pool:
        wrong: list[str] = []

        def use(number: int) -> None:
            for i in range(100):
                text = f"thread {number}, job {i}"
                found = str(pool.submit(fail_saying, text.encode(), 1).exception(LONG))
                if found != text:
                    wrong.append(found)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert wrong == []


def test_a_job_without_notes_says_nothing(helpers: Helpers) -> None:
    """A function that fails by its result, without a message, has the text that it always had."""
    poll = helpers.native("should_stop_now", "int (wp_job *, int)", raises="nonzero")
    with wp.WorkerPool(1) as pool:
        with pytest.raises(wp.NativeError, match=r"^should_stop_now\(\) returned 9$"):
            pool.submit(poll, 9).result(LONG)
        future = pool.submit(poll, 0)
        assert future.result(LONG) == 0
        with pytest.raises(CancelledError), occupied(pool):
            future = pool.submit(poll, 0)
            assert future.cancel()
            future.result(LONG)


# ---- Loops over arrays ----


def test_a_loop_tells_about_itself(helpers: Helpers) -> None:
    tell = helpers.native("tell_range", "int (size_t, size_t, const void *, wp_job *)")
    with wp.WorkerPool(1) as pool:
        future = pool.submit_array(tell, range(100), (ctypes.c_int64 * 3)(100, -1, 0), grain=10)
        future.result(LONG)
        assert future.progress == 1.0
        for run in (pool.map_array, lambda *args, **kwargs: pool.submit_array(*args, **kwargs).result(LONG)):
            with pytest.raises(wp.NativeError, match=r"^there is a gap for elements 50:60$") as caught:
                run(tell, range(100), (ctypes.c_int64 * 3)(100, 55, 1), grain=10)
            assert caught.value.elements == range(50, 60)
            # Returning as if nothing had happened does not help; only where it was is not known then.
            with pytest.raises(wp.NativeError, match=r"^there is a gap$"):
                run(tell, range(100), (ctypes.c_int64 * 3)(100, 55, 0), grain=10)
