"""Wrong use gets a clear error and changes nothing."""

from __future__ import annotations

import inspect
import itertools
import pickle
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest

import workerpool as wp
from support import LONG, Helpers


@pytest.fixture
def pool() -> Any:
    """A pool that must be as it was when the test ends."""
    with wp.WorkerPool(1) as pool:
        assert pool.submit(int, 1).result(LONG) == 1
        pool.drain()
        before = pool.stats()
        yield pool
        after = pool.stats()
        assert (after.lanes, after.unfinished, after.max_workers) == (before.lanes, 0, before.max_workers)
        assert pool.submit(int, 5).result(LONG) == 5


# ---- The list ----


def test_bad_signature_with_its_position() -> None:
    with pytest.raises(wp.SignatureError, match=r"at position 5 of 'int \(intt\)'"):
        wp.native(":abs", "int (intt)")


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_too_few_and_too_many_arguments(pool: Any, helpers: Helpers, count: int) -> None:
    function = helpers.native("sum_bytes", "uint64_t (const void *, size_t)")
    with pytest.raises(TypeError, match=rf"sum_bytes\(\) takes 2 arguments \({count} given\)"):
        pool.submit(function, *[0] * count)


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**200])
def test_value_out_of_range(pool: Any, helpers: Helpers, value: int) -> None:
    function = helpers.native("id_int", "int (int)")
    message = rf"id_int\(\) argument 1: {value} is out of the range of `int`"
    with pytest.raises(OverflowError, match=message):
        pool.submit(function, value)
    with pytest.raises(OverflowError, match=message):
        list(pool.map(function, [value]))
    with pytest.raises(OverflowError, match=message), pool.results() as results:
        results.submit(function, value)


@pytest.mark.parametrize(
    ("buffer", "error", "message"),
    [
        (b"read-only", TypeError, "needs a writable buffer, and this bytes is read-only; pass a writable one"),
        (memoryview(bytearray(8))[::2], ValueError, "is not contiguous; pass a copy"),
        ("text", TypeError, "takes a buffer, a ctypes object, an address or None, not str"),
    ],
)
def test_buffers(pool: Any, helpers: Helpers, buffer: Any, error: type[Exception], message: str) -> None:
    fill = helpers.native("fill_bytes", "void (void *, int, size_t)")
    with pytest.raises(error, match=message):
        pool.submit(fill, buffer, 0, 1)


