"""The hot paths from Python, for counting: see count.py, which runs this under callgrind or strace.

python paths.py MARKS REPEATS PATH=JOBS..., where MARKS is the library that count.py makes of marks.c.

Each path runs on a pool of its own, twice with a tenth of the jobs to get warm, and then REPEATS times between marks.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from workerpool import NativeFunction, WorkerPool, native

WORKERS = 2
ARGUMENT = -2.5


@dataclass
class Path:
    """A way to do so many jobs on a pool."""

    run: Callable[[int], list[Any]]  # Takes the number of jobs and returns their results,
    expect: Any  # which are all this.
    close: Callable[[], object] = lambda: None


def fabs() -> NativeFunction:
    function = ctypes.CDLL(None).fabs  # Python itself is linked with libm.
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
    return native(function)


def nothing() -> None:
    """Do nothing."""


def add_one(number: float) -> float:
    return number + 1


# ---- The paths ----
#
# Calls are written out, as a user would write them: with `*arguments` the interpreter takes another way.


def map_c(pool: WorkerPool) -> Path:
    function = fabs()
    return Path(lambda jobs: list(pool.map(function, [ARGUMENT] * jobs)), 2.5)


def map_python(pool: WorkerPool) -> Path:
    return Path(lambda jobs: list(pool.map(add_one, [ARGUMENT] * jobs)), -1.5)


def submit_c(pool: WorkerPool) -> Path:
    function = fabs()

    def run(jobs: int) -> list[Any]:
        futures = [pool.submit(function, ARGUMENT) for _ in range(jobs)]
        return [future.result() for future in futures]

    return Path(run, 2.5)


def submit_python(pool: WorkerPool) -> Path:
    def run(jobs: int) -> list[Any]:
        futures = [pool.submit(nothing) for _ in range(jobs)]
        return [future.result() for future in futures]

    return Path(run, None)


def round_trip_c(pool: WorkerPool) -> Path:
    function = fabs()
    return Path(lambda jobs: [pool.submit(function, ARGUMENT).result() for _ in range(jobs)], 2.5)


def await_c(pool: WorkerPool) -> Path:
    function = fabs()

    async def gather(jobs: int) -> list[Any]:
        return await asyncio.gather(*(pool.run(function, ARGUMENT) for _ in range(jobs)))

    return on_new_loop(gather, 2.5)


def await_python(pool: WorkerPool) -> Path:
    async def gather(jobs: int) -> list[Any]:
        return await asyncio.gather(*(pool.run(nothing) for _ in range(jobs)))

    return on_new_loop(gather, None)


def on_new_loop(gather: Callable[[int], Coroutine[Any, Any, list[Any]]], expect: Any) -> Path:
    loop = asyncio.new_event_loop()
    return Path(lambda jobs: loop.run_until_complete(gather(jobs)), expect, loop.close)


# Where all jobs are in flight, any number may wait; elsewhere as many as by default.
PATHS: dict[str, tuple[Callable[[WorkerPool], Path], dict[str, Any]]] = {
    "map-c": (map_c, {}),
    "map-py": (map_python, {}),
    "submit-c": (submit_c, {"queue_size": None}),
    "submit-py": (submit_python, {"queue_size": None}),
    "round-trip-c": (round_trip_c, {}),
    "await-c": (await_c, {}),
    "await-py": (await_python, {}),
}


# ---- Running them ----


def count(marks: ctypes.CDLL, name: str, jobs: int, repeats: int) -> None:
    make, options = PATHS[name]
    begin, end = marks.mark_begin, marks.mark_end  # Looked up now: ctypes makes them then, and that is much.
    mark = (name.encode(), ctypes.c_uint64(jobs))
    with WorkerPool(WORKERS, **options) as pool:
        path = make(pool)
        for _ in range(2):
            path.run(jobs // 10 + 1)
        for _ in range(repeats):
            gc.collect()
            begin(*mark)
            results = path.run(jobs)
            end(*mark)
            if results != [path.expect] * jobs:
                raise AssertionError(f"{name} has other results than expected")
            del results  # Else what that takes would count in the next repetition.
        path.close()


def main() -> None:
    marks = ctypes.CDLL(sys.argv[1])
    for argument in sys.argv[3:]:
        name, _, jobs = argument.partition("=")
        count(marks, name, int(jobs), int(sys.argv[2]))
    marks.mark_check()


if __name__ == "__main__":
    main()
