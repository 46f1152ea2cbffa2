"""Who has raised an exception: the code that it ended, or the handler of a signal that came meanwhile."""

from __future__ import annotations

import signal
from functools import partial
from types import CodeType
from typing import Any

__all__ = ["is_from_handler"]


def _code_of(handler: Any) -> CodeType | None:
    while isinstance(handler, partial):
        handler = handler.func
    for function in (handler, getattr(handler, "__func__", None), type(handler).__call__):
        code = getattr(function, "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None


def is_from_handler(error: BaseException) -> bool:
    """Return whether a signal's handler, one of those that are set now, is among what the exception has left."""
    handlers = [signal.getsignal(number) for number in range(1, signal.NSIG)]
    codes = {_code_of(handler) for handler in handlers if callable(handler)} - {None}
    step = error.__traceback__ if codes else None
    while step is not None:
        if step.tb_frame.f_code in codes:
            return True
        step = step.tb_next
    return False
