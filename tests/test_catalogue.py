"""What bit the users of other pools. Each test is named after a failure, and says where it was seen.

Failures that a test elsewhere covers already are in the table of docs/reliability.md.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import contextlib
import contextvars
import gc
import random
import resource
import sys
import threading
import time
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, Helpers, NativeGate, occupied, wait_until

TASKS = Path("/proc/self/task")
needs_proc = pytest.mark.skipif(not TASKS.exists(), reason="there is no /proc")


# ---- Wake-ups ----


@pytest.mark.stress
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_wake_up_lost_between_the_last_look_and_sleep(helpers: Helpers, workers: int) -> None:
    """Seen in tokio #525 and #8056, enkiTS #13 and #91, pond #108 and #115, oneTBB #86 and #1684, glibc BZ 25847.

    Jobs come just when workers fall asleep. A lost wake-up leaves one waiting until the next comes, which never does.
    """
    spin = helpers.native("spin_ns", "int64_t (int64_t)")
    rng = random.Random(1)
    with wp.WorkerPool(workers) as pool:
        for _ in range(1500):
            futures = [pool.submit(spin, rng.randrange(3000)) for _ in range(rng.randrange(1, 4))]
            end = time.perf_counter_ns() + rng.randrange(100_000)
            while time.perf_counter_ns() < end:
                pass
            for future in futures:
                assert future.exception(LONG) is None  # A wait with a limit takes nothing back.


def test_wake_up_given_to_a_waiter_that_has_gone(helpers: Helpers) -> None:
    """Seen in tensorflow #932 and nng's wake1: the one that is woken has timed out, and the others sleep on."""
    gate = NativeGate(helpers)
    got_in = []
    with wp.WorkerPool(1, queue_size=1) as pool:
        gate.close_worker(pool)
        waiting = pool.submit(int)

        def submit(limit: float) -> None:
            with contextlib.suppress(wp.SubmitTimeout):
                got_in.append(pool.options(submit_timeout=limit).submit(int, 1))

        threads = [threading.Thread(target=submit, args=(limit,)) for limit in [0.1] * 5 + [LONG]]
        for thread in threads:
            thread.start()
        time.sleep(0.1)  # The first five give up now, or have just been woken.
        assert waiting.cancel()
        for thread in threads[5:]:
            # One of the five may have come first; then its job is what has to go.
            while thread.is_alive():
                for future in got_in:
                    future.cancel()
                thread.join(0.01)
        for thread in threads[:5]:
            thread.join(LONG)
        gate.open()
    assert got_in


@pytest.mark.stress
def test_stop_not_seen_by_a_worker_about_to_sleep(helpers: Helpers) -> None:
    """Seen in ScrollPrize/villa #1688 (jthread::request_stop outside of the queue's mutex: 2 hangs in 300 runs)."""
    identity = helpers.native("id_long", "long (long)")
    for i in range(500):
        pool = wp.WorkerPool(3)
        futures = [pool.submit(identity, n) for n in range(i % 5)]
        pool.shutdown(timeout=LONG)
        assert all(future.done() for future in futures)


@pytest.mark.stress
def test_second_submit_while_the_first_worker_starts() -> None:
    """Seen in cpython PR 133957: a second job in the window of the hand-over starts no second worker."""
    for _ in range(200):
        with wp.WorkerPool(2) as pool:
            event = threading.Event()
            first = pool.submit(event.wait, LONG)
            pool.submit(event.set)
            assert first.result(LONG)


@needs_proc
@pytest.mark.thread_unsafe(reason="looks at all threads of the process")
def test_idle_workers_burn_processor_time(run_scenario: RunScenario) -> None:
    """Seen in aether #1517 (650 % for five days), libuv #5232, rayon #642, Taskflow #244, cpython #83738."""
    done = run_scenario(
        """
        import threading, time, workerpool as wp

        pool = wp.WorkerPool(16, idle_timeout=None)
        barrier = threading.Barrier(16)
        for _ in range(16):
            pool.submit(barrier.wait)
        pool.options(queue_timeout=1000, token=wp.CancelToken(timeout=1000)).submit(int).result()
        pool.drain()
        time.sleep(0.2)
        before = time.process_time()
        time.sleep(1)
        print(time.process_time() - before)
        """
    )
    assert float(done.stdout) < 0.02


