"""map_array() over the loops of NumPy's ufuncs and numba's @vectorize: bit for bit what the ufunc itself gives; what
does not fit is an error before anything runs; what a loop raises on any thread arrives."""

from __future__ import annotations

import array
import ctypes
import functools
import math
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workerpool as wp
from conftest import RunScenario
from support import LONG

np: Any = pytest.importorskip("numpy")

NUMBERS = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16", "g", "G"]
UFUNCS = [
    np.absolute,
    np.add,
    np.arctan2,
    np.bitwise_and,
    np.ceil,
    np.conjugate,
    np.copysign,
    np.divmod,
    np.equal,
    np.exp,
    np.floor_divide,
    np.frexp,
    np.gcd,
    np.greater,
    np.hypot,
    np.invert,
    np.isnan,
    np.ldexp,
    np.left_shift,
    np.logaddexp,
    np.logical_or,
    np.maximum,
    np.modf,
    np.multiply,
    np.negative,
    np.remainder,
    np.sign,
    np.sin,
    np.spacing,
    np.sqrt,
    np.subtract,
    np.tanh,
    np.true_divide,
]


# Before NumPy 2 a number, or an array without dimensions, counted by its value for the type of the result. Here it
# counts by its type, with every NumPy.
TYPES_ALONE_COUNT = int(np.__version__.split(".")[0]) >= 2


@pytest.fixture(scope="module")
def pool() -> Iterator[wp.WorkerPool]:
    with wp.WorkerPool(2) as pool:
        yield pool


@pytest.fixture(params=["map_array", "submit_array"])
def run(request: pytest.FixtureRequest, pool: wp.WorkerPool) -> Callable[..., Any]:
    if request.param == "map_array":
        return pool.map_array
    return lambda *args, **kwargs: pool.submit_array(*args, **kwargs).result(LONG)


def check_same(actual: Any, expected: Any) -> None:
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            check_same(one, other)
        return
    expected = np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.dtype.char in "gG":  # Long doubles have bytes that mean nothing.
        assert np.array_equal(actual, expected, equal_nan=True)
    else:
        assert actual.tobytes() == expected.tobytes()


# Real results of these have one right value, in whichever way they are computed.
ROUNDED_EXACTLY = {
    np.add, np.subtract, np.multiply, np.divide, np.sqrt, np.square, np.reciprocal, np.negative, np.positive,
    np.absolute, np.fabs, np.floor, np.ceil, np.trunc, np.rint, np.maximum, np.minimum, np.fmax, np.fmin, np.copysign,
    np.nextafter, np.spacing, np.fmod, np.modf, np.ldexp, np.frexp, np.sign, np.heaviside, np.conjugate,
}  # fmt: skip
# How far, in units of the last place, the loops that NumPy has for vectors may be from the others. Which one it takes
# depends on strides and on how many elements there are at once, so one element has more than one right result.
MOST_ULPS = 4


def check_close(ufunc: np.ufunc, actual: Any, expected: Any) -> None:
    """The same, but for what NumPy's own loops differ by."""
    if isinstance(expected, tuple):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            check_close(ufunc, one, other)
        return
    expected = np.asarray(expected)
    if expected.dtype.char not in ("FD" if ufunc in ROUNDED_EXACTLY else "fdFD"):
        check_same(actual, expected)
        return
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    reals = [np.ravel(x).view(x.real.dtype) for x in (actual, expected)]
    differ = ~np.equal(*reals) & ~(np.isnan(reals[0]) & np.isnan(reals[1]))
    np.testing.assert_array_max_ulp(reals[0][differ], reals[1][differ], maxulp=MOST_ULPS)


