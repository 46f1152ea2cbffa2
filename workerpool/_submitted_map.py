"""map() where submit() is not the extension's own: a subclass has another, or somebody has put one there."""

from __future__ import annotations

import collections
import queue
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from types import BuiltinMethodType
from typing import Any, Generic, TypeVar

from . import _core

T = TypeVar("T")

_POOL_SUBMIT = vars(_core.Pool)["submit"]
_VIEW_SUBMIT = vars(_core.View)["submit"]


def other_submit(executor: Any) -> Callable[..., Future[Any]] | None:
    """What is called as executor.submit(), or None if that is the extension's own, which map() can do without."""
    submit: Any = executor.submit
    own = (_VIEW_SUBMIT if isinstance(executor, _core.View) else _POOL_SUBMIT).__get__(executor)
    # The type first: a mock may say that it is equal to anything.
    return None if type(submit) is BuiltinMethodType and submit == own else submit


class SubmittedMap(Iterator[T], Generic[T]):
    """The results of map(), one by one, each of a call that went through submit(). What map() says of them holds."""

    def __init__(
        self,
        submit: Callable[..., Future[T]],
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        *,
        timeout: float | None,
        most: int,
        in_order: bool,
        goes_on_alone: bool,
    ) -> None:
        self._pending: collections.deque[Future[T]] = collections.deque()
        self._ended: queue.SimpleQueue[Future[T]] | None = None if in_order else queue.SimpleQueue()
        self._under_way = 0
        self._error: Exception | None = None
        self._was_asked = False
        # As with the standard library's generator: dropped before its first step it cancels nothing.
        self._goes_on_alone = goes_on_alone
        self._end = None if timeout is None else time.monotonic() + timeout
        self._submit = submit
        self._fn = fn
        self._most = most
        self._rows: Iterator[tuple[Any, ...]] | None = zip(*iterables, strict=False)
        self._fill()

    def _take_input(self, rows: Iterator[tuple[Any, ...]]) -> None:
        try:
            for row in rows:
                future = self._submit(self._fn, *row)
                self._pending.append(future)
                self._under_way += 1
                if self._ended is not None:
                    future.add_done_callback(self._ended.put)
                if self._under_way >= self._most:
                    return
        except Exception as error:  # It comes where its result would have come.
            self._error = error
        self._rows = None

    def _fill(self) -> None:
        if self._rows is None or self._under_way >= self._most:
            return
        try:
            self._take_input(self._rows)
        except BaseException:
            self._cancel()
            raise

    def _time_left(self) -> float | None:
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)

    def _take(self) -> T:
        if self._ended is None:
            future = self._pending.popleft()
        else:
            try:
                future = self._ended.get(timeout=self._time_left())
            except queue.Empty:
                raise TimeoutError from None
            self._pending.remove(future)
        self._under_way -= 1
        try:
            return future.result(self._time_left())
        finally:
            future.cancel()
            del future  # An exception's traceback refers to this frame.

    def _cancel(self) -> None:
        self._rows = None
        self._under_way = 0
        while self._pending:
            self._pending.popleft().cancel()

    def __next__(self) -> T:
        self._was_asked = True
        self._fill()
        if self._under_way == 0:
            error, self._error = self._error, None
            try:
                if error is not None:
                    raise error
            finally:
                del error
            raise StopIteration
        try:
            return self._take()
        except StopIteration as stop:
            self._cancel()
            raise RuntimeError("a mapped function raised StopIteration") from stop
        except BaseException:
            self._cancel()
            raise

    def close(self) -> None:
        """Cancel the calls that have not begun and yield no more."""
        self._was_asked = True
        self._error = None
        self._cancel()

    def __del__(self) -> None:
        if hasattr(self, "_rows") and (self._was_asked or not self._goes_on_alone):
            self._cancel()