@needs_proc
@pytest.mark.thread_unsafe(reason="looks at all threads of the process")
def test_one_job_wakes_the_whole_herd(helpers: Helpers) -> None:
    """Seen in libuv #5236, rayon #390, onnxruntime #6725, crossbeam #821."""
    identity = helpers.native("id_long", "long (long)")

    def wake_ups() -> int:
        lines = [line for task in TASKS.iterdir() for line in (task / "status").read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))

    with wp.WorkerPool(16) as pool:
        barrier = threading.Barrier(16)
        list(pool.map(lambda _: barrier.wait(LONG), range(16), chunksize=1))
        pool.drain()
        time.sleep(0.2)
        before = wake_ups()
        for i in range(200):
            assert pool.submit(identity, i).result(LONG) == i
            time.sleep(0.001)
        # Two for the sleeps of this thread and its wait, two for the worker, and one worker more now and then.
        assert wake_ups() - before < 200 * 8


# ---- Waiting for each other ----


def test_waiting_job_runs_a_strangers_job_that_needs_its_lock() -> None:
    """Seen in rayon (aptos-core #19639, movement #422, jwalk #967): a thread that waits steals what needs its lock."""
    lock = threading.Lock()
    with wp.WorkerPool(1, lanes=("high", "normal")) as pool:

        def stranger() -> str:
            with lock:
                return "stranger"

        def inner() -> str:
            return "inner"

        def outer() -> tuple[str, wp.Future[str]]:
            with lock:
                later = pool.lane("high").submit(stranger)
                return pool.submit(inner).result(), later

        value, later = pool.submit(outer).result(LONG)
        assert (value, later.result(LONG)) == ("inner", "stranger")


def test_caller_runs_only_where_the_queue_is_full() -> None:
    """Seen in arcadedb #6739: a worker that waits for its own job in a queue with a thousand free places is parked."""
    with wp.WorkerPool(1, queue_size=1000, on_full="caller_runs") as pool:
        assert pool.submit(lambda: pool.submit(int, 7).result()).result(LONG) == 7


def test_all_workers_are_in_jobs_that_map_on_the_same_pool() -> None:
    """Seen in ants #197, pond #56, BS::thread_pool #95 and #142, OpenImageIO #1556, TileDB #1757, polars #27600."""
    with wp.WorkerPool(2, queue_size=1) as pool:
        sums = pool.map(lambda n: sum(pool.map(int, range(n))), range(20))
        assert list(sums) == [sum(range(n)) for n in range(20)]


# ---- Ends ----


def test_work_that_came_during_a_drain_is_lost() -> None:
    """Seen in simplesurance/baur PR 334: what was queued while the pool waited was dropped."""
    ran = []
    with wp.WorkerPool(1) as pool:
        leave = threading.Event()
        pool.submit(leave.wait, LONG)
        drained: list[bool] = []
        thread = threading.Thread(target=lambda: drained.append(pool.drain()))
        thread.start()
        futures = [pool.submit(ran.append, i) for i in range(100)]
        leave.set()
        futures += [pool.submit(ran.append, i) for i in range(100, 200)]
        thread.join(LONG)
        assert drained == [True]
    assert ran == list(range(200))


def test_program_that_ends_at_once_hangs(run_scenario: RunScenario) -> None:
    """Seen in fplll #399: the end came while the threads were still starting."""
    done = run_scenario(
        """
        import os, subprocess, sys
        code = "import workerpool as wp; pool = wp.WorkerPool(4); [pool.submit(int) for _ in range({})]"
        for jobs in (0, 1, 2, 5, 20) * 3:
            subprocess.run([sys.executable, "-c", code.format(jobs)], check=True)
        """,
        timeout=50,
    )
    assert done.stderr == ""