def some_numbers(draw: st.DrawFn, dtype: str, shape: tuple[int, ...]) -> Any:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = random.integers(0 if dtype[0] in "?u" else -100, 100, shape)
    if dtype[0] in "fgcG":
        values = values / 8 + (1j * random.integers(-5, 5, shape) if dtype[0] in "cG" else 0)
    result = np.asarray(values).astype(dtype)
    return result[::-1] if shape and draw(st.booleans()) else result.T.copy().T if draw(st.booleans()) else result


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_what_the_ufunc_itself_gives(pool: wp.WorkerPool, data: st.DataObject) -> None:
    ufunc = data.draw(st.sampled_from(UFUNCS))
    dtype = data.draw(st.sampled_from(NUMBERS))
    shape = tuple(data.draw(st.lists(st.integers(0, 5), min_size=0 if TYPES_ALONE_COUNT else 1, max_size=3)))
    arguments = [some_numbers(data.draw, dtype, shape[data.draw(st.integers(0, max(len(shape) - 1, 0))) :])]
    while len(arguments) < ufunc.nin:
        arguments.append(
            data.draw(st.sampled_from([2, 1.5, True]))
            if TYPES_ALONE_COUNT and data.draw(st.integers(0, 3)) == 0
            else some_numbers(data.draw, "i4" if ufunc is np.ldexp else dtype, shape)
        )
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            expected = ufunc(*arguments)
        except (TypeError, ValueError, OverflowError):
            with pytest.raises((TypeError, ValueError, OverflowError)):
                pool.map_array(ufunc, *arguments)
            return
    try:
        actual = pool.map_array(ufunc, *arguments)
    except TypeError as error:  # The ufunc had to convert something: then that is what the error says.
        message = str(error)
        assert "its loop for these arrays takes" in message or "only arrays of plain numbers" in message, message
        types = ufunc.resolve_dtypes(
            tuple(type(x) if type(x) in {int, float} else np.asarray(x).dtype for x in arguments) + (None,) * ufunc.nout
        )
        assert any(
            type(x) not in {int, float} and np.asarray(x).dtype != its for x, its in zip(arguments, types, strict=False)
        )
        return
    check_close(ufunc, actual, expected)


def test_many_elements(run: Callable[..., Any]) -> None:
    x = np.linspace(-10, 10, 400_001)
    check_same(run(np.sin, x), np.sin(x))
    check_same(run(np.modf, x), np.modf(x))
    table = x[:-1].reshape(1000, 400)
    check_same(run(np.hypot, table[::-1, ::2], table[0, ::2]), np.hypot(table[::-1, ::2], table[0, ::2]))
    out = np.empty_like(x)
    assert run(np.multiply, x, 2, out=out, grain=1000) is out
    check_same(out, x * 2)
    run(np.add, x, x, out=x)
    check_same(x, out)


def test_several_outputs(pool: wp.WorkerPool) -> None:
    x = np.arange(10.0) / 3
    fraction, whole = np.empty(10), np.empty(10)
    result = pool.map_array(np.modf, x, out=(fraction, whole))
    assert result[0] is fraction
    assert result[1] is whole
    check_same(result, np.modf(x))
    result = pool.map_array(np.modf, x, out=(None, whole))
    assert result[1] is whole
    check_same(result, np.modf(x))


def test_python_numbers_follow_the_arrays(pool: wp.WorkerPool) -> None:
    half = np.ones(3, "f2")
    check_same(pool.map_array(np.add, half, 1.5), half + 1.5)
    check_same(pool.map_array(np.add, 1, half), 1 + half)
    check_same(pool.map_array(np.multiply, np.ones(3, "c8"), 1j), np.ones(3, "c8") * 1j)
    check_same(pool.map_array(np.add, True, np.ones(3, "?")), True + np.ones(3, "?"))
    with pytest.raises(OverflowError, match=r"add\(\) argument 2: 300 is out of the range of uint8"):
        pool.map_array(np.add, np.ones(3, "u1"), 300)


def test_other_buffers(pool: wp.WorkerPool) -> None:
    values = array.array("d", [1, 4, 9])
    out = array.array("d", bytes(24))
    assert pool.map_array(np.sqrt, values).tolist() == [1, 2, 3]
    assert pool.map_array(np.sqrt, memoryview(values), out=out) is out
    assert out.tolist() == [1, 2, 3]
    values.append(1)
    out.append(1)


def test_scipy(run: Callable[..., Any]) -> None:
    special = pytest.importorskip("scipy.special")
    x = np.linspace(0.1, 20, 50_000)
    for ufunc in (special.j0, special.gammaln, special.erf):
        check_same(run(ufunc, x), ufunc(x))
    check_same(run(special.jv, 1.5, x), special.jv(1.5, x))


# ---- numba ----


@pytest.fixture(scope="module")
def numba() -> Any:
    return pytest.importorskip("numba")


def test_vectorize(numba: Any, run: Callable[..., Any]) -> None:
    @numba.vectorize(["int64(int64, int64)", "float64(float64, float64)"])  # type: ignore[untyped-decorator]
    def eager(a: Any, b: Any) -> Any:
        return a * b + 1

    x = np.arange(100_000.0)
    check_same(run(eager, x, 3.0), x * 3 + 1)
    check_same(run(eager, x, x[::-1]), x * x[::-1] + 1)
    check_same(run(eager, np.arange(10), 3), np.arange(10) * 3 + 1)


