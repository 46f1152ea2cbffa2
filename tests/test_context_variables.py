"""What a job sees of context variables, and that jobs do not share what is changed in place."""

from __future__ import annotations

import contextvars
import decimal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, occupied

BOTH = pytest.mark.parametrize("make", [wp.ThreadPoolExecutor, wp.WorkerPool])
pytestmark = pytest.mark.keeps("the context of the main thread keeps each variable that was set in it")

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable", default="unset")
other: contextvars.ContextVar[Any] = contextvars.ContextVar("other", default="unset")


def in_a_context_of_its_own(function: Callable[..., Any], *args: Any) -> Any:
    return contextvars.Context().run(function, *args)


@pytest.fixture(autouse=True)
def decimal_context() -> Iterator[None]:
    with decimal.localcontext():
        yield


def thirds(digits: int) -> bool:
    """Whether a job's precision is its own while others set theirs."""
    decimal.getcontext().prec = digits
    for _ in range(20):
        threading.Event().wait(0.0001)
        if len(str(decimal.Decimal(1) / 3)) - 2 != digits:
            return False
    return True


@BOTH
def test_jobs_share_the_submitters_decimal_context(make: Any) -> None:
    decimal.getcontext().prec = 28
    with make(4) as pool:
        futures = [pool.submit(thirds, 5 + i % 20) for i in range(60)]
        assert all(future.result(LONG) for future in futures)
        assert all(pool.map(thirds, [5 + i % 20 for i in range(60)]))
        assert all(pool.map(thirds, [5 + i % 20 for i in range(60)], chunksize=10, in_order=False))
    assert decimal.getcontext().prec == 28


@BOTH
def test_job_that_the_submitter_runs_itself_changes_its_decimal_context(make: Any) -> None:
    decimal.getcontext().prec = 28
    with make(1) as pool:
        lane = pool.options(on_full="caller_runs")
        with occupied(pool):
            futures = [lane.submit(thirds, 7) for _ in range(1100)]
        assert all(future.result(LONG) for future in futures)
    assert decimal.getcontext().prec == 28
    assert variable.get() == "unset"


def test_job_sees_the_decimal_context_as_it_was_at_submit() -> None:
    precision = lambda *_: decimal.getcontext().prec  # noqa: E731
    with wp.WorkerPool(1) as pool, occupied(pool):
        decimal.getcontext().prec = 11
        future = pool.submit(precision)
        mapped = pool.map(precision, range(3))
        decimal.getcontext().prec = 12
    assert future.result(LONG) == 11
    assert list(mapped) == [11] * 3


@BOTH
def test_initializers_variables_are_never_seen(make: Any) -> None:
    def initialize() -> None:
        variable.set("by the initializer")
        decimal.getcontext().prec = 5

    def look(_: Any = None) -> tuple[Any, int]:
        return variable.get(), decimal.getcontext().prec

    def use() -> None:
        assert pool.submit(look).result(LONG) == ("by the initializer", 5)
        assert list(pool.map(look, range(5))) == [("by the initializer", 5)] * 5
        other.set("by the submitter")
        assert pool.submit(look).result(LONG) == ("by the initializer", 5)
        assert list(pool.map(look, range(5))) == [("by the initializer", 5)] * 5

    with make(2, initializer=initialize) as pool:
        in_a_context_of_its_own(use)


def test_submitters_variable_comes_before_the_initializers() -> None:
    def use() -> None:
        variable.set("by the submitter")
        decimal.getcontext().prec = 9
        assert pool.submit(variable.get).result(LONG) == "by the submitter"
        assert pool.submit(lambda: decimal.getcontext().prec).result(LONG) == 9

    def initialize() -> None:
        variable.set("by the initializer")
        decimal.getcontext().prec = 5

    with wp.WorkerPool(1, initializer=initialize) as pool:
        in_a_context_of_its_own(use)
        assert in_a_context_of_its_own(pool.submit, variable.get).result(LONG) == "by the initializer"


def precision(_: Any = None) -> int:
    return decimal.getcontext().prec


@pytest.mark.parametrize("use", [decimal.getcontext, lambda: decimal.Decimal(1) / 3])
def test_submitter_that_only_used_decimal_hides_what_the_initializer_set(use: Callable[[], Any]) -> None:
    def submit() -> None:
        use()
        assert pool.submit(precision).result(LONG) == 7
        assert list(pool.map(precision, range(3))) == [7] * 3
        assert list(pool.map(precision, range(20), chunksize=10)) == [7] * 20
        with pool.results() as results:
            results.submit(precision)
            results.close()
            assert [outcome.value for outcome in results] == [7]

    def initialize() -> None:
        decimal.getcontext().prec = 7

    with wp.WorkerPool(1, initializer=initialize) as pool:
        in_a_context_of_its_own(submit)