def test_shutdown_and_the_last_submit_race_to_a_lost_job() -> None:
    """Seen in ants #202, pond #49, #61, #135 and #138, Pithikos #135: accepted, and never run nor cancelled."""
    for i in range(100):
        pool = wp.WorkerPool(2)
        accepted: list[wp.Future[int]] = []

        def feed(pool: Any = pool, accepted: Any = accepted) -> None:
            try:
                while True:
                    accepted.append(pool.submit(int))
            except RuntimeError:
                pass

        thread = threading.Thread(target=feed)
        thread.start()
        wait_until(lambda accepted=accepted: accepted)  # type: ignore[misc]
        pool.shutdown(cancel_futures=i % 2 == 0)
        thread.join(LONG)
        assert all(future.done() for future in accepted)
        ends = Counter(future.cancelled() for future in accepted)
        lane = pool.stats().lanes["normal"]
        assert (lane.submitted, lane.done, lane.cancelled) == (len(accepted), ends[False], ends[True])


def test_with_block_that_raises_waits_for_what_was_cancelled() -> None:
    """Seen in dvc #7602 and cpython PR 13250: after an error everything that waits is still done. A token ends it."""
    ran = []
    token = wp.CancelToken()
    with pytest.raises(ValueError, match="stop"), wp.WorkerPool(1) as pool:
        with occupied(pool) as leave:
            for i in range(50):
                pool.options(token=token).submit(ran.append, i)
            token.cancel()
            leave.set()
            raise ValueError("stop")
    assert ran == []


# ---- Threads that cannot be had ----


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_failed_thread_start_leaves_a_latch_set(run_scenario: RunScenario) -> None:
    """Seen in bun #37738, tokio #8406 and #2309, glib 3bee5d4, folly b1d39386b: after one failure none is started."""
    done = run_scenario(
        """
        import resource, workerpool as wp

        def limit(more):
            with open("/proc/self/statm") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            unlimited = resource.RLIM_INFINITY
            resource.setrlimit(resource.RLIMIT_AS, (size + more if more else unlimited, unlimited))

        pool = wp.WorkerPool(2, stack_size=1 << 30)
        limit(64 << 20)
        failed = 0
        for _ in range(5):
            try:
                pool.submit(int, 1)
            except (MemoryError, OSError, RuntimeError) as error:
                failed += 1
        stats = pool.stats()
        limit(0)
        print(failed, stats.workers, stats.unfinished)
        print([f.result(10) for f in [pool.submit(int, i) for i in range(5)]])
        pool.shutdown()
        """
    )
    assert done.stdout == "5 0 0\n[0, 1, 2, 3, 4]\n"


@needs_proc
@pytest.mark.thread_unsafe(reason="looks at all threads of the process")
def test_pools_without_work_have_threads() -> None:
    """Seen in nng #1202 and #1572, libdispatch (swift #39742): a thread for each object that might need one."""
    before = set(TASKS.iterdir())
    pools = [wp.WorkerPool(8, idle_timeout=1.0) for _ in range(200)]
    assert set(TASKS.iterdir()) <= before  # One of an earlier test may end meanwhile.
    for pool in pools:
        pool.shutdown()


@needs_proc
@pytest.mark.thread_unsafe(reason="looks at all threads of the process")
def test_threads_never_leave() -> None:
    """Seen in truenas/middleware #3275 and mitogen #216: the peak of last night is kept for ever."""
    before = set(TASKS.iterdir())
    with wp.WorkerPool(8, idle_timeout=0.01) as pool:
        barrier = threading.Barrier(8)
        list(pool.map(lambda _: barrier.wait(LONG), range(8), chunksize=1))
        wait_until(lambda: set(TASKS.iterdir()) <= before)


