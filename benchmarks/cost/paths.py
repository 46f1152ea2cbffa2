"""The hot paths from Python, for counting: see count.py, which runs this under callgrind or strace.

python paths.py MARKS REPEATS PATH=JOBS..., where MARKS is the library that count.py makes of marks.c.

Each path runs on a pool of its own, twice with a tenth of the jobs to get warm, and then REPEATS times between marks.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from workerpool import NativeFunction, WorkerPool, native

WORKERS = 2
ARGUMENT = -2.5

# Does so many jobs and returns their results.
Run = Callable[[int], list[Any]]
# Makes what does them on a pool, and says what each result is; the stack takes what has to be closed.
Path = Callable[[WorkerPool, ExitStack], tuple[Run, Any]]


def fabs() -> NativeFunction:
    function = ctypes.CDLL(None).fabs  # Python itself is linked with libm.
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
    return native(function)


def nothing() -> None:
    """Do nothing."""


def add_one(number: float) -> float:
    return number + 1


# ---- The paths ----


def map_of(function: Any, expect: float) -> Path:
    def path(pool: WorkerPool, stack: ExitStack) -> tuple[Run, Any]:
        return lambda jobs: list(pool.map(function, [ARGUMENT] * jobs)), expect

    return path


def submit_of(*call: Any, expect: Any) -> Path:
    """All are in flight, then all results are fetched."""

    def path(pool: WorkerPool, stack: ExitStack) -> tuple[Run, Any]:
        def run(jobs: int) -> list[Any]:
            submit = pool.submit
            futures = [submit(*call) for _ in range(jobs)]
            return [future.result() for future in futures]

        return run, expect

    return path


def round_trip_of(*call: Any, expect: Any) -> Path:
    def path(pool: WorkerPool, stack: ExitStack) -> tuple[Run, Any]:
        return lambda jobs: [pool.submit(*call).result() for _ in range(jobs)], expect

    return path


def await_of(*call: Any, expect: Any) -> Path:
    """All are gathered."""

    def path(pool: WorkerPool, stack: ExitStack) -> tuple[Run, Any]:
        async def gather(jobs: int) -> list[Any]:
            return await asyncio.gather(*(pool.run(*call) for _ in range(jobs)))

        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        return lambda jobs: loop.run_until_complete(gather(jobs)), expect

    return path


def paths() -> dict[str, Path]:
    return {
        "map-c": map_of(fabs(), 2.5),
        "map-py": map_of(add_one, -1.5),
        "submit-c": submit_of(fabs(), ARGUMENT, expect=2.5),
        "submit-py": submit_of(nothing, expect=None),
        "round-trip-c": round_trip_of(fabs(), ARGUMENT, expect=2.5),
        "await-c": await_of(fabs(), ARGUMENT, expect=2.5),
        "await-py": await_of(nothing, expect=None),
    }


# Where any number of jobs is in flight, any number may wait; elsewhere what is the default.
UNBOUNDED = {"submit-c", "submit-py"}


# ---- Running them ----


def count(marks: ctypes.CDLL, name: str, path: Path, jobs: int, repeats: int) -> None:
    with ExitStack() as stack:
        pool = stack.enter_context(WorkerPool(WORKERS, queue_size=None) if name in UNBOUNDED else WorkerPool(WORKERS))
        run, expect = path(pool, stack)
        for _ in range(2):
            run(jobs // 10 + 1)
        begin = (name.encode(), ctypes.c_uint64(jobs))
        for _ in range(repeats):
            gc.collect()
            marks.mark_begin(*begin)
            results = run(jobs)
            marks.mark_end(*begin)
            if results != [expect] * jobs:
                raise AssertionError(f"{name} has other results than expected")


def main() -> None:
    marks = ctypes.CDLL(sys.argv[1])
    known = paths()
    for argument in sys.argv[3:]:
        name, _, jobs = argument.partition("=")
        count(marks, name, known[name], int(jobs), int(sys.argv[2]))
    marks.mark_check()


if __name__ == "__main__":
    main()