def test_vectorize_without_types_is_compiled_first(numba: Any, run: Callable[..., Any]) -> None:
    @numba.vectorize  # type: ignore[untyped-decorator]
    def lazy(a: Any, b: Any) -> Any:
        return a - b

    check_same(run(lazy, np.arange(10.0), 3.0), np.arange(10.0) - 3)
    with pytest.raises(TypeError, match="its loop for these arrays takes float64, not float32"):
        run(lazy, np.arange(10.0, dtype="f4"), 3.0)


def test_what_a_compiled_function_raises(numba: Any, run: Callable[..., Any]) -> None:
    @numba.vectorize(["int64(int64)"])  # type: ignore[untyped-decorator]
    def picky(a: Any) -> Any:
        if a == 77_777:
            raise ValueError("seventy-seven")
        return a

    values = np.arange(50_000)
    check_same(run(picky, values), values)
    for _ in range(20):
        with pytest.raises(ValueError, match="seventy-seven") as caught:
            run(picky, values + 50_000, grain=1000)
        assert caught.value.__notes__ == ["in the loop of picky(), for elements 27000:28000"]


def test_cfunc(numba: Any, run: Callable[..., Any]) -> None:
    """As a scalar function and as a kernel, by the signatures that numba gives them."""
    types = numba.types
    numbers = types.CPointer(types.float64)

    @numba.cfunc(types.float64(types.float64, types.float64))  # type: ignore[untyped-decorator]
    def scalar(a: Any, b: Any) -> Any:
        return a * b + 1

    @numba.cfunc(types.int32(types.uintp, types.uintp, numbers, types.float64, numbers))  # type: ignore[untyped-decorator]
    def kernel(begin: Any, end: Any, values: Any, factor: Any, out: Any) -> Any:
        for i in range(begin, end):
            out[i] = values[i] * factor
        return 0

    x = np.arange(50_000.0)
    check_same(run(wp.native(scalar), x, 3.0), x * 3 + 1)
    check_same(run(wp.native(kernel), x, 3.0), x * 3)


def test_guvectorize_is_refused(numba: Any, pool: wp.WorkerPool) -> None:
    @numba.guvectorize("(n)->(n)")  # type: ignore[untyped-decorator]
    def rows(a: Any, b: Any) -> None:
        b[:] = a

    with pytest.raises(TypeError, match=r"works on whole rows|takes a NativeFunction"):
        pool.map_array(rows, np.ones(3))


# ---- Errors ----


def test_what_a_loop_raises(run: Callable[..., Any]) -> None:
    """On the calling thread and on workers, which may never have run Python."""
    for _ in range(20):
        with pytest.raises(ValueError, match="negative integer powers") as caught:
            run(np.power, np.arange(1, 100_001), np.array(-1), grain=100)
        assert re.fullmatch(r"in the loop of power\(\), for elements \d+:\d+", caught.value.__notes__[0])
        assert len(caught.value.__notes__) == 1
    assert run(np.power, np.arange(5), 2).tolist() == [0, 1, 4, 9, 16]


def test_exception_of_a_future_is_always_the_same(pool: wp.WorkerPool) -> None:
    future = pool.submit_array(np.power, np.arange(1, 10), -1)
    first = future.exception(LONG)
    assert first is future.exception()
    assert isinstance(first, ValueError)
    assert len(first.__notes__) == 1
    with pytest.raises(ValueError, match="negative integer powers"):
        future.result()


def test_floating_point_errors_give_no_warnings(pool: wp.WorkerPool) -> None:
    with np.errstate(all="raise"):
        assert pool.map_array(np.divide, np.ones(3), 0.0).tolist() == [math.inf] * 3


