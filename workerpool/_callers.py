"""The caller of a job.

Code that nobody calls is a rare thing in Python: eval(), dir() or type() need a frame to look at, and
sys._getframe(1) fails. So each job is called by one of these, and all calls of a map that a worker makes at a time by
`_within`. In the standard library the caller is in the module concurrent.futures.thread: what jobs find in its
globals, such as the module of a class that they make, is the same here.
"""

from __future__ import annotations

import concurrent.futures.thread
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T")


def _call_0(fn: Callable[..., T], /) -> T:
    return fn()


def _call_1(fn: Callable[..., T], a: Any, /) -> T:
    return fn(a)


def _call_2(fn: Callable[..., T], a: Any, b: Any, /) -> T:
    return fn(a, b)


def _call_3(fn: Callable[..., T], a: Any, b: Any, c: Any, /) -> T:
    return fn(a, b, c)


def _call(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    return fn(*args, **kwargs)


def _within(step: Callable[[], object], /) -> None:
    step()


def _moved(function: Callable[..., Any]) -> Callable[..., Any]:
    return FunctionType(function.__code__, vars(concurrent.futures.thread), function.__name__)


# What makes all calls of a turn at a map; and what makes one call, by the number of arguments, the last for any.
WITHIN = _moved(_within)
CALLERS: tuple[Callable[..., Any], ...] = (
    _moved(_call_0),
    _moved(_call_1),
    _moved(_call_2),
    _moved(_call_3),
    _moved(_call),
)