SETTINGS = [
    {"prec": 9},
    {"rounding": decimal.ROUND_UP},
    {"Emin": -9},
    {"Emax": 9},
    {"capitals": 0},
    {"clamp": 1},
    {"traps": [decimal.Inexact]},
    {"traps": []},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_each_setting_of_decimal_makes_the_context_the_submitters(setting: dict[str, Any]) -> None:
    def submit() -> None:
        decimal.setcontext(decimal.Context(**setting))
        expected = decimal.getcontext()
        seen = pool.submit(decimal.getcontext).result(LONG)
        assert repr(seen) == repr(expected)

    def initialize() -> None:
        decimal.getcontext().prec = 7

    with wp.WorkerPool(1, initializer=initialize) as pool:
        in_a_context_of_its_own(submit)


def test_default_context_that_was_changed_is_the_default(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import decimal, workerpool as wp

        decimal.DefaultContext.prec = 12
        decimal.setcontext(decimal.DefaultContext)
        with wp.WorkerPool(1, initializer=lambda: setattr(decimal.getcontext(), "prec", 7)) as pool:
            print(pool.submit(lambda: decimal.getcontext().prec).result())
            decimal.getcontext().prec = 28
            print(pool.submit(lambda: decimal.getcontext().prec).result())
        """
    )
    assert done.stdout == "7\n28\n"


@pytest.mark.parametrize("change", ["del decimal.DefaultContext", "decimal.DefaultContext = None"])
def test_decimal_without_its_defaults(run_scenario: RunScenario, change: str) -> None:
    done = run_scenario(
        f"""
        import decimal, workerpool as wp

        decimal.getcontext()
        {change}
        with wp.WorkerPool(1, initializer=lambda: setattr(decimal.getcontext(), "prec", 7)) as pool:
            print(pool.submit(lambda: decimal.getcontext().prec).result())
        """
    )
    assert done.stdout == "28\n"


def test_jobs_change_what_the_initializer_set() -> None:
    def initialize() -> None:
        decimal.getcontext().prec = 5
        variable.set("first")

    def change(_: Any = None) -> tuple[int, Any]:
        seen = decimal.getcontext().prec, variable.get()
        decimal.getcontext().prec = 50
        variable.set("changed")
        return seen

    def use() -> None:
        for _ in range(3):
            assert pool.submit(change).result(LONG) == (5, "first")
        assert list(pool.map(change, range(20))) == [(5, "first")] * 20
        other.set(1)
        assert pool.submit(change).result(LONG) == (5, "first")
        assert list(pool.map(change, range(20))) == [(5, "first")] * 20

    with wp.WorkerPool(1, initializer=initialize) as pool:
        in_a_context_of_its_own(use)


def test_call_of_a_map_sees_what_another_has_set() -> None:
    def change(i: int) -> Any:
        seen = variable.get()
        variable.set(i)
        return seen

    with wp.WorkerPool(1) as pool:
        assert list(pool.map(change, range(100))) == ["unset"] * 100
        assert list(pool.map(change, range(100), chunksize=20)) == ["unset"] * 100


def test_drop_in_captures_the_submitters_context() -> None:
    """The standard library's does not: there jobs run in the worker's own."""

    def use() -> None:
        variable.set("by the submitter")
        assert pool.submit(variable.get).result(LONG) == "unset"
        assert list(pool.map(lambda _: variable.get(), range(3))) == ["unset"] * 3
        pool.submit(variable.set, "by a job").result(LONG)
        assert pool.submit(variable.get).result(LONG) == "by a job"
        assert list(pool.map(lambda _: variable.get(), range(3))) == ["by a job"] * 3
        assert pool.submit(contextvars.copy_context().run, variable.get).result(LONG) == "by the submitter"

    with wp.ThreadPoolExecutor(1) as pool:
        in_a_context_of_its_own(use)


def test_nested_job_in_a_drop_in_sees_or_changes_the_context_that_the_outer_has_entered() -> None:
    def inner() -> Any:
        seen = variable.get()
        variable.set("by the inner")
        decimal.getcontext().prec = 3
        return seen

    def outer() -> tuple[Any, Any, int]:
        decimal.getcontext().prec = 10
        variable.set("by the outer")
        seen = contextvars.Context().run(lambda: pool.submit(inner).result(LONG))
        return seen, variable.get(), decimal.getcontext().prec

    with wp.ThreadPoolExecutor(1) as pool:
        assert pool.submit(outer).result(LONG) == ("by the outer", "by the outer", 10)


def test_decimal_is_not_imported(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import contextvars, sys, workerpool as wp

        variable = contextvars.ContextVar("variable")
        variable.set(1)
        with wp.WorkerPool(1, initializer=variable.set, initargs=(2,)) as pool:
            print(pool.submit(variable.get).result(), "decimal" in sys.modules)
            import decimal
            decimal.getcontext().prec = 4
            print(pool.submit(lambda: setattr(decimal.getcontext(), "prec", 9)).result(), decimal.getcontext().prec)
        """
    )
    assert done.stdout == "1 False\nNone 4\n"


@pytest.mark.parametrize("inherit", ["0", "1"])
def test_thread_inherit_context(run_scenario: RunScenario, inherit: str) -> None:
    """From 3.14 on: with the option a new thread begins with a copy of the context of who starts it."""
    code = """
        import contextvars, decimal, sys, concurrent.futures as cf, workerpool as wp

        variable = contextvars.ContextVar("variable", default="unset")
        for make in cf.ThreadPoolExecutor, wp.ThreadPoolExecutor:
            variable.set("by the main thread")
            seen = []
            with make(1, initializer=lambda: seen.append(variable.get())) as pool:
                pool.submit(int).result()
                variable.set("later")
                print(seen, pool.submit(variable.get).result())
        """
    if not hasattr(__import__("sys").flags, "thread_inherit_context"):
        pytest.skip("came with 3.14")
    done = run_scenario(code, options=("-X", "dev", "-W", "error", "-X", f"thread_inherit_context={inherit}"))
    standard, ours = done.stdout.splitlines()
    assert ours == standard


@BOTH
def test_decimal_context_whose_copy_is_no_context(make: Any, run_scenario: RunScenario) -> None:
    """The decimal module takes for a context what its variable holds."""
    done = run_scenario(
        f"""
        import decimal, workerpool

        class Context(decimal.Context):
            def copy(self):
                return object()

        def divide(n=3):
            return decimal.Decimal(1) / n

        decimal.setcontext(Context(prec=5))
        with workerpool.{make.__name__}(1, initializer=decimal.setcontext, initargs=(Context(prec=5),)) as pool:
            print(pool.submit(divide).result(), *pool.map(divide, [3]))
        """
    )
    assert done.stdout == "0.33333 0.33333\n"