# ---- Accounting ----


def test_counters_underflow_and_drift() -> None:
    """Seen in pond #12 (a counter below 0), tokio #7910 and #7918, marl #261, ants #376."""
    with wp.WorkerPool(2, queue_size=50, on_full="raise") as pool:
        seen = []
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                stats = pool.stats()
                seen.append((stats.unfinished, stats.busy, stats.workers, stats.lanes["normal"].waiting))

        thread = threading.Thread(target=look)
        thread.start()
        for i in range(3000):
            try:
                future = pool.options(queue_timeout=0.001 if i % 3 else None).submit(int)
            except wp.QueueFull:
                continue
            if i % 2:
                future.cancel()
        stop.set()
        thread.join(LONG)
    assert all(0 <= number <= 3000 for row in seen for number in row)
    # What a worker has claimed, at most 32 jobs, waits as well until it begins, and has made room for others.
    assert all(waiting <= 50 + 2 * 32 and workers <= 2 for _, _, workers, waiting in seen)
    assert pool.stats().unfinished == 0


# ---- What is kept ----


def test_worker_keeps_its_last_job_alive_while_it_is_idle(helpers: Helpers) -> None:
    """Seen in pond #110, ants #113, cpython #80111 and #131701, pythonfutures #16, more-executors #344, anyio #887."""

    class Thing:
        def work(self) -> None:
            pass

    with wp.WorkerPool(1) as pool:
        thing = Thing()
        alive = weakref.ref(thing)
        pool.submit(thing.work).result(LONG)
        del thing
        wait_until(lambda: gc.collect() is not None and alive() is None)
        buffer = bytearray(8)
        pool.submit(helpers.native("count_calls", "unsigned long long (unsigned char *)"), buffer).result(LONG)
        wait_until(lambda: resizable(buffer))


def resizable(buffer: bytearray) -> bool:
    try:
        buffer.append(0)
    except BufferError:
        return False
    return True


def test_memory_of_a_burst_is_never_given_back() -> None:
    """Seen in moodycamel's queue, gammazero #73, clickhouse_sinker #73, tokio #8470: memory stays at its peak."""

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with wp.WorkerPool(1, queue_size=None) as pool:
        for burst in range(6):
            with occupied(pool):
                futures = [pool.submit(int) for _ in range(20_000)]
            del futures
            pool.drain()
            if burst == 1:
                before = peak()
        # Where the first bursts' memory was not used again, each of the others would add about 5 MB.
        assert peak() - before < 10_000 * (1 if sys.platform == "linux" else 1024)


# ---- Futures ----


@pytest.mark.parametrize("wait", ["wait", "as_completed", "asyncio"])
def test_cancelled_future_is_never_reported_to_who_waits(wait: str) -> None:
    """Seen in cpython #109934, #87893, #92001 and #136655, bbot #402."""
    with wp.WorkerPool(1) as pool, occupied(pool):
        future = pool.submit(int)
        timer = threading.Timer(0.05, future.cancel)
        timer.start()
        if wait == "wait":
            assert cf.wait([future], LONG).done == {future}
        elif wait == "as_completed":
            assert list(cf.as_completed([future], LONG)) == [future]
        else:

            async def main() -> None:
                with pytest.raises(asyncio.CancelledError):
                    await asyncio.wait_for(asyncio.wrap_future(future), LONG)

            asyncio.run(main())
        timer.join()


def test_cancelled_at_shutdown_is_never_reported_to_who_waits() -> None:
    """Seen in cpython #94440 and #109934: shutdown(cancel_futures=True) while as_completed waits."""
    with wp.WorkerPool(1) as pool:
        with occupied(pool) as leave:
            futures = [pool.submit(int) for _ in range(10)]
            thread = threading.Thread(target=lambda: pool.shutdown(cancel_futures=True))
            threading.Timer(0.05, thread.start).start()
            assert all(future.cancelled() for future in cf.as_completed(futures, LONG))
            leave.set()
        thread.join(LONG)


