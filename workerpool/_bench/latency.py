"""How soon a job begins or ends: an urgent one among very many, and single ones that come now and then."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from .. import WorkerPool
from .bench import OURS, TPE, Bench, Catalogue, Figures
from .functions import Function, add_one, bessel, bessel_arguments, double_function, libm

US, MS = 1e3, 1e6
BULK_US = 20
LATE_US = 100  # How much more than a bulk job's time an urgent one may wait.


def add_cases(catalogue: Catalogue) -> None:
    case = catalogue.case
    case(
        "urgent",
        "an urgent job among 100,000 bulk jobs: from its submission to its beginning",
        jobs=100_000,
        quick_jobs=4000,
        figure="p99_us",
    )(urgent)
    case("sparse", "one job every 1 ms and every 10 ms, and nothing between", jobs=0, quick_jobs=0, figure="p50_us")(
        sparse
    )


def percentile(values: Sequence[float], part: float) -> float:
    """Return the value that `part` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


# ---- Urgent ----


def urgent(bench: Bench) -> None:
    """The urgent job is C and writes down when it begins; the bulk is C or Python."""
    jn, arguments = bessel(), bessel_arguments(BULK_US * US)
    loops = _loops_for(BULK_US * US)
    bulks: tuple[tuple[str, tuple[Any, ...], tuple[Any, ...]], ...] = (
        ("C", (jn.native, *arguments), (jn.plain, *arguments)),
        ("Python", (count_to, loops), (count_to, loops)),
    )
    for language, job, plain in bulks:
        name = f"{OURS} (bulk in {language})"
        bench.new_group()
        bench.add_measured(name, _Urgent(bench, job, plain).measure)
        bench.at_most(LATE_US, of=name, figure="late_us")


def count_to(number: int) -> int:
    count = 0
    for _ in range(number):
        count += 1
    return count


def _loops_for(ns: float) -> int:
    return int(ns / (_shortest(lambda: count_to(10_000)) / 10_000))


def _shortest(run: Callable[[], object]) -> int:
    times = []
    for _ in range(50):
        start = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start)
    return min(times)


def _clock() -> Function:
    return libm("clock_gettime", ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class _Urgent:
    """One urgent job after another, a few milliseconds apart, while the bulk runs."""

    def __init__(self, bench: Bench, job: tuple[Any, ...], plain: tuple[Any, ...]) -> None:
        self._bench = bench
        self._job = job
        self._plain = plain
        self._clock = _clock()

    def measure(self) -> Figures:
        bulk_us = _shortest(lambda: self._plain[0](*self._plain[1:])) / US
        with WorkerPool(self._bench.workers, queue_size=None) as pool:
            delays = self._delays(pool)
        p99 = percentile(delays, 0.99) / US
        return {
            "p50_us": percentile(delays, 0.5) / US,
            "p99_us": p99,
            "job_us": bulk_us,
            "late_us": p99 - bulk_us,
        }

    def _delays(self, pool: WorkerPool) -> list[int]:
        high = pool.lane("high")
        pool.submit(*self._job).result()  # So that the pool knows how long one takes.
        bulk = [pool.submit(*self._job) for _ in range(self._bench.jobs)]
        pause, last = 0.002, bulk[self._bench.jobs * 9 // 10]
        delays = []
        while not last.done():
            began = (ctypes.c_int64 * 2)()
            submitted = time.monotonic_ns()
            future = high.submit(self._clock.native, time.CLOCK_MONOTONIC, began)
            time.sleep(pause)
            future.result()
            delays.append(began[0] * 1_000_000_000 + began[1] - submitted)
        return delays or [0]


# ---- Sparse ----


def sparse(bench: Bench) -> None:
    """What is awaited is the result; what is not awaited writes down when it begins."""
    fabs = double_function("fabs")
    for gap_ms, jobs in ((1, 300), (10, 60)):
        number = jobs // 10 if bench.quick else jobs
        for kind, ours, theirs, measure in (
            ("C", (fabs.native, -2.5), (fabs.plain, -2.5), _awaited),
            ("Python", (add_one, 1), (add_one, 1), _awaited),
            ("Python, not awaited", (time.monotonic_ns,), (time.monotonic_ns,), _begun),
        ):
            bench.new_group()
            names = [f"{who} (every {gap_ms} ms, {kind})" for who in (OURS, TPE)]
            executors: list[tuple[Executor, tuple[Any, ...]]] = [(bench.pool(), ours), (bench.executor(), theirs)]
            for name, (executor, call) in zip(names, executors, strict=True):
                bench.add_measured(name, _now_and_then(executor, call, measure, gap_ms / 1e3, number))
            for figure in ("p50_us", "cpu_us"):
                bench.at_least(1, of=names[0], over=names[1], figure=figure)


def _awaited(executor: Executor, call: tuple[Any, ...]) -> Callable[[], int]:
    start = time.monotonic_ns()
    executor.submit(*call).result()
    took = time.monotonic_ns() - start
    return lambda: took


def _begun(executor: Executor, call: tuple[Any, ...]) -> Callable[[], int]:
    start = time.monotonic_ns()
    future = executor.submit(*call)
    return lambda: future.result() - start


def _now_and_then(
    executor: Executor,
    call: tuple[Any, ...],
    measure: Callable[[Executor, tuple[Any, ...]], Callable[[], int]],
    gap: float,
    jobs: int,
) -> Callable[[], Figures]:
    def run() -> Figures:
        delays = []
        cpu = time.process_time_ns()
        next_time = time.monotonic()
        for _ in range(jobs):
            next_time += gap
            time.sleep(max(0.0, next_time - time.monotonic()))
            delays.append(measure(executor, call))
        cpu = time.process_time_ns() - cpu
        values = [delay() for delay in delays]
        return {
            "p50_us": percentile(values, 0.5) / US,
            "p99_us": percentile(values, 0.99) / US,
            "cpu_us": cpu / jobs / US,
        }

    return run
