"""The C functions that jobs call: of the C library and its mathematical part, so that no compiler is needed.

Each comes in two forms: for the peers as a ctypes function, and as a NativeFunction made from it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from .. import NativeFunction, native

_LARGE = 1e6  # More than any number of steps of `jn`.


@dataclass(frozen=True)
class Function:
    """A C function: `plain` through ctypes, `native` for the pool."""

    plain: Any
    native: NativeFunction


def libm(name: str, result: Any, *parameters: Any) -> Function:
    """Return a function of the C library or of libm, each time a new object: a pool learns how long it takes."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    plain = library[name]
    plain.restype, plain.argtypes = result, list(parameters)
    return Function(plain, native(plain))


def double_function(name: str) -> Function:
    """Return a function `double (double)`."""
    return libm(name, ctypes.c_double, ctypes.c_double)


def bessel() -> Function:
    """Return `double jn(int n, double x)`, which takes a time in proportion to n where n is less than x."""
    return libm("jn", ctypes.c_double, ctypes.c_int, ctypes.c_double)


_MANY_STEPS = 40_000


@cache
def bessel_step_ns() -> float:
    """Measure how long one step of `jn` takes on this machine, in nanoseconds.

    The least of a few times of many steps, beside which what a call costs is nothing. Not a difference of two: where
    the shorter one was interrupted that would be any small number, and the calls that are made of it would never end.
    """
    plain = bessel().plain
    return min(_time_of(plain, _MANY_STEPS) for _ in range(9)) / _MANY_STEPS


def _time_of(plain: Any, steps: int) -> int:
    start = time.perf_counter_ns()
    plain(steps, _LARGE)
    return time.perf_counter_ns() - start


def bessel_arguments(ns: float) -> tuple[int, float]:
    """Return arguments with which `jn` runs for about so many nanoseconds, at least a few hundred."""
    start_up = 200  # Its first two terms.
    return max(2, int((ns - start_up) / bessel_step_ns())), _LARGE


# ---- Python functions ----


def nothing() -> None:
    """Do nothing."""


def same(number: float) -> float:
    return number


def add_one(number: int) -> int:
    return number + 1
