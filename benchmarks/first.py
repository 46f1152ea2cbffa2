"""workerpool beside the pools of the standard library: what a job costs that does next to nothing.

All contenders of a case run in one process and take turns, round by round, another one first each time. The figures are
medians over the rounds; `ratio` is a contender's median divided by workerpool's. The C function is `labs` of the C
library, called by the others through ctypes; the Python functions do nothing or add one.

    python benchmarks/first.py [--jobs N] [--rounds N] [--workers N] [--json]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from statistics import median
from time import perf_counter
from typing import Any

import workerpool as wp

WINDOW = 1000  # Jobs that are submitted before their results are asked for.

Contenders = dict[str, Callable[[Sequence[int]], Iterable[int]]]


@dataclass(frozen=True)
class Case:
    """The same work for several contenders. The first is workerpool."""

    name: str
    contenders: Contenders
    share: float = 1.0  # Part of --jobs: round trips are slow.


# ---- What is measured ----


def add_one(number: int) -> int:
    return number + 1


def same(number: int) -> int:
    return number


def submit_and_result(executor: Executor, function: Any) -> Callable[[Sequence[int]], list[int]]:
    """Windows of submits, then their results."""

    def run(numbers: Sequence[int]) -> list[int]:
        results = []
        for start in range(0, len(numbers), WINDOW):
            futures = [executor.submit(function, number) for number in numbers[start : start + WINDOW]]
            results += [future.result() for future in futures]
        return results

    return run


def round_trip(executor: Executor, function: Any) -> Callable[[Sequence[int]], list[int]]:
    """One job at a time."""
    return lambda numbers: [executor.submit(function, number).result() for number in numbers]


def mapped(executor: Any, function: Any) -> Callable[[Sequence[int]], list[int]]:
    return lambda numbers: list(executor.map(function, numbers))


def loop(function: Any) -> Callable[[Sequence[int]], list[int]]:
    return lambda numbers: [function(number) for number in numbers]


def make_cases(pool: wp.WorkerPool, executor: ThreadPoolExecutor, threads: ThreadPool) -> list[Case]:
    labs = ctypes.CDLL(None).labs
    labs.restype, labs.argtypes = ctypes.c_long, [ctypes.c_long]
    native = wp.native(labs)

    def pair(how: Callable[[Any, Any], Any], ours: Any, theirs: Any) -> Contenders:
        return {"workerpool": how(pool, ours), "ThreadPoolExecutor": how(executor, theirs)}

    return [
        Case("map, C function", pair(mapped, native, labs) | {"plain loop": loop(labs)}),
        Case("submit + result, C function", pair(submit_and_result, native, labs)),
        Case("submit + result, Python function", pair(submit_and_result, same, same)),
        Case("round trip, C function", pair(round_trip, native, labs), share=0.2),
        Case("round trip, Python function", pair(round_trip, same, same), share=0.2),
        Case(
            "map, Python function",
            pair(mapped, add_one, add_one)
            | {"multiprocessing ThreadPool": mapped(threads, add_one), "plain loop": loop(add_one)},
        ),
    ]


# ---- How it is measured ----


def measure(case: Case, jobs: int, rounds: int) -> dict[str, float]:
    """Return the median time of a job in nanoseconds, by contender. A first round that does not count warms up."""
    numbers = range(max(1, int(jobs * case.share)))
    names = list(case.contenders)
    times: dict[str, list[float]] = {name: [] for name in names}
    expected = None
    for round_number in range(rounds + 1):
        first = round_number % len(names)
        for name in [*names[first:], *names[:first]]:
            start = perf_counter()
            results = case.contenders[name](numbers)
            seconds = perf_counter() - start
            expected = expected or results
            if results != expected:
                raise SystemExit(f"{case.name}: {name} has other results")
            if round_number > 0:
                times[name].append(seconds)
    return {name: median(times[name]) / len(numbers) * 1e9 for name in names}


def print_table(results: dict[str, dict[str, float]]) -> None:
    print(f"{'':34}{'':28}{'ns a job':>10}{'ratio':>9}")
    for case, times in results.items():
        ours = times["workerpool"]
        for number, (name, time) in enumerate(times.items()):
            print(f"{'' if number else case:34}{name:28}{time:10,.0f}{time / ours:8.2f}x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="workerpool beside the pools of the standard library")
    parser.add_argument("--jobs", type=int, default=10_000, help="jobs in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="workers of each pool (default: the processors)")
    parser.add_argument("--json", action="store_true", help="print JSON and no table")
    options = parser.parse_args()

    with wp.WorkerPool(options.workers) as pool:
        workers = pool.stats().max_workers
        with ThreadPoolExecutor(workers) as executor, ThreadPool(workers) as threads:
            cases = make_cases(pool, executor, threads)
            results = {case.name: measure(case, options.jobs, options.rounds) for case in cases}
    about = {
        "python": platform.python_version(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "machine": platform.machine(),
        "workers": workers,
        "jobs": options.jobs,
        "rounds": options.rounds,
    }
    if options.json:
        print(json.dumps({"about": about, "ns_per_job": results}, indent=2))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()), end="\n\n")
        print_table(results)


if __name__ == "__main__":
    main()