X = np.arange(10.0)
DEEP = functools.reduce(lambda inner, _: inner * 1, range(70), ctypes.c_double)()
WRONG: list[tuple[Any, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (np.add, (X,), {}, TypeError, "add() takes 2 arguments (1 given)"),
    (np.add, (X, X, X), {}, TypeError, "add() takes 2 arguments (3 given)"),
    (np.sin, (), {}, TypeError, "sin() takes 1 argument (0 given)"),
    (np.sin, (np.arange(3),), {}, TypeError, "sin() argument 1: its loop for these arrays takes float64, not int64"),
    (np.add, (X, np.arange(10)), {}, TypeError, "add() argument 2: its loop for these arrays takes float64, not int64"),
    (
        np.sin,
        (X,),
        {"out": X.astype("f4")},
        TypeError,
        "sin() out: its loop for these arrays gives float64, not float32",
    ),
    (np.modf, (X,), {"out": X}, TypeError, "modf() has 2 outputs: out must be a tuple of 2 arrays"),
    (np.modf, (X,), {"out": (X, X, X)}, TypeError, "modf() has 2 outputs"),
    (np.modf, (X,), {"out": (np.empty(10), np.empty(3))}, ValueError, "modf() out[1]: its shape is (3,)"),
    (np.modf, (X,), {"out": (np.empty(10), np.empty(10, "i8"))}, TypeError, "Cannot cast ufunc 'modf' output 2"),
    (np.modf, (X,), {"out": (np.empty(10), np.empty(10, "f4"))}, TypeError, "modf() out[1]: its loop for these arrays"),
    (np.sin, ([1.0],), {}, TypeError, "sin() argument 1: an array (any object with a buffer) or a number is needed"),
    (np.sin, (X,), {"out": [1.0] * 10}, TypeError, "sin() out: an array (any object with a buffer)"),
    (
        np.sin,
        (X.astype(">f8"),),
        {},
        ValueError,
        "sin() argument 1: its numbers are in the byte order of another machine",
    ),
    (
        np.sin,
        (np.frombuffer(bytes(81), "u1")[1:].view("f8"),),
        {},
        ValueError,
        "sin() argument 1: its elements are not aligned",
    ),
    (np.add, (X, X[:3]), {}, ValueError, "add(): arrays with the shapes [(10,), (3,)] cannot be broadcast"),
    (np.add, (X, X), {"out": np.empty(3)}, ValueError, "add() out: its shape is (3,)"),
    (np.sin, (X[1:],), {"out": X[:-1]}, ValueError, "sin() out: it shares memory with argument 1"),
    (np.modf, (X,), {"out": (X, X)}, ValueError, "modf() out[1]: it shares memory with out[0]"),
    (np.sin, (X,), {"out": np.frombuffer(bytes(80))}, ValueError, "sin() out: this numpy.ndarray is read-only"),
    (np.sin, (X.astype("O"),), {}, TypeError, "sin() argument 1: only arrays of plain numbers"),
    (
        np.add,
        (X.astype("M8[s]"), 1),
        {},
        TypeError,
        "only arrays of plain numbers can be looped over, not datetime64[s]; pass its .view('i8') if the loop is",
    ),
    (
        np.sin,
        (np.float64,),
        {},
        TypeError,
        "sin() argument 1: an array (any object with a buffer) or a number is needed",
    ),
    (np.sin, (X[0],), {"out": np.float64(0)}, ValueError, "sin() out: this numpy.ndarray is read-only"),
    (np.sin, (DEEP,), {}, ValueError, "sin() argument 1: this c_double"),
    (np.sin, (X,), {"out": DEEP}, ValueError, "sin() out: this c_double"),
    (np.matmul, (X, X), {}, TypeError, "matmul() works on whole rows ("),
    (np.bitwise_and, (X, X), {}, TypeError, "bitwise_and"),
    (np.frompyfunc(abs, 1, 1), (X,), {}, TypeError, "works on Python objects, which needs the GIL"),
]


@pytest.mark.parametrize(
    ("ufunc", "arguments", "options", "error", "message"),
    WRONG,
    ids=[f"{row[4][:40]}-{i}" for i, row in enumerate(WRONG)],
)
def test_what_does_not_fit_is_an_error_before_anything_runs(
    pool: wp.WorkerPool,
    ufunc: Any,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    before = pool.stats().lanes["normal"].submitted
    for method in (pool.map_array, pool.submit_array):
        with pytest.raises(error, match=re.escape(message)):
            method(ufunc, *arguments, **options)
    assert pool.stats().lanes["normal"].submitted == before


def test_numpy_is_not_imported_by_the_package(run_scenario: RunScenario) -> None:
    run_scenario(
        """
        import sys
        import workerpool as wp
        with wp.WorkerPool(1) as pool:
            try:
                pool.map_array(abs, b"")
            except TypeError:
                pass
        assert "numpy" not in sys.modules
        """
    )