def test_released_memoryview(pool: Any, helpers: Helpers) -> None:
    view = memoryview(bytearray(8))
    view.release()
    fill = helpers.native("fill_bytes", "void (void *, int, size_t)")
    with pytest.raises(ValueError, match="released memoryview"):
        pool.submit(fill, view, 0, 1)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": -3}, ValueError, "max_workers must be greater than 0"),
        ({"max_workers": "2"}, TypeError, "max_workers must be a whole number or None, not str"),
        ({"max_workers": 2.5}, TypeError, "max_workers must be a whole number or None, not float"),
        ({"queue_size": -1}, ValueError, "queue_size must be at least 0, not -1"),
        ({"queue_size": "x"}, TypeError, "queue_size must be a whole number"),
        ({"on_full": "wait"}, ValueError, "on_full must be 'block', 'raise', .* not 'wait'"),
        ({"on_full": None}, ValueError, "on_full must be 'block', .* not <class 'NoneType'>"),
        ({"fairness": -1}, ValueError, "fairness must be at least 0"),
        ({"lanes": ()}, ValueError, "at least one lane"),
        ({"lanes": ("a", "a")}, ValueError, "different names"),
        ({"lanes": 5}, TypeError, "lanes must be iterable, which int is not"),
        ({"lanes": itertools.count()}, TypeError, "lanes must be names or workerpool.Lane objects, not int"),
        ({"lanes": map(str, itertools.count())}, ValueError, "lanes must be at most 16"),
        ({"lanes": [wp.Lane(5)]}, TypeError, "name of a lane in lanes must be a str, not int"),
        ({"lanes": ["\ud800"]}, ValueError, "name of a lane in lanes must be text that UTF-8 can hold"),
        ({"lanes": [wp.Lane("a", -1)]}, ValueError, "capacity of lane 'a' in lanes must be at least 0"),
        ({"lanes": [wp.Lane("a", max_running=0)]}, ValueError, "max_running of lane 'a' in lanes must be at least 1"),
        ({"initializer": 5}, TypeError, "initializer must be a callable"),
        ({"initargs": 5}, TypeError, "initargs must be iterable, which int is not"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout must not be negative"),
        ({"idle_timeout": "x"}, TypeError, "idle_timeout must be a number of seconds"),
        ({"idle_timeout": 10**400}, OverflowError, "idle_timeout is too large a number of seconds"),
        ({"stack_size": 1}, ValueError, "stack_size must be at least"),
        ({"stack_size": 65536}, ValueError, "stack_size must be at least"),
        ({"stack_size": 2**60}, ValueError, f"stack_size is {2**60} bytes, for which the system has no room"),
        ({"stack_size": 2**200}, ValueError, "stack_size is .* bytes, for which the system has no room"),
        ({"fairness": -(10**5000)}, ValueError, "fairness must be at least 0, not a negative one of 16610 bits"),
        ({"thread_name_prefix": 5}, TypeError, "thread_name_prefix must be a str, not int"),
        ({"thread_name_prefix": "\ud800"}, ValueError, "thread_name_prefix must be text that UTF-8 can hold"),
        ({"bogus": 1}, TypeError, "bogus"),
    ],
)
def test_constructor(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wp.WorkerPool(**options)


def test_numbers_beyond_all_are_as_many_as_there_can_be() -> None:
    """And not what remains of their bits."""
    huge = 2**64 + 1
    lanes = [wp.Lane("a", capacity=huge, max_running=2**32 + 1), "b"]
    with wp.WorkerPool(huge, lanes=lanes, fairness=huge, inner_threads=huge) as pool:
        assert pool.stats().max_workers == 2**31 - 1
        assert pool.stats().lanes["a"].capacity == 2**63
        pool.resize(2)
        barrier = threading.Barrier(2)
        together = [pool.lane("a").submit(barrier.wait, LONG) for _ in range(2)]
        assert {future.result(LONG) for future in together} == {0, 1}
        assert list(pool.map(int, "123", chunksize=huge, buffersize=huge)) == [1, 2, 3]
        with pool.results(maxsize=huge) as results:
            assert [results.submit(int) for _ in range(3)] == [0, 1, 2]
    with wp.ThreadPoolExecutor(1) as executor:
        assert list(executor.map(int, "123", buffersize=huge)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        ("x", TypeError, "max_workers must be a whole number, not str"),
        (0, ValueError, "max_workers must be greater than 0"),
        (-(2**70), ValueError, "max_workers must be greater than 0"),
        (2**31, ValueError, "max_workers must be at most 2147483647"),
        (2**70, ValueError, "max_workers must be at most 2147483647"),
    ],
)
def test_resize(pool: Any, size: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pool.resize(size)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((":abs", b"int (int)"), TypeError, "signature must be a str or None, not bytes"),
        ((":abs", "int (int)", 5), TypeError, "name must be a str or None, not int"),
        ((":abs", "int (int)", "\ud800"), ValueError, "name must be text that UTF-8 can hold"),
        ((":abs", "int (\ud800)"), wp.SignatureError, "unexpected character, at position 5 of"),
        ((":abs", "int (int)", None, 5), ValueError, "raises must be .*, not <class 'int'>"),
        ((0, "int (int)"), ValueError, r"native\(\): the address of a native function must not be 0"),
        ((2**64, "int (int)"), OverflowError, r"native\(\): an address must be positive and below"),
        ((":abs\0", "int (int)"), ValueError, r"native\(\) takes a name as"),
        ((":abs\ud800", "int (int)"), AttributeError, r"native\(\): the process itself .* has no symbol"),
        (("libffi:abs", "int (int)"), OSError, r"native\(\): the library 'libffi' cannot be loaded"),
        (("lib\ud800:abs", "int (int)"), OSError, r"native\(\): the library .* cannot be loaded"),
    ],
)
def test_native(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    names = ["target", "signature", "name", "raises"]
    with pytest.raises(error, match=message):
        wp.native(**dict(zip(names, arguments, strict=False)))


def test_constructor_called_twice(pool: Any) -> None:
    with pytest.raises(RuntimeError, match="called twice"):
        pool.__init__(3)


@pytest.mark.parametrize("lane", ["", "urgent", "normal ", 0])
def test_unknown_lane(pool: Any, lane: Any) -> None:
    with pytest.raises(ValueError, match=r"there is no lane .*this pool has \('high', 'normal', 'low'\)"):
        pool.lane(lane)


def test_submit_after_shutdown(helpers: Helpers) -> None:
    pool = wp.WorkerPool(1)
    view = pool.lane("high")
    results = pool.results()
    pool.shutdown()
    function = helpers.native("id_int", "int (int)")
    for act in (
        lambda: pool.submit(int),
        lambda: pool.submit(function, 1),
        lambda: pool.map(int, [1]),
        lambda: view.submit(int),
        lambda: view.map(int, [1]),
        lambda: results.submit(int),
        lambda: pool.options(on_full="discard").submit(int),
        lambda: pool.options(on_full="caller_runs").submit(int),
    ):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            act()
    assert pool.stats().lanes["normal"].submitted == 0


@pytest.mark.parametrize("token", ["token", 5, object(), wp.CancelToken, wp.Future()])
def test_token_from_elsewhere(pool: Any, token: Any) -> None:
    with pytest.raises(TypeError, match=r"must be a workerpool\.CancelToken or None, not"):
        pool.options(token=token)
    with pytest.raises(TypeError, match=r"must be a workerpool\.CancelToken or None, not"):
        wp.CancelToken(parent=token)


# ---- More of it ----


@pytest.mark.parametrize("wrong", [None, 5, "int", b"", [], object()])
def test_what_is_no_function(pool: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"submit\(\) takes a callable or a NativeFunction, not"):
        pool.submit(wrong)
    with pytest.raises(TypeError, match="callable"):
        pool.map(wrong, [1])
    with pytest.raises(TypeError, match="callable"), pool.results() as results:
        results.submit(wrong)


def test_methods_are_called_by_the_class_that_users_know(pool: Any) -> None:
    for call, name in (
        (pool.map_array, "map_array"),
        (pool.lane("high").submit_array, "submit_array"),
        (pool.map, "map"),
        (pool.lane, "lane"),
    ):
        with pytest.raises(TypeError, match=rf"^WorkerPool\.{name}\(\) missing 1 required positional argument"):
            call()
    assert pickle.loads(pickle.dumps(wp.WorkerPool.map_array)) is wp.WorkerPool.map_array


def test_submit_without_anything(pool: Any) -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'fn'"):
        pool.submit()
    with pytest.raises(TypeError, match="fn"):
        pool.submit(fn=int)


def test_options(pool: Any) -> None:
    for options, error, message in (
        ({"label": 5}, TypeError, "label must be a str or None"),
        ({"label": "\ud800"}, ValueError, "label must be text that UTF-8 can hold"),
        ({"on_full": "never"}, ValueError, "on_full must be"),
        ({"bogus": 1}, TypeError, "bogus"),
        ({"run_timeout": -0.1}, ValueError, "run_timeout must not be negative"),
    ):
        with pytest.raises(error, match=message):
            pool.options(**options)
    with pytest.raises(TypeError):
        pool.options("high")


def test_types_that_are_not_made_by_hand(pool: Any) -> None:
    for kind in (wp.Result, wp.Job):
        with pytest.raises(TypeError):
            kind()
    for kind in (wp.View, wp.Results, wp.NativeFunction):
        with pytest.raises(TypeError):
            kind()
        with pytest.raises((TypeError, AttributeError)):
            kind(5, 5)


def test_what_cannot_be_pickled(pool: Any) -> None:
    for thing in (pool, pool.lane("high"), wp.Future(), wp.CancelToken(), pool.results()):
        with pytest.raises((TypeError, AttributeError)):
            pickle.dumps(thing)


def test_token_arguments() -> None:
    for arguments, error in (
        (("x",), TypeError),
        ((-1,), ValueError),
        ((float("nan"),), ValueError),
        ((1, 2), TypeError),
    ):
        with pytest.raises(error):
            wp.CancelToken(*arguments)


def test_cancelled_token_says_so(pool: Any) -> None:
    token = wp.CancelToken()
    token.cancel()
    for act in (
        lambda: pool.options(token=token).submit(int),
        lambda: list(pool.options(token=token).map(int, [1])),
        lambda: pool.options(token=token).results().submit(int),
    ):
        with pytest.raises(CancelledError, match="cancelled"):
            act()


def test_errors_are_one_family() -> None:
    errors = [kind for _, kind in inspect.getmembers(wp, inspect.isclass) if issubclass(kind, Exception)]
    assert set(errors) == {
        wp.Error,
        wp.DeadlockError,
        wp.QueueFull,
        wp.SubmitTimeout,
        wp.JobExpired,
        wp.JobTimeout,
        wp.BrokenPool,
        wp.NativeError,
        wp.SignatureError,
    }
    assert all(issubclass(error, wp.Error) for error in errors)
    assert all(error.__module__ == "workerpool" for error in errors)
    assert all(inspect.getdoc(error) for error in errors)


def test_everything_public_is_there_and_documented() -> None:
    assert sorted(wp.__all__) == sorted(set(wp.__all__))
    for name in wp.__all__:
        assert hasattr(wp, name)
        if name != "__version__":
            assert inspect.getdoc(getattr(wp, name)), name
    for kind in (wp.WorkerPool, wp.View, wp.Future, wp.CancelToken, wp.Results, wp.NativeFunction):
        for name, member in inspect.getmembers(kind):
            if not name.startswith("_"):
                assert inspect.getdoc(member), f"{kind.__name__}.{name}"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_of_this_process_is_pickled(protocol: int) -> None:
    class Own(wp.WorkerPool):
        def __getstate__(self) -> Any:
            return {}

    class Reduced(wp.WorkerPool):
        def __reduce__(self) -> Any:
            return int, ()

    with wp.ThreadPoolExecutor(1) as drop_in, wp.WorkerPool(1) as pool, Own(1) as own, Reduced(1) as reduced:
        results = pool.results()
        results.submit(int)
        job = pool.submit(wp.current_job).result(LONG)
        lane = pool.lane("low")
        things = [drop_in, pool, own, lane, results, results.get(), job, pool.submit(int), pool.map(int, [1])]
        things += [wp.CancelToken(), wp.Future()]
        for thing in things:
            with pytest.raises(TypeError, match="cannot pickle"):
                pickle.dumps(thing, protocol)
        assert pickle.loads(pickle.dumps(reduced, protocol)) == 0
