"""What several test files use: workers that are kept busy, and waiting for what cannot be waited for otherwise."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import workerpool as wp

# Seconds that nothing takes unless it hangs.
LONG = 30
FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()

ON_FULL = ["block", "raise", "caller_runs", "discard", "discard_oldest"]


def wait_until(condition: Callable[[], object], timeout: float = LONG) -> None:
    """For states that have no event, such as that another thread sleeps."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {condition}"
        time.sleep(0.001)


@contextmanager
def occupied(pool: Any, workers: int = 1) -> Iterator[threading.Event]:
    """Keeps so many workers in jobs until the event is set or the block is left."""
    leave = threading.Event()
    begun = threading.Semaphore(0)

    def hold() -> None:
        begun.release()
        assert leave.wait(LONG)

    holding = [pool.submit(hold) for _ in range(workers)]
    try:
        for _ in range(workers):
            assert begun.acquire(timeout=LONG)
        yield leave
    finally:
        leave.set()
    for future in holding:
        future.result(LONG)


class NativeGate:
    """Native jobs that run until open() is called."""

    def __init__(self, helpers: Helpers) -> None:
        self._words = (ctypes.c_int64 * 2)()
        self._wait_at = helpers.native("wait_at", "int (int64_t *)")

    def close_worker(self, pool: Any) -> wp.Future[int]:
        """Submits one, and returns when it runs."""
        before = self._words[0]
        future: wp.Future[int] = pool.submit(self._wait_at, self._words)
        wait_until(lambda: self._words[0] > before)
        return future

    def open(self) -> None:
        self._words[1] = 1


class Helpers:
    """The functions of tests/native/helpers.c."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.library = ctypes.CDLL(path)

    def native(self, name: str, signature: str, **options: Any) -> wp.NativeFunction:
        return wp.native(f"{self.path}:{name}", signature, **options)
