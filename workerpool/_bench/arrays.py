"""A C function over a whole array: map_array."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from .. import WorkerPool
from .bench import LOOP, NUMBA, OURS, Bench, Catalogue
from .functions import Function, double_function

FUNCTIONS = ("fabs", "cbrt")  # About 1 ns, where memory is the limit, and about 20 ns.


def add_cases(catalogue: Catalogue) -> None:
    for name in FUNCTIONS:
        catalogue.case(
            f"array-{name}", f"map_array of {name}, double (double), on an array", jobs=10_000_000, quick_jobs=200_000
        )(_case(double_function(name)))


def _case(function: Function) -> Callable[[Bench], None]:
    def part(bench: Bench) -> None:
        values, out = make_arrays(bench)
        _add_ours(bench, function, values, out)
        _add_numba(bench, function)
        few = max(1, bench.jobs // 50)
        bench.add(LOOP, lambda: [function.plain(value) for value in values[:few]], jobs=few)

    return part


def make_arrays(bench: Bench) -> tuple[array[float], array[float]]:
    """Return an input of so many different numbers, and an output of the same size whose memory is there already."""
    values = array("d", (-float(number) for number in range(bench.jobs)))
    return values, array("d", bytes(8 * bench.jobs))


def _add_ours(bench: Bench, function: Function, values: array[float], out: array[float]) -> None:
    if not hasattr(WorkerPool, "map_array"):
        bench.leave_out(OURS, f"{WorkerPool.__name__} has no map_array() in this version")
        return
    pool: Any = bench.pool()
    bench.add(OURS, lambda: pool.map_array(function.native, values, out=out) and None)


def _add_numba(bench: Bench, function: Function) -> None:
    """The same loop over the same function, compiled by numba."""
    numba, numpy = bench.module(NUMBA, "numba"), bench.module(NUMBA, "numpy")
    if numba is None or numpy is None:
        return
    values, out = map(numpy.frombuffer, make_arrays(bench))
    call = function.plain

    def loop(values: Any, out: Any) -> None:
        for index in numba.prange(values.size):
            out[index] = call(values[index])

    compiled = numba.njit(loop, parallel=True)
    numba.set_num_threads(min(bench.workers, numba.config.NUMBA_NUM_THREADS))
    bench.add(NUMBA, lambda: compiled(values, out))
