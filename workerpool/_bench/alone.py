"""Measurements that need a process of their own, because they look at all of its memory or all of its threads.

in_process() runs one of them in a new interpreter, which prints its figures as JSON.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import WorkerPool
from .bench import OURS, TPE, Figures, Measure
from .functions import double_function, nothing
from .machine import Usage, peak_resident_bytes, resident_bytes, threads, usage_of_threads

TIME_LIMIT = 1200  # Seconds; for a process that hangs.


def in_process(name: str, **arguments: Any) -> Measure:
    """Return what runs a measurement of this module, by its name, in a new process."""
    command = [sys.executable, "-m", __name__, name, json.dumps(arguments)]

    def measure() -> Figures:
        package_at = str(Path(__file__).parent.parent.parent)
        path = os.pathsep.join(filter(None, [package_at, os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIME_LIMIT,
            check=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        figures: Figures = json.loads(done.stdout)
        return figures

    return measure


def make_executor(which: str, workers: int) -> Executor:
    """Return a pool without a bound: either of the two that are compared everywhere."""
    return WorkerPool(workers, queue_size=None) if which == OURS else ThreadPoolExecutor(workers)


@contextmanager
def all_held(executor: Executor, workers: int) -> Iterator[None]:
    """Keep all workers in a job."""
    begun, leave = threading.Barrier(workers + 1), threading.Event()

    def hold() -> None:
        begun.wait()
        leave.wait()

    for _ in range(workers):
        executor.submit(hold)
    begun.wait()
    try:
        yield
    finally:
        leave.set()


# ---- The measurements ----


def waiting_jobs(executor: str, work: str, jobs: int, workers: int) -> Figures:
    """Measure the memory of a job that waits, with its future, but not what the caller keeps the future in."""
    fabs = double_function("fabs")
    call: tuple[Any, ...] = (nothing,)
    if work == "C":
        call = (fabs.native if executor == OURS else fabs.plain, -2.5)
    with make_executor(executor, workers) as pool:
        pool.submit(*call).result()
        futures: list[Future[Any] | None] = [None] * jobs
        with all_held(pool, workers):
            gc.collect()
            before = resident_bytes()
            for number in range(jobs):
                futures[number] = pool.submit(*call)
            used = resident_bytes() - before
        expect = None if work == "Python" else 2.5
        if any(future is None or future.result() != expect for future in futures):
            raise AssertionError("a job that waited has another result than expected")
    return {"bytes": used / jobs}


def many_jobs(how: str, jobs: int, times: int, workers: int) -> Figures:
    """Measure a job's time when there are so many in one go, and by how much the process's memory grows meanwhile.

    times: how often that is done; the first jobs that warm the pool do not count.
    """
    with WorkerPool(workers) as pool:
        run = _MANY[how]
        run(pool, 50_000)
        gc.collect()
        memory = peak_resident_bytes()
        before = Usage.now()
        for _ in range(times):
            run(pool, jobs)
        figures = (Usage.now() - before).per_job(jobs * times)
        figures["grown_kb"] = (peak_resident_bytes() - memory) / 1024
    return figures


def _map_many(pool: WorkerPool, jobs: int) -> None:
    deque(pool.map(double_function("fabs").native, itertools.repeat(-2.5, jobs)), maxlen=0)


def _submit_many(pool: WorkerPool, jobs: int) -> None:
    """A thousand are in flight."""
    native = double_function("fabs").native
    in_flight: deque[Future[float]] = deque()
    for _ in range(jobs):
        if len(in_flight) == 1000:
            in_flight.popleft().result()
        in_flight.append(pool.submit(native, -2.5))
    for future in in_flight:
        future.result()


def _results_many(pool: WorkerPool, jobs: int) -> None:
    """This thread submits, another reads."""
    native = double_function("fabs").native
    with pool.results(maxsize=1000) as results:
        reader = threading.Thread(target=deque, args=(results, 0))
        reader.start()
        for _ in range(jobs):
            results.submit(native, -2.5)
        results.close()
        reader.join()


_MANY: dict[str, Callable[[WorkerPool, int], None]] = {
    "map": _map_many,
    "submit": _submit_many,
    "results": _results_many,
}


def idle(executor: str, workers: int, seconds: float) -> Figures:
    """Measure what the threads of a pool use that has nothing to do; Linux only."""
    main = threads()
    with make_executor(executor, workers) as pool:
        with all_held(pool, workers):
            pass
        time.sleep(0.5)  # For what follows the last job.
        others = threads() - main
        if len(others) < workers:
            raise AssertionError(f"{len(others)} threads are there instead of {workers}")
        cpu_before, turns_before = usage_of_threads(others)
        time.sleep(seconds)
        cpu, turns = usage_of_threads(others)
    return {"idle_cpu_us": (cpu - cpu_before) / 1e3, "idle_switches": turns - turns_before}


MEASUREMENTS: dict[str, Callable[..., Figures]] = {"waiting_jobs": waiting_jobs, "many_jobs": many_jobs, "idle": idle}
EXECUTORS = (OURS, TPE)

if __name__ == "__main__":
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**json.loads(sys.argv[2]))))