def test_timed_out_map_does_not_cancel_the_call_that_is_waited_for() -> None:
    """Seen in cpython #95166: all calls but the one that the consumer waited for were cancelled."""
    ran = []
    with wp.WorkerPool(1) as pool, occupied(pool):
        iterator = pool.map(ran.append, range(10), timeout=0.05)
        with pytest.raises(TimeoutError):
            next(iterator)
    assert ran == []


def test_buffersize_is_exceeded_by_one() -> None:
    """Seen in cpython #131466, and the reason for it in #74028 and fastai #262: map takes all its input at once."""
    taken = 0

    def source() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with wp.WorkerPool(2) as pool:
        iterator = pool.map(int, source(), buffersize=5)
        most = taken
        for yielded in range(1, 50):
            next(iterator)
            most = max(most, taken - yielded)
        iterator.close()
    assert most <= 5


# ---- Around the job ----


def test_context_is_copied_in_the_worker_instead_of_at_submit() -> None:
    """Seen in bengal #159, cpython #78195, sentry #111451, langchain #15329, temporalio/sdk-python #263."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            token = variable.set("at submit")
            future = pool.submit(variable.get)
            mapped = pool.map(lambda _: variable.get(), range(3))
            variable.reset(token)
        assert future.result(LONG) == "at submit"
        assert list(mapped) == ["at submit"] * 3
        pool.submit(variable.set, "left behind").result(LONG)
        assert pool.submit(variable.get).result(LONG) == "default"


def test_slow_jobs_of_one_kind_starve_the_others() -> None:
    """Seen in node #8436, libuv #28 and #660 (file reads behind name look-ups), threadly #132, kcenon #380."""
    lanes = (wp.Lane("high"), wp.Lane("normal"), wp.Lane("low", max_running=1))
    with wp.WorkerPool(2, lanes=lanes) as pool:
        with occupied(pool.lane("low")):
            slow = [pool.lane("low").submit(int) for _ in range(10)]
            assert [pool.submit(int, i).result(LONG) for i in range(100)] == list(range(100))
            assert not any(future.done() for future in slow)


def test_private_attributes_that_libraries_read_are_missing() -> None:
    """Seen in hermes-agent #58596, quamash #102, opentelemetry #3329, s3transfer: they read these of the original."""
    with wp.ThreadPoolExecutor(2, thread_name_prefix="reader") as executor:
        executor.submit(int).result(LONG)
        assert executor._max_workers == 2
        assert executor._work_queue.qsize() == 0
        assert executor._thread_name_prefix == "reader"
        assert len(executor._threads) in {1, 2}
        assert not executor._shutdown
        assert not executor._broken


def test_fork_in_a_program_with_idle_pools_hangs(run_scenario: RunScenario) -> None:
    """Seen in OpenBLAS #240, #2876 and #5520, numba #7872, libuv #1269, pytorch #57273, cpython #90622 and #105464."""
    done = run_scenario(
        """
        import os, warnings, workerpool as wp

        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        pools = [wp.WorkerPool(3) for _ in range(5)]
        for pool in pools:
            pool.submit(int).result()
            pool.drain()
        for _ in range(50):
            pid = os.fork()
            if pid == 0:
                os._exit(sum(pool.submit(int, 1).result() for pool in pools))
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), end="")
        """
    )
    assert done.stdout == "5" * 50


def test_sleeper_takes_no_signal_meant_for_the_program(run_scenario: RunScenario) -> None:
    """Seen in nginx and libuv #4443: a signal that a worker thread takes does not wake the main thread."""
    done = run_scenario(
        """
        import os, signal, time, workerpool as wp

        pool = wp.WorkerPool(4)
        list(pool.map(time.sleep, [0.01] * 8))
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        for i in range(50):
            os.kill(os.getpid(), signal.SIGUSR1)
            assert len(seen) == i + 1
        """
    )
    assert done.stderr == ""
