"""What a job costs: map, submit and result, one at a time, and a pool that is made for a burst of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from .. import WorkerPool
from .bench import JOBLIB, LOOP, MULTIPROCESSING, OURS, TPE, Bench, Catalogue
from .functions import Function, add_one, bessel, bessel_arguments, double_function, nothing

US, MS = 1e3, 1e6

Results = Callable[[], object]


def add_cases(catalogue: Catalogue) -> None:
    case = catalogue.case
    case("map-c", "map of a C function, double (double), over a list", jobs=1_000_000, quick_jobs=20_000, rounds=5)(
        map_c
    )
    case("submit-c", "submit, then result, C function, all in flight", jobs=100_000, quick_jobs=5000)(submit_c)
    case("submit-py", "submit, then result, Python function that does nothing", jobs=100_000, quick_jobs=5000)(
        submit_python
    )
    case("round-trip-c", "one at a time, submit(...).result(), C function", jobs=10_000, quick_jobs=1000)(round_trip_c)
    case("round-trip-py", "one at a time, submit(...).result(), Python function", jobs=10_000, quick_jobs=1000)(
        round_trip_python
    )
    # The two are within a few hundredths of each other, and a round takes 30 ms.
    case("map-py", "map of a cheap Python function over a range", jobs=100_000, quick_jobs=10_000, rounds=61)(
        map_python
    )
    case("map-py-each", "the same against pools that make each call a task", jobs=20_000, quick_jobs=2000)(
        map_python_each
    )
    case("map-sizes", "map of a C function of 1 ns to 1 ms, beside a plain loop", jobs=0, quick_jobs=0)(map_sizes)
    case("burst", "calls of 0, 10, 100 µs on 8 threads, the pool made for them", jobs=1000, quick_jobs=200)(burst)


# ---- map ----


def map_c(bench: Bench) -> None:
    numbers = [float(number) for number in range(-(bench.jobs // 2), bench.jobs - bench.jobs // 2)]
    expect = [abs(number) for number in numbers]
    fabs = double_function("fabs")
    pool, executor, threads = bench.pool(), bench.executor(), bench.threads()
    bench.add(OURS, lambda: list(pool.map(fabs.native, numbers)), expect=expect)
    # A million futures take it long enough to be warm.
    bench.add(TPE, lambda: list(executor.map(fabs.plain, numbers)), expect=expect, warm=False)
    bench.add(MULTIPROCESSING, lambda: threads.map(fabs.plain, numbers), expect=expect)
    bench.add(LOOP, lambda: [fabs.plain(number) for number in numbers], expect=expect)
    bench.at_least(150, over=TPE)


def _add_ours_in_python(bench: Bench) -> tuple[range, list[int]]:
    """Return the numbers and what a map of add_one over them gives."""
    numbers = range(bench.jobs)
    expect = list(range(1, bench.jobs + 1))
    pool = bench.pool()
    bench.add(OURS, lambda: list(pool.map(add_one, numbers)), expect=expect)
    return numbers, expect


def map_python(bench: Bench) -> None:
    numbers, expect = _add_ours_in_python(bench)
    threads = bench.threads()
    bench.add(MULTIPROCESSING, lambda: threads.map(add_one, numbers), expect=expect)
    bench.add(LOOP, lambda: [add_one(number) for number in numbers], expect=expect)
    bench.at_least(1, over=MULTIPROCESSING)


def map_python_each(bench: Bench) -> None:
    numbers, expect = _add_ours_in_python(bench)
    executor = bench.executor()
    bench.add(TPE, lambda: list(executor.map(add_one, numbers)), expect=expect)
    joblib = bench.module(JOBLIB, "joblib")
    if joblib is not None:
        parallel = bench.enter(joblib.Parallel(n_jobs=bench.workers, backend="threading"))
        delayed = joblib.delayed(add_one)
        bench.add(JOBLIB, lambda: parallel(delayed(number) for number in numbers), expect=expect)


def map_sizes(bench: Bench) -> None:
    """Pairs of contenders, one for each size of job. The size includes nothing of what calling from Python costs."""
    share = 20 if bench.quick else 1
    pairs = _Pairs(bench)
    for label, name, argument in (("1 ns", "fabs", -2.5), ("20 ns", "cbrt", 7.5), ("120 ns", "tgamma", 7.5)):
        function = double_function(name)
        column = [argument] * (100_000 // share)
        pairs.add(label, function.native, function.plain, [column])
    for label, ns, jobs in (
        ("1 µs", 1 * US, 40_000),
        ("10 µs", 10 * US, 10_000),
        ("100 µs", 100 * US, 1000),
        ("1 ms", 1 * MS, 100),
    ):
        arguments = bessel_arguments(ns)
        jn = bessel()
        columns = [[argument] * max(1, jobs // share) for argument in arguments]
        pairs.add(label, jn.native, jn.plain, columns)


class _Pairs:
    """A native function on the pool, and the same through ctypes in a loop."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._pool = bench.pool()

    def add(self, label: str, ours: Any, plain: Any, columns: Sequence[Sequence[Any]]) -> None:
        loop = _loop(plain, columns)
        ours_name, loop_name = f"{OURS} ({label})", f"{LOOP} ({label})"
        jobs, expect = len(columns[0]), loop()
        self._bench.new_group()
        self._bench.add(ours_name, lambda: list(self._pool.map(ours, *columns)), jobs=jobs, expect=expect)
        self._bench.add(loop_name, loop, jobs=jobs, expect=expect)
        self._bench.at_least(1, of=ours_name, over=loop_name)


