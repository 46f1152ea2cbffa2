"""What a job finds when it looks at who called it."""

from __future__ import annotations

import builtins
import collections
import sys
import typing
import warnings
from typing import Any

import pytest

import workerpool as wp
from support import LONG

BOTH = pytest.mark.parametrize("make", [wp.ThreadPoolExecutor, wp.WorkerPool])
MODULE = "concurrent.futures.thread"


@BOTH
def test_builtin_that_needs_a_frame_finds_none(make: Any) -> None:
    with make(1) as pool:
        assert pool.submit(eval, "1 + 1").result(LONG) == 2
        assert pool.submit(eval, "__name__").result(LONG) == MODULE
        assert pool.submit(exec, "x = 1").result(LONG) is None
        assert pool.submit(globals).result(LONG)["__name__"] == MODULE
        for builtin in (locals, dir, vars):
            assert "fn" in pool.submit(builtin).result(LONG)
        assert isinstance(pool.submit(super).exception(LONG), RuntimeError)
        assert pool.submit(builtins.__import__, "json").result(LONG).__name__ == "json"
        assert pool.submit(type, "X", (), {}).result(LONG).__module__ == MODULE
        assert pool.submit(sys._getframe).result(LONG).f_globals["__name__"] == MODULE
        assert list(pool.map(eval, ["1 + 1", "__name__"])) == [2, MODULE]
        assert [kind.__module__ for kind in pool.map(type, ["X"], [()], [{}])] == [MODULE]


@BOTH
def test_function_that_looks_at_its_caller_finds_none(make: Any) -> None:
    def caller(*_: Any, **__: Any) -> str:
        return str(sys._getframe(1).f_globals["__name__"])

    with make(1) as pool:
        for n in range(7):
            assert pool.submit(caller, *range(n)).result(LONG) == MODULE
            assert pool.submit(caller, *range(n), x=1).result(LONG) == MODULE
        assert list(pool.map(caller, range(50))) == [MODULE] * 50
        assert pool.submit(collections.namedtuple, "P", "a b").result(LONG).__module__ == MODULE  # noqa: PYI024
        assert pool.submit(typing.NewType, "N", int).result(LONG).__module__ == MODULE
        results = pool.results()
        results.submit(caller)
        assert results.get().value == MODULE


@pytest.mark.thread_unsafe(reason="catches the warnings of the whole process")
def test_warning_of_a_job_is_of_nobody() -> None:
    with wp.ThreadPoolExecutor(1) as pool, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pool.submit(warnings.warn, "hello").result(LONG)
        pool.submit(lambda: warnings.warn("hello", stacklevel=2)).result(LONG)
    assert [str(w.message) for w in caught] == ["hello"] * 2
    assert all(w.filename.endswith("_callers.py") for w in caught)


@BOTH
def test_arguments_that_the_caller_has_names_for(make: Any) -> None:
    with make(1) as pool:
        names = {"self": 1, "fn": 2, "a": 3, "args": 4, "kwargs": 5, "step": 6}
        assert pool.submit(lambda **given: given, **names).result(LONG) == names
        assert pool.submit(lambda *given, **named: (given, named), 1, 2, fn=3).result(LONG) == ((1, 2), {"fn": 3})