def _loop(plain: Any, columns: Sequence[Sequence[Any]]) -> Results:
    if len(columns) == 1:
        return lambda: [plain(value) for value in columns[0]]
    return lambda: [plain(a, b) for a, b in zip(*columns, strict=True)]


# ---- submit and result ----


def _all_in_flight(executor: Executor, function: Any, values: Sequence[Any]) -> Results:
    def run() -> object:
        submit = executor.submit
        futures = [submit(function, value) for value in values]
        return [future.result() for future in futures]

    return run


def _calls_in_flight(executor: Executor, function: Callable[[], None], jobs: int) -> Results:
    def run() -> object:
        submit = executor.submit
        futures = [submit(function) for _ in range(jobs)]
        for future in futures:
            future.result()
        return True

    return run


def _one_at_a_time(executor: Executor, function: Any, values: Sequence[Any]) -> Results:
    return lambda: [executor.submit(function, value).result() for value in values]


def submit_c(bench: Bench) -> None:
    fabs = double_function("fabs")
    numbers = [float(-number) for number in range(bench.jobs)]
    expect = [abs(number) for number in numbers]
    unbounded, bounded, executor = bench.pool(queue_size=None), bench.pool(), bench.executor()
    bench.add(OURS, _all_in_flight(unbounded, fabs.native, numbers), expect=expect)
    bench.add(f"{OURS}, 1024 may wait", _all_in_flight(bounded, fabs.native, numbers), expect=expect)
    bench.add(TPE, _all_in_flight(executor, fabs.plain, numbers), expect=expect)
    bench.at_least(30, over=TPE)


def submit_python(bench: Bench) -> None:
    unbounded, bounded, executor = bench.pool(queue_size=None), bench.pool(), bench.executor()
    bench.add(OURS, _calls_in_flight(unbounded, nothing, bench.jobs), expect=True)
    bench.add(f"{OURS}, 1024 may wait", _calls_in_flight(bounded, nothing, bench.jobs), expect=True)
    bench.add(TPE, _calls_in_flight(executor, nothing, bench.jobs), expect=True)
    bench.at_least(25, over=TPE)


def round_trip_c(bench: Bench) -> None:
    fabs = double_function("fabs")
    numbers = [float(-number) for number in range(bench.jobs)]
    expect = [abs(number) for number in numbers]
    bench.add(OURS, _one_at_a_time(bench.pool(), fabs.native, numbers), expect=expect)
    bench.add(TPE, _one_at_a_time(bench.executor(), fabs.plain, numbers), expect=expect)
    bench.at_least(50, over=TPE)


def round_trip_python(bench: Bench) -> None:
    numbers = range(bench.jobs)
    expect = list(range(1, bench.jobs + 1))
    bench.add(OURS, _one_at_a_time(bench.pool(), add_one, numbers), expect=expect)
    bench.add(TPE, _one_at_a_time(bench.executor(), add_one, numbers), expect=expect)


# ---- A pool for a burst ----

BURST_THREADS = 8


def burst(bench: Bench) -> None:
    """As native jobs, and as Python callables: the same function through ctypes, and one that does nothing.

    The protocol is that of spinningjenny's benchmarks, whose shortest call is the one that does nothing. A ctypes
    function gives up the GIL in each call.
    """
    ours, theirs = f"{OURS}, Python (0 µs)", f"{TPE}, Python (0 µs)"
    bench.add(ours, _burst(WorkerPool, nothing, (), bench.jobs), expect=[None] * bench.jobs)
    bench.add(theirs, _burst(ThreadPoolExecutor, nothing, (), bench.jobs), expect=[None] * bench.jobs)
    bench.at_least(5, of=ours, over=theirs)
    works: list[tuple[int, Function, tuple[Any, ...]]] = [
        (0, double_function("fabs"), (-2.5,)),
        (10, bessel(), bessel_arguments(10 * US)),
        (100, bessel(), bessel_arguments(100 * US)),
    ]
    for us, function, arguments in works:
        expect = [function.plain(*arguments)] * bench.jobs
        ours, callables, theirs = f"{OURS} ({us} µs)", f"{OURS}, ctypes ({us} µs)", f"{TPE} ({us} µs)"
        bench.new_group()
        bench.add(ours, _burst(WorkerPool, function.native, arguments, bench.jobs), expect=expect)
        bench.add(callables, _burst(WorkerPool, function.plain, arguments, bench.jobs), expect=expect)
        bench.add(theirs, _burst(ThreadPoolExecutor, function.plain, arguments, bench.jobs), expect=expect)
        if us != 10:  # Between the two nothing is claimed.
            bench.at_least(5 if us == 0 else 1, of=ours, over=theirs)
            bench.at_least(5 if us == 0 else 1, of=callables, over=theirs)


def _burst(make: Callable[[int], Executor], function: Any, arguments: tuple[Any, ...], jobs: int) -> Results:
    def run() -> object:
        with make(BURST_THREADS) as executor:
            futures = [executor.submit(function, *arguments) for _ in range(jobs)]
            return [future.result() for future in futures]

    return run
