"""map_array() and submit_array(): every element is what a direct call gives, bit for bit, and nothing else is written;
what does not fit is an error before anything runs; a loop that is stopped says how far it came."""

from __future__ import annotations

import array
import ctypes
import gc
import itertools
import math
import re
import struct
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workerpool as wp
from conftest import RunScenario
from support import FREE_THREADED, LONG, Helpers, NativeGate, occupied, wait_until

np: Any = pytest.importorskip("numpy")


@pytest.fixture(scope="module")
def pool() -> Iterator[wp.WorkerPool]:
    with wp.WorkerPool(2) as pool:
        yield pool


@pytest.fixture(params=["map_array", "submit_array"])
def run(request: pytest.FixtureRequest, pool: wp.WorkerPool) -> Callable[..., Any]:
    """The loop in both ways; each returns the result."""
    if request.param == "map_array":
        return pool.map_array
    return lambda *args, **kwargs: pool.submit_array(*args, **kwargs).result(LONG)


# ---- Arrays of every kind ----

DTYPES = {
    "bool": ("?", "id_bool"),
    "signed char": ("i1", "id_schar"),
    "unsigned char": ("u1", "id_uchar"),
    "short": ("i2", "id_short"),
    "unsigned short": ("u2", "id_ushort"),
    "int": ("i4", "id_int"),
    "unsigned int": ("u4", "id_uint"),
    "long long": ("i8", "id_llong"),
    "unsigned long long": ("u8", "id_ullong"),
    "float": ("f4", "id_float"),
    "double": ("f8", "id_double"),
}


def random_array(draw: st.DrawFn, dtype: str, shape: tuple[int, ...]) -> Any:
    """An array of that shape, and of any layout: in any order of dimensions, reversed, with gaps, at an offset."""
    axes = draw(st.permutations(range(len(shape))))
    gaps = [draw(st.integers(1, 2)) for _ in shape]
    base_shape = [shape[axis] * gap for axis, gap in zip(axes, gaps, strict=True)]
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = math.prod(base_shape)
    if dtype == "?":
        flat = random.integers(0, 2, size).astype("?")
    else:
        flat = np.frombuffer(random.bytes(size * np.dtype(dtype).itemsize + 16), dtype, size, 8).copy()
    if dtype in {"f4", "f8"}:
        flat[np.isnan(flat)] = 1.5  # A number that signals may come back quiet from a call through libffi.
    steps = [slice(None, None, gap * draw(st.sampled_from([1, 1, -1]))) for gap in gaps]
    return flat.reshape(base_shape)[(*steps, ...)].transpose([axes.index(axis) for axis in range(len(shape))])


def broadcast_to_random(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that is broadcast to this one: some lengths 1, some of the first dimensions left out."""
    lengths = [1 if draw(st.integers(0, 4)) == 0 else length for length in shape]
    return tuple(lengths[draw(st.integers(0, len(shape))) if draw(st.booleans()) else 0 :])


SHAPES = st.lists(st.integers(0, 6), max_size=4).map(tuple)


def called_directly(fn: wp.NativeFunction, dtype: Any, *arguments: Any) -> Any:
    """The result of a plain call for each element."""
    given = np.broadcast_arrays(*arguments)
    result = np.empty(given[0].shape, dtype)
    for index in np.ndindex(result.shape):
        result[index] = fn(*[array[index].item() for array in given])
    return result


def check_same(actual: Any, expected: Any) -> None:
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert actual.tobytes() == expected.tobytes()


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_one_array_of_any_type_and_layout(helpers: Helpers, pool: wp.WorkerPool, data: st.DataObject) -> None:
    spelling, (dtype, name) = data.draw(st.sampled_from(sorted(DTYPES.items())))
    fn = helpers.native(name, f"{spelling} ({spelling})")
    values = random_array(data.draw, dtype, data.draw(SHAPES))
    check_same(pool.map_array(fn, values), np.array(values))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_arrays_are_broadcast(helpers: Helpers, pool: wp.WorkerPool, data: st.DataObject) -> None:
    fn = helpers.native("sum_doubles", "double (double, double, double, double)")
    shape = data.draw(SHAPES)
    values = [random_array(data.draw, "f8", broadcast_to_random(data.draw, shape)) for _ in range(4)]
    grain = data.draw(st.sampled_from([None, 1, 7]))
    expected = called_directly(fn, "f8", *values)
    check_same(pool.map_array(fn, *values, grain=grain), expected)
    out = random_array(data.draw, "f8", expected.shape)
    assert pool.map_array(fn, *values, out=out, grain=grain) is out
    check_same(out, expected)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_twelve_mixed_arrays(helpers: Helpers, pool: wp.WorkerPool, data: st.DataObject) -> None:
    signature = (
        "double (int8_t, float, uint16_t, double, int32_t, float, uint64_t, double, int64_t, const unsigned char *, "
        "bool, double)"
    )
    fn = helpers.native("mixed", signature)
    dtypes = ["i1", "f4", "u2", "f8", "i4", "f4", "u8", "f8", "i8", None, "?", "f8"]
    shape = data.draw(SHAPES)
    values = [
        b"\7" if dtype is None else random_array(data.draw, dtype, broadcast_to_random(data.draw, shape))
        for dtype in dtypes
    ]
    whole = np.broadcast_shapes(*[value.shape for value in values if not isinstance(value, bytes)])
    expected = np.empty(whole)
    for index in np.ndindex(whole):
        expected[index] = fn(*[v if isinstance(v, bytes) else np.broadcast_to(v, whole)[index].item() for v in values])
    check_same(pool.map_array(fn, *values), expected)


def test_many_elements(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("sum_doubles", "double (double, double, double, double)")
    x, y = np.arange(300_000.0), np.arange(300_000.0)[::-1]
    check_same(run(fn, x, y, 1, 0.5), x + y + 1 + 0.5)
    table = np.arange(600_000.0).reshape(600, 1000)
    check_same(run(fn, table, table[:, :1], table[:1], 2), table + table[:, :1] + table[:1] + 2)
    check_same(run(fn, table[::-1, ::-2], 0, 0, 1), table[::-1, ::-2] + 1)


@pytest.mark.parametrize("force_libffi", [False, True])
def test_routes(helpers: Helpers, pool: wp.WorkerPool, force_libffi: bool) -> None:
    try:
        fn = helpers.native("sum_doubles", "double (double, double, double, double)", force_libffi=force_libffi)
    except wp.SignatureError:
        pytest.skip("built without libffi")
    x = np.linspace(0, 1, 1000)
    check_same(pool.map_array(fn, x, 1, x, 2), x + 1 + x + 2)


def test_numbers_are_converted(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("sum_doubles", "double (double, double, double, double)")
    values = np.arange(3.0)
    numbers = [1, 1.0, True, np.float64(1), np.float32(1), np.int16(1), np.array(1), np.array(1.0, "f4")]
    for number in numbers:
        check_same(pool.map_array(fn, values, number, number, 0), values + 2)
    only_numbers = pool.map_array(fn, 1, 2, 3, 4)
    assert only_numbers.shape == ()
    assert only_numbers == 10
    filled = np.zeros((2, 3))
    pool.map_array(fn, 1, 2, 3, 4, out=filled)
    assert (filled == 10).all()


def test_any_buffer_will_do(helpers: Helpers, pool: wp.WorkerPool) -> None:
    double = helpers.native("id_double", "double (double)")
    expected = np.array([1.0, 2.0, 3.0])
    for buffer in (
        array.array("d", expected),
        memoryview(array.array("d", expected)),
        (ctypes.c_double * 3)(*expected),
        memoryview(struct.pack("3d", *expected)).cast("d"),
    ):
        check_same(pool.map_array(double, buffer), expected)
    out = array.array("d", bytes(24))
    assert pool.map_array(double, expected, out=out) is out
    assert out.tolist() == [1, 2, 3]
    view = memoryview(bytearray(48)).cast("d")[::-2]
    pool.map_array(double, expected, out=view)
    assert view.tolist() == [1, 2, 3]
    grid = (ctypes.c_int16 * 3 * 2)((1, 2, 3), (4, 5, 6))
    short = helpers.native("id_short", "short (short)")
    check_same(pool.map_array(short, grid), np.array([[1, 2, 3], [4, 5, 6]], "i2"))
    assert pool.map_array(helpers.native("id_char", "char (char)"), (ctypes.c_char * 2)(b"a", b"b")).tolist() == [
        97,
        98,
    ]


def test_results_lie_in_memory_as_the_arrays_do(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("id_double", "double (double)")
    for order in itertools.permutations(range(3)):
        values = np.arange(24.0).reshape(2, 3, 4).transpose(order)
        result = pool.map_array(fn, values)
        assert result.strides == values.strides
        check_same(result, np.array(values, order="K"))


def test_in_place(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("sum_doubles", "double (double, double, double, double)")
    values = np.arange(1000.0)
    run(fn, values, values, 1, 1, out=values)
    check_same(values, np.arange(1000.0) * 2 + 2)
    run(fn, values[::-3], 0, 0, 1, out=values[::-3])
    check_same(values[::-3], (np.arange(1000.0) * 2 + 3)[::-3])


def test_pointer_is_the_same_for_all(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("weigh", "double (double, double, const double *)")
    weights = array.array("d", [2, 10])
    check_same(run(fn, np.arange(5.0), 1, weights), np.arange(5.0) * 2 + 10)
    check_same(run(fn, np.arange(5.0), np.ones(5), weights.buffer_info()[0]), np.arange(5.0) * 2 + 10)


def test_bound_parameters_are_not_given(helpers: Helpers, run: Callable[..., Any]) -> None:
    """User data, as a scipy.LowLevelCallable has it."""
    weights = array.array("d", [2, 10])
    address = helpers.native("weigh", "double (double)").address
    bound = (weights.buffer_info()[0],)
    fn = wp.NativeFunction(address, "double (double, double, const double *)", "weigh", weights, bound=bound)
    check_same(run(fn, np.arange(5.0), 1), np.arange(5.0) * 2 + 10)
    with pytest.raises(TypeError, match=r"takes 2 arguments \(3 given\)"):
        run(fn, np.arange(5.0), 1, weights)
    counts = (ctypes.c_ubyte * 100)()
    address = helpers.native("count_range", "double (double)").address
    bound = (ctypes.addressof(counts),)
    kernel = wp.NativeFunction(address, "int (size_t, size_t, void *)", "count_range", counts, bound=bound)
    assert run(kernel, range(100)) is None
    assert bytes(counts) == b"\1" * 100
    with pytest.raises(TypeError, match=r"give a range\(n\) as the first argument"):
        run(kernel)


def test_function_without_arrays_fills_the_output(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("add_to", "int64_t (int64_t *, int64_t)")
    total = (ctypes.c_int64 * 1)()
    out = np.empty((10, 20), "i8")
    pool.map_array(fn, total, 3, out=out)
    assert total[0] == 600
    assert sorted(out.ravel()) == list(range(3, 603, 3))


def test_empty_arrays_call_nothing(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("not_negative", "int (int)", raises="nonzero")
    assert run(fn, np.empty(0, "i4")).shape == (0,)
    assert run(fn, np.empty((3, 0, 2), "i4")).shape == (3, 0, 2)
    count = helpers.native("count_range", "int (size_t, size_t, void *)")
    assert run(count, range(0), bytearray()) is None
    kernel = helpers.native(*KERNEL)
    assert run(kernel, np.empty((0, 3)), 2).shape == (0, 3)


def test_without_numpy(run_scenario: RunScenario, helpers_path: str) -> None:
    run_scenario(
        f"""
        import array, sys
        import workerpool as wp

        sums = wp.native("{helpers_path}:sum_doubles", "double (double, double, double, double)")
        truth = wp.native("{helpers_path}:id_bool", "bool (bool)")
        scale = wp.native("{helpers_path}:scale_range", "int (size_t, size_t, const double *, double, double *)")
        with wp.WorkerPool(2) as pool:
            result = pool.map_array(sums, array.array("d", range(100)), 1, 0, 0)
            assert isinstance(result, memoryview) and result.tolist() == [float(i + 1) for i in range(100)]
            table = memoryview(array.array("d", range(6))).cast("B").cast("d", [2, 3])
            assert pool.map_array(sums, table, 0, 0, 0.5).tolist() == [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]]
            assert pool.submit_array(truth, memoryview(b"\\0\\1").cast("?")).result().tolist() == [False, True]
            assert pool.map_array(sums, 1, 2, 3, 4).tolist() == 10
            assert pool.map_array(scale, array.array("d", [1, 2]), 2.0).tolist() == [2, 4]
            assert len(pool.map_array(sums, array.array("d"), 1, 0, 0)) == 0
            assert len(pool.map_array(scale, array.array("d"), 1.0)) == 0
            try:
                pool.map_array(sums, array.array("f", [1]), 0, 0, 0)
            except TypeError as error:
                assert "takes float64, not float32" in str(error)
        assert "numpy" not in sys.modules
        """
    )


# ---- Kernels ----


def test_kernel(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("scale_range", "int (size_t begin, size_t end, const double *in, double factor, double *out)")
    values = np.arange(100_000.0).reshape(100, 1000)
    check_same(run(fn, values, 3), values * 3)
    out = np.zeros_like(values)
    assert run(fn, values, 3, out=out) is out
    check_same(out, values * 3)
    assert run(fn, values, 2, out) is None
    check_same(out, values * 2)
    run(fn, values, 0.5, out=values)
    check_same(values, np.arange(100_000.0).reshape(100, 1000) * 0.5)


def test_kernel_over_a_range(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("scale_range", "int (size_t begin, size_t end, const double *in, double factor, double *out)")
    out = np.zeros(50)
    run(fn, range(10, 20), np.arange(100.0), 2, out=out)
    assert out.tolist() == [0.0] * 10 + [2.0 * i for i in range(10, 20)] + [0.0] * 30
    assert run(fn, range(5), np.arange(100.0), 2).tolist() == [0, 2, 4, 6, 8]
    run(fn, range(20, 10), np.arange(100.0), 2, out=out)


@pytest.mark.parametrize("grain", [None, 1, 7, 1000, 10**30])
def test_kernel_does_every_element_once(helpers: Helpers, run: Callable[..., Any], grain: int | None) -> None:
    fn = helpers.native("count_range", "int (size_t, size_t, void *)")
    for size in (1, 2, 100, 5000):
        counts = bytearray(size)
        assert run(fn, counts, grain=grain) is None
        assert counts == b"\1" * size


def test_untyped_output_of_a_kernel(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("count_range", "int (size_t, size_t, void *)")
    counts = bytearray(100)
    assert run(fn, out=counts) is counts
    assert run(fn, range(50, 60), out=counts) is counts
    assert counts == b"\1" * 50 + b"\2" * 10 + b"\1" * 40


def test_ranges_have_the_grain(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("log_range", "int (size_t, size_t, void *)")
    log = (ctypes.c_int64 * 100)()
    run(fn, range(5, 100), log, grain=10)
    ranges = sorted(zip(log[1 : 1 + 2 * log[0] : 2], log[2 : 2 + 2 * log[0] : 2], strict=True))
    assert ranges == [(i, min(i + 10, 100)) for i in range(5, 100, 10)]


def test_kernel_that_returns_nothing(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("negate_range", "void (int64_t, int64_t, int *)")
    numbers = np.arange(100, dtype="i4")
    assert run(fn, out=numbers) is numbers
    check_same(numbers, -np.arange(100, dtype="i4"))
    assert run(fn, numbers) is None
    check_same(numbers, np.arange(100, dtype="i4"))


def test_kernel_or_scalar_function(helpers: Helpers, pool: wp.WorkerPool) -> None:
    """The same signature can mean both; the number of arguments decides."""
    fn = helpers.native("count_range", "int (size_t, size_t, void *)")
    counts = bytearray(6)
    result = pool.map_array(fn, np.arange(5, dtype="u8"), np.arange(1, 6, dtype="u8"), counts)
    assert result.tolist() == [0] * 5
    assert counts == b"\1\1\1\1\1\0"


def test_kernel_error_names_the_range(helpers: Helpers, run: Callable[..., Any]) -> None:
    signature = "int (size_t, size_t, const signed char *)"
    codes = np.zeros(1000, "i1")
    codes[345] = 9
    fn = helpers.native("find_in_range", signature)
    with pytest.raises(wp.NativeError, match=re.escape("() returned 9 (errno 5: ")) as caught:
        run(fn, codes, grain=100)
    assert caught.value.elements == range(300, 400)
    assert "for elements 300:400" in str(caught.value)
    assert (caught.value.code, caught.value.errno) == (9, 5)
    assert run(helpers.native("find_in_range", signature, raises="negative"), codes, grain=100) is None
    codes[777] = -2
    with pytest.raises(wp.NativeError) as caught:
        run(helpers.native("find_in_range", signature, raises="negative"), codes, grain=10)
    assert caught.value.elements == range(770, 780)
    assert run(helpers.native("find_in_range", "void (size_t, size_t, const signed char *)"), codes) is None


def test_kernel_with_an_array_of_pointers(helpers: Helpers) -> None:
    """What it takes is no array of doubles, and says nothing about how many elements there are."""
    scale = helpers.native("scale_range", "int (size_t, size_t, const double *[2], double, double *)")
    out = array.array("d", [1.0, 1.0, 1.0])
    with wp.WorkerPool(1) as pool:
        pool.map_array(scale, array.array("Q", [0, 0, 0, 0]), 2.0, out=out)
        assert list(out) == [0.0, 0.0, 0.0]
        with pytest.raises(TypeError, match="points to pointers"):
            pool.map_array(scale, np.zeros((2, 3)), 2.0, out=out)
        only = helpers.native("count_range", "int (size_t, size_t, void **)")
        with pytest.raises(TypeError, match="no array tells how many elements there are"):
            pool.map_array(only, array.array("Q", [0, 0]))


def test_kernel_sees_its_job(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("sleep_range", "int (size_t, size_t, const int64_t *, wp_job *)")
    assert pool.map_array(fn, np.zeros(10, "i8")) is None
    token = wp.CancelToken()
    threading.Timer(0.1, token.cancel).start()
    began = time.monotonic()
    with pytest.raises(CancelledError):
        pool.options(token=token).map_array(fn, np.full(3, 10**11))
    assert time.monotonic() - began < LONG


# ---- Who takes part ----


def test_workers_and_caller_take_part(helpers: Helpers) -> None:
    fn = helpers.native("meet", "int64_t (int64_t, int64_t *)")
    for method, threads in (("map_array", 4), ("submit_array", 3)):
        gate = (ctypes.c_int64 * 3)(threads)
        with wp.WorkerPool(3) as pool:
            result = getattr(pool, method)(fn, np.arange(1000), gate, grain=1)
            if method == "submit_array":
                result = result.result(LONG)
        check_same(result, np.arange(1000))
        assert gate[1] == threads


def test_short_loops_call_nobody(helpers: Helpers) -> None:
    """A thread that loses the processor in the middle of a short loop makes it look long: hence several attempts."""
    fn = helpers.native("id_double", "double (double)")
    workers = []
    while len(workers) < 10 and 0 not in workers:
        with wp.WorkerPool(2) as pool:
            for _ in range(50):  # Then it is known how long a call takes.
                pool.map_array(fn, np.arange(10_000.0))
        with wp.WorkerPool(2) as pool:
            for _ in range(50):
                pool.map_array(fn, np.arange(10.0))
            workers.append(pool.stats().workers)
    assert workers[-1] == 0


def test_busy_workers_hold_nothing_up(helpers: Helpers) -> None:
    fn = helpers.native("id_double", "double (double)")
    with wp.WorkerPool(1) as pool, occupied(pool):
        check_same(pool.map_array(fn, np.arange(100_000.0)), np.arange(100_000.0))
        assert pool.stats().lanes["normal"].waiting == 0


def test_full_queue_does_not_matter_to_the_caller(helpers: Helpers) -> None:
    fn = helpers.native("id_double", "double (double)")
    with wp.WorkerPool(1, queue_size=1, on_full="raise") as pool, occupied(pool):
        waiting = pool.submit(int)
        check_same(pool.map_array(fn, np.arange(1000.0)), np.arange(1000.0))
        with pytest.raises(wp.QueueFull):
            pool.submit_array(fn, np.arange(1000.0))
        here = pool.options(on_full="caller_runs").submit_array(fn, np.arange(1000.0))
        check_same(here.result(0), np.arange(1000.0))
        assert pool.options(on_full="discard").submit_array(fn, np.arange(3.0)).cancelled()
    assert waiting.result() == 0


@pytest.mark.thread_unsafe(reason="keeps both workers of the pool that all share")
def test_ranges_need_no_gil(helpers: Helpers, pool: wp.WorkerPool) -> None:
    """A thread that holds the GIL for half a second does not keep the workers from their ranges."""
    clock = helpers.native("clock_ns", "int64_t (void)")
    hold_gil = ctypes.PyDLL(helpers.path).sleep_ns
    hold_gil.argtypes = [ctypes.c_int64]
    out = np.zeros(1000, "i8")
    pool.submit_array(clock, out=out).result(LONG)  # The workers are there.
    gate = NativeGate(helpers)
    holding = [gate.close_worker(pool) for _ in range(2)]
    future = pool.submit_array(clock, out=out)
    before = time.monotonic_ns()
    gate.open()
    hold_gil(500_000_000)
    after = time.monotonic_ns()
    assert future.result(LONG) is out
    assert before < out.min()
    assert out.max() < after
    for job in holding:
        job.result(LONG)


def test_from_a_worker_of_the_same_pool(helpers: Helpers) -> None:
    fn = helpers.native("sum_doubles", "double (double, double, double, double)")
    values = np.arange(10_000.0)

    def nested(depth: int) -> Any:
        if depth > 0:
            return pool.submit(nested, depth - 1).result(LONG)
        inner = pool.map_array(fn, values, 1, 0, 0)
        return inner, pool.submit_array(fn, inner, 1, 0, 0).result(LONG)

    with wp.WorkerPool(1) as pool:
        one_more, two_more = pool.submit(nested, 3).result(LONG)
    check_same(one_more, values + 1)
    check_same(two_more, values + 2)


def test_urgent_job_may_wait_for_the_loop_that_it_interrupts(helpers: Helpers) -> None:
    fn = helpers.native("sleep_ns", "int64_t (int64_t)")
    with wp.WorkerPool(1) as pool:
        loop = pool.lane("low").submit_array(fn, np.full(300, 1_000_000), grain=1)
        wait_until(loop.running)
        urgent = pool.lane("high").submit(loop.result, LONG)
        assert urgent.result(LONG).sum() == 300_000_000


def test_urgent_jobs_come_between_ranges(helpers: Helpers) -> None:
    fn = helpers.native("sleep_ns", "int64_t (int64_t)")
    with wp.WorkerPool(1) as pool:
        loop = pool.lane("low").submit_array(fn, np.full(10_000, 1_000_000))
        wait_until(loop.running)
        for _ in range(5):
            assert pool.lane("high").submit(int).result(LONG) == 0
            assert not loop.done()
        assert loop.request_cancel()


def test_many_threads_at_once(helpers: Helpers) -> None:
    fn = helpers.native("sum_doubles", "double (double, double, double, double)")
    wrong: list[Any] = []

    def caller(number: int) -> None:
        for size in range(1, 2000, 97):
            values = np.arange(float(size)) + number
            if not (pool.map_array(fn, values, number, 0, 0) == values + number).all():
                wrong.append((number, size))

    with wp.WorkerPool(2) as pool:
        threads = [threading.Thread(target=caller, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert pool.stats().lanes["normal"].done == 6 * len(range(1, 2000, 97))
    assert wrong == []


def test_views_and_the_drop_in(helpers: Helpers) -> None:
    fn = helpers.native("id_double", "double (double)")
    values = np.arange(10.0)
    with wp.WorkerPool(2) as pool:
        check_same(pool.lane("high").map_array(fn, values), values)
        future = pool.options(lane="low", label="a loop").submit_array(fn, values)
        check_same(future.result(LONG), values)
        assert (future.lane, future.label) == ("low", "a loop")
        stats = pool.stats()
        assert [stats.lanes[name].done for name in ("high", "normal", "low")] == [1, 0, 1]
        assert [stats.lanes[name].submitted for name in ("high", "normal", "low")] == [1, 0, 1]
    with wp.ThreadPoolExecutor(2) as executor:
        check_same(executor.map_array(fn, values), values)


def test_future_of_a_loop(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("id_double", "double (double)")
    called: list[Any] = []
    done = threading.Event()
    future = pool.submit_array(fn, np.arange(100_000.0))
    future.add_done_callback(lambda ended: (called.append(ended), done.set()))
    check_same(future.result(LONG), np.arange(100_000.0))
    assert done.wait(LONG)
    assert called == [future]
    assert future.exception() is None
    assert not future.cancel()


def test_mean_time_is_that_of_an_element(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("spin_ns", "int64_t (int64_t)")
    assert fn.mean_time is None
    pool.map_array(fn, np.full(100, 100_000))
    assert fn.mean_time is not None
    assert 0.9e-4 < fn.mean_time < 0.1


# ---- Errors of the function ----


def test_error_names_the_element(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("not_negative", "int (int)", raises="negative")
    values = np.arange(1000, dtype="i4")
    check_same(run(fn, values), values)
    values[456] = -34
    out = np.full(1000, 77, "i4")
    with pytest.raises(wp.NativeError) as caught:
        run(fn, values, out=out, grain=100)
    error = caught.value
    assert str(error).startswith("not_negative() returned -34 (errno 34: ")
    assert str(error).endswith(") for element 456 (elements 400:500)")
    assert (error.code, error.errno, error.function) == (-34, 34, "not_negative")
    assert error.elements == range(400, 500)
    assert (out[400:456] == values[400:456]).all()
    assert (out[456:500] == 77).all()


def test_error_in_several_dimensions(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("not_negative", "int (int)", raises="negative")
    values = np.zeros((4, 5, 6), "i4")
    values[1, 2, 3] = -1
    for order in itertools.permutations(range(3)):
        index = tuple((1, 2, 3)[axis] for axis in order)
        with pytest.raises(wp.NativeError, match=re.escape(f" for element {index} (elements ")):
            run(fn, values.transpose(order), grain=7)
    assert wp.NativeError.elements is None


def test_nonzero_results_may_be_errors(helpers: Helpers, run: Callable[..., Any]) -> None:
    fn = helpers.native("not_negative", "int (int)", raises="nonzero")
    assert run(fn, np.zeros(100, "i4")).sum() == 0
    with pytest.raises(wp.NativeError, match=r"returned 3 for element 99"):
        run(fn, np.array([0] * 99 + [3], "i4"))


def test_nothing_begins_after_an_error(helpers: Helpers) -> None:
    fn = helpers.native("find_in_range", "int (size_t, size_t, const signed char *)")
    log = helpers.native("log_range", "int (size_t, size_t, void *)")
    words = (ctypes.c_int64 * 4001)()
    with wp.WorkerPool(2) as pool:
        with pytest.raises(wp.NativeError):
            pool.map_array(fn, np.ones(10**6, "i1"), grain=1)
        pool.map_array(log, range(2000), words, grain=1)
        assert words[0] == 2000
        assert pool.stats().lanes["normal"].failed == 1
        assert pool.drain(10)  # The pool hears of the end a moment after the caller.
        assert pool.stats().unfinished == 0


# ---- Stopped ----


def claimed_of(error: BaseException) -> int:
    """How far the loop came, by the note of the exception."""
    found = re.search(r"those from (\d+) on were not begun", "\n".join(error.__notes__))
    assert found is not None, error.__notes__
    return int(found[1])


def test_cancelled_by_token(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("sleep_ns", "int64_t (int64_t)")
    token = wp.CancelToken()
    out = np.zeros(100_000, "i8")
    canceller = threading.Thread(target=lambda: wait_until(lambda: out[0]) or token.cancel())
    canceller.start()
    with pytest.raises(CancelledError) as caught:
        pool.options(token=token).map_array(fn, np.full(100_000, 1_000_000), out=out)
    canceller.join(LONG)
    claimed = claimed_of(caught.value)
    assert 0 < claimed < 100_000
    assert (out[:claimed] == 1_000_000).all()
    assert (out[claimed:] == 0).all()
    with pytest.raises(CancelledError):
        pool.options(token=token).map_array(fn, np.zeros(1, "i8"))
    with pytest.raises(CancelledError):
        pool.options(token=token).submit_array(fn, np.zeros(1, "i8"))


def test_run_timeout(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("sleep_ns", "int64_t (int64_t)")
    values = np.full(100_000, 1_000_000)
    with pytest.raises(wp.JobTimeout) as caught:
        pool.options(run_timeout=0.1).map_array(fn, values)
    assert 0 < claimed_of(caught.value) < 100_000
    with pytest.raises(wp.JobTimeout):
        pool.options(run_timeout=0.1).submit_array(fn, values).result(LONG)
    with pytest.raises(CancelledError):
        pool.options(token=wp.CancelToken(timeout=0.1)).map_array(fn, values)


def test_queue_timeout_and_cancel_before_it_begins(helpers: Helpers) -> None:
    fn = helpers.native("count_range", "int (size_t, size_t, void *)")
    counts = bytearray(10)
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            cancelled = pool.submit_array(fn, counts)
            assert cancelled.cancel()
            expired = pool.options(queue_timeout=0.05).submit_array(fn, counts)
            with pytest.raises(wp.JobExpired):
                expired.result(LONG)
        assert pool.stats().lanes["normal"].expired == 1
        assert pool.stats().lanes["normal"].cancelled == 1
    assert cancelled.cancelled()
    assert counts == bytearray(10)


def test_request_cancel(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("sleep_ns", "int64_t (int64_t)")
    out = np.zeros(100_000, "i8")
    future = pool.submit_array(fn, np.full(100_000, 1_000_000), out=out)
    wait_until(lambda: out[0] > 0)
    assert future.request_cancel()
    with pytest.raises(CancelledError):
        future.result(LONG)
    assert future.cancelled()
    done = int((out > 0).sum())
    assert 0 < done < 100_000
    assert (out[:done] > 0).all()


def test_cancelled_after_the_last_element_is_done(helpers: Helpers, pool: wp.WorkerPool) -> None:
    fn = helpers.native("wait_at_zero", "int64_t (int64_t, int64_t *)")
    gate = (ctypes.c_int64 * 2)()
    future = pool.submit_array(fn, np.zeros(1, "i8"), gate)
    wait_until(lambda: gate[0] == 1)
    assert future.request_cancel()
    gate[1] = 1
    assert future.result(LONG).tolist() == [0]


def test_shutdown(helpers: Helpers) -> None:
    fn = helpers.native("sleep_ns", "int64_t (int64_t)")
    pool = wp.WorkerPool(2)
    future = pool.submit_array(fn, np.full(100, 1_000_000))
    pool.shutdown()
    assert future.result(0).sum() == 100_000_000
    for method in (pool.map_array, pool.submit_array):
        with pytest.raises(RuntimeError, match="after shutdown"):
            method(fn, np.zeros(1, "i8"))
    with wp.WorkerPool(1) as pool:
        view = pool.lane("high")
        view.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            view.map_array(fn, np.zeros(1, "i8"))


def test_shutdown_while_another_thread_is_in_map_array(helpers: Helpers) -> None:
    fn = helpers.native("sleep_ns", "int64_t (int64_t)")
    results: list[Any] = []
    pool = wp.WorkerPool(2)
    out = np.zeros(200, "i8")
    thread = threading.Thread(target=lambda: results.append(pool.map_array(fn, np.full(200, 1_000_000), out=out)))
    thread.start()
    wait_until(lambda: out[0] > 0)
    pool.shutdown()
    thread.join(LONG)
    assert results[0].sum() == 200_000_000


def test_ctrl_c(run_scenario: RunScenario, helpers_path: str) -> None:
    """Ctrl-C ends the loop between two ranges; what was begun is done, and the pool goes on."""
    pytest.importorskip("numpy")
    run_scenario(
        f"""
        import os, signal, threading, time
        import numpy as np
        import workerpool as wp

        sleep = wp.native("{helpers_path}:sleep_ns", "int64_t (int64_t)")
        with wp.WorkerPool(2) as pool:
            out = np.zeros(100_000, "i8")

            def interrupt():
                while not out[0]:
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGINT)

            interrupter = threading.Thread(target=interrupt)
            interrupter.start()
            try:
                pool.map_array(sleep, np.full(100_000, 1_000_000), out=out)
            except KeyboardInterrupt as error:
                note = error.__notes__[0]
            interrupter.join()
            claimed = int(note.split("those from ")[1].split()[0])
            assert 0 < claimed < 100_000
            time.sleep(0.05)  # A range that was begun all the same would be seen now.
            assert (out[:claimed] == 1_000_000).all() and (out[claimed:] == 0).all()
            assert pool.map_array(sleep, np.zeros(100, "i8")).sum() == 0
            assert pool.drain(10)  # The pool hears of the end a moment after the caller.
            assert pool.stats().unfinished == 0
            assert pool.stats().lanes["normal"].cancelled == 1
        """
    )


def test_ctrl_c_twice(run_scenario: RunScenario, helpers_path: str) -> None:
    """The ranges of other threads are waited for; a second Ctrl-C ends that wait, and the arrays stay valid."""
    run_scenario(
        f"""
        import gc, os, signal, threading, time
        import numpy as np
        import workerpool as wp

        stuck = wp.native("{helpers_path}:stuck_elsewhere", "int64_t (int64_t, int64_t *)")
        pool = wp.WorkerPool(1)
        gate = np.array([0, 0, threading.get_ident()])
        values = np.zeros(2000, "i8")
        out = np.zeros(2000, "i8")

        def interrupt():
            while (out == 1).sum() < 1999:
                time.sleep(0.001)
            time.sleep(0.2)  # The main thread has nothing left to do and waits.
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
            again.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        again = []
        threading.Thread(target=interrupt).start()
        try:
            pool.map_array(stuck, values, gate, out=out, grain=1)
        except KeyboardInterrupt:
            assert time.monotonic() - again[0] < 10
        else:
            raise AssertionError("nothing was interrupted")
        assert gate[0] == 1 and (out == 1).sum() == 1999, (gate, (out == 1).sum())
        del values
        gc.collect()
        gate[1] = 1
        pool.shutdown()
        assert (out == 1).all()
        """
    )


# ---- What is held ----


def test_arrays_are_held_until_the_loop_has_ended(helpers: Helpers) -> None:
    fn = helpers.native("id_double", "double (double)")
    values = np.arange(1000.0)
    out = np.zeros(1000)
    watched = [weakref.ref(values), weakref.ref(out)]
    with wp.WorkerPool(1) as pool:
        with occupied(pool):
            future = pool.submit_array(fn, values, out=out)
            del values, out
            gc.collect()
            assert all(reference() is not None for reference in watched)
        check_same(future.result(LONG), np.arange(1000.0))
        wait_until(lambda: watched[0]() is None)
        del future
        wait_until(lambda: watched[1]() is None)


def test_loop_goes_on_without_its_future(helpers: Helpers) -> None:
    fn = helpers.native("count_range", "int (size_t, size_t, void *)")
    counts = np.zeros(10_000, "u1")
    with wp.WorkerPool(2) as pool:
        with occupied(pool, 2):
            pool.submit_array(fn, counts)
            gc.collect()
    assert (counts == 1).all()


def grow(data: Any) -> None:
    """Append to it: at once where there is a GIL.

    Without one, a worker may be letting go of the buffer at the very moment at which the caller has its result.
    """

    def grows() -> bool:
        try:
            data.append(1)
        except BufferError:
            return False
        return True

    if FREE_THREADED:
        wait_until(grows)
    else:
        data.append(1)


def test_buffers_are_free_again(helpers: Helpers, run: Callable[..., Any]) -> None:
    """A bytearray cannot change its size while somebody holds its buffer."""
    fn = helpers.native("id_uchar", "unsigned char (unsigned char)")
    count = helpers.native("count_range", "int (size_t, size_t, void *)")
    data, out = bytearray(1000), bytearray(1000)
    run(fn, data, out=out)
    grow(data)
    grow(out)
    run(count, data)
    grow(data)
    failing = helpers.native("not_negative", "int (int)", raises="nonzero")
    numbers = array.array("i", [1])
    with pytest.raises(wp.NativeError):
        run(failing, numbers)
    grow(numbers)
    with pytest.raises(TypeError):
        run(fn, data, out=numbers)
    grow(data)
    grow(numbers)


def test_memory_comes_back(run_scenario: RunScenario, helpers_path: str) -> None:
    run_scenario(
        f"""
        import gc, time, tracemalloc
        import numpy as np
        import workerpool as wp

        fn = wp.native("{helpers_path}:id_double", "double (double)")
        sums = wp.native("{helpers_path}:not_negative", "int (int)", raises="negative")
        with wp.WorkerPool(2) as pool:
            def some():
                for size in (10, 1000, 50_000):
                    pool.map_array(fn, np.arange(float(size)))
                    pool.submit_array(fn, np.arange(float(size))).result()
                    pool.map_array(np.sin, np.arange(float(size)))
                    try:
                        pool.map_array(sums, np.full(size, -1, "i4"))
                    except wp.NativeError:
                        pass
            for _ in range(20):
                some()
            tracemalloc.start()
            before = tracemalloc.take_snapshot()
            for _ in range(200):
                some()
            end = time.monotonic() + 10
            grown = 200_000
            while grown >= 200_000 and time.monotonic() < end:  # What workers let go of comes back a little later.
                time.sleep(0.05)
                pool.submit(gc.collect).result()
                after = tracemalloc.take_snapshot()
                grown = sum(difference.size_diff for difference in after.compare_to(before, "filename"))
            assert grown < 200_000, after.compare_to(before, "lineno")[:10]
        """,
        timeout=60,
    )


# ---- What does not fit ----


class Series:
    def to_numpy(self) -> Any: ...


class Image:
    __array_interface__ = None


X = np.arange(10.0)
DOUBLE = ("id_double", "double (double)")
SUM = ("sum_doubles", "double (double, double, double, double)")
KERNEL = ("scale_range", "int (size_t, size_t, const double *, double, double *)")
READ_ONLY = np.arange(10.0)
READ_ONLY.flags.writeable = False
MISALIGNED = np.frombuffer(bytes(81), "u1")[1:].view("f8")
RECORDS = np.zeros(10, [("a", "f8"), ("b", "i1")])

WRONG: list[tuple[tuple[str, str], tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (DOUBLE, (), {}, TypeError, "takes 1 argument (0 given)"),
    (DOUBLE, (X, X), {}, TypeError, "takes 1 argument (2 given)"),
    (
        DOUBLE,
        ([1.0],),
        {},
        TypeError,
        "argument 1: `double` takes an array (any object with a buffer) or a number, not list",
    ),
    (DOUBLE, ("x",), {}, TypeError, "or a number, not str"),
    (
        DOUBLE,
        (X.astype("i8"),),
        {},
        TypeError,
        "takes float64, not int64; convert the array first, as by .astype('float64')",
    ),
    (DOUBLE, (X.astype("f4"),), {}, TypeError, "takes float64, not float32"),
    (DOUBLE, (X.astype("c16"),), {}, TypeError, "takes float64, not complex128"),
    (DOUBLE, (X.astype("?"),), {}, TypeError, "takes float64, not bool"),
    (DOUBLE, (X.astype("u2"),), {}, TypeError, "takes float64, not uint16"),
    (DOUBLE, (X.astype("O"),), {}, TypeError, "takes float64, not elements of the format 'O'"),
    (DOUBLE, (RECORDS,), {}, TypeError, "takes float64, not elements of the format 'T{"),
    (
        DOUBLE,
        (X.astype("M8[s]"),),
        {},
        TypeError,
        "gives no buffer with strides: cannot include dtype 'M' in a buffer; dates are integers to C: pass its .view(",
    ),
    (DOUBLE, (Series(),), {}, TypeError, "or a number, not Series; pass its .to_numpy()"),
    (DOUBLE, (Image(),), {}, TypeError, "or a number, not Image; pass numpy.asarray() of it"),
    (
        DOUBLE,
        (X,),
        {"out": Series()},
        TypeError,
        "out: an array is needed (any object with a buffer), not Series; pass",
    ),
    (
        KERNEL,
        (Image(), 2),
        {},
        TypeError,
        "argument 3: `const double *` takes an array (any object with a buffer), not Im",
    ),
    (DOUBLE, (X.astype("f8").astype(">f8"),), {}, ValueError, "byte order of another machine (format '>d')"),
    (DOUBLE, (MISALIGNED,), {}, ValueError, "not aligned to 8 bytes"),
    (DOUBLE, (b"abc",), {}, TypeError, "takes float64, not uint8"),
    (("id_bool", "bool (bool)"), (X.astype("u1"),), {}, TypeError, "`bool` takes bool, not uint8"),
    (("id_uint", "unsigned int (unsigned int)"), (X.astype("i4"),), {}, TypeError, "takes uint32, not int32"),
    (("id_int", "int (int)"), (2**40,), {}, OverflowError, "out of the range of `int`"),
    (SUM, (X, X[:5], 0, 0), {}, ValueError, "shapes [(10,), (5,)] cannot be broadcast together"),
    (SUM, (X, X.reshape(5, 2), 0, 0), {}, ValueError, "cannot be broadcast together"),
    (DOUBLE, (X,), {"out": X[:5]}, ValueError, "out: its shape is (5,), and that of the result is (10,)"),
    (DOUBLE, (X,), {"out": np.zeros((2, 10))[:, :5]}, ValueError, "out: its shape is"),
    (DOUBLE, (X,), {"out": np.zeros(1)}, ValueError, "out: its shape is (1,), and that of the result is (10,)"),
    (DOUBLE, (X,), {"out": X.astype("f4")}, TypeError, "out: `double` is float64, not float32"),
    (DOUBLE, (X,), {"out": READ_ONLY}, ValueError, "out: this numpy.ndarray is read-only"),
    (DOUBLE, (X,), {"out": bytes(80)}, ValueError, "out: this bytes is read-only"),
    (DOUBLE, (X,), {"out": [0.0] * 10}, TypeError, "out: an array is needed (any object with a buffer), not list"),
    (DOUBLE, (X,), {"out": MISALIGNED.copy().astype(">f8")}, ValueError, "out: its numbers are in the byte order"),
    (DOUBLE, (X[1:],), {"out": X[:-1]}, ValueError, "out: it shares memory with argument 1"),
    (SUM, (0, 0, X, X[::-1]), {"out": X}, ValueError, "out: it shares memory with argument 4"),
    (SUM, (X[:1], X, 0, 0), {"out": X}, ValueError, "out: it shares memory with argument 1"),
    (DOUBLE, (1.0,), {"out": np.broadcast_to(X, (3, 10)).T}, ValueError, "read-only"),
    (
        DOUBLE,
        (1.0,),
        {"out": np.lib.stride_tricks.as_strided(X, (3, 3), (8, 8), writeable=True)},
        ValueError,
        "out: some of its elements share memory",
    ),
    (DOUBLE, (X,), {"grain": 0}, ValueError, "grain must be at least 1, not 0"),
    (DOUBLE, (X,), {"grain": 1.5}, TypeError, "grain must be a whole number or None, not float"),
    (("nothing", "void (void)"), (), {}, TypeError, "returns `void`, which is no element of an array"),
    (("id_pointer", "void *(void *)"), (X,), {}, TypeError, "returns `void *`, which is no element"),
    (KERNEL, (X[::2], 2), {}, ValueError, "argument 3: a kernel takes blocks of memory"),
    (KERNEL, (np.zeros((2, 3)).T, 2), {}, ValueError, "argument 3: a kernel takes blocks of memory"),
    (KERNEL, (X.astype("f4"), 2), {}, TypeError, "argument 3: `const double *` takes float64, not float32"),
    (KERNEL, (X, X), {}, TypeError, "argument 4: `double` takes a number, not numpy.ndarray"),
    (KERNEL, (X, 2, X[:5].copy()), {}, ValueError, "argument 5: it has 5 elements, and the arrays before it have 10"),
    (KERNEL, (X, 2), {"out": np.zeros(11)}, ValueError, "out: it has 11 elements"),
    (KERNEL, (X, 2), {"out": READ_ONLY}, ValueError, "out: this numpy.ndarray is read-only"),
    (KERNEL, (X, 2, READ_ONLY), {}, ValueError, "or declare the parameter `const`"),
    (KERNEL, (X[1:], 2), {"out": X[:-1]}, ValueError, "out: it shares memory with argument 3"),
    (KERNEL, (range(5, 9), X[:9], 2), {"out": X[1:]}, ValueError, "out: it shares memory with argument 3"),
    (KERNEL, (range(5, 20), X, 2), {}, ValueError, "argument 3: it has 10 elements, and the range is range(5, 20)"),
    (KERNEL, (range(-1, 5), X, 2), {}, ValueError, "begins at 0 or later"),
    (KERNEL, (range(0, 10, 2), X, 2), {}, ValueError, "has the step 1"),
    (
        KERNEL,
        (range(2**63, 2**63 + 3), X, 2),
        {},
        OverflowError,
        "scale_range() argument 1: a range of elements ends before 2**63, unlike range(9223372036854775808, ",
    ),
    (KERNEL, (range(2**64), X, 2), {}, OverflowError, "argument 1: a range of elements ends before 2**63"),
    (KERNEL, (range(0, 1, 2**70), X, 2), {}, OverflowError, "argument 1: a range of elements ends before 2**63"),
    (KERNEL, (range(10**6000), X, 2), {}, OverflowError, "argument 1: a range of elements ends before 2**63"),
    (KERNEL, (range(-(2**70), 3), X, 2), {}, ValueError, "argument 1: a range of elements begins at 0 or later"),
    (KERNEL, (MISALIGNED, 2), {}, ValueError, "argument 3: its elements are not aligned"),
    (KERNEL, ([1.0], 2), {}, TypeError, "argument 3: `const double *` takes an array"),
    (KERNEL, (X,), {}, TypeError, "cannot be called with 1 arguments: as a kernel it takes 3"),
    (("count_range", "int (size_t, size_t, void *)"), (0,), {}, TypeError, "give a range(n) as the first argument"),
]


@pytest.mark.parametrize(
    ("function", "arguments", "options", "error", "message"),
    WRONG,
    ids=[f"{row[4][:40]}-{i}" for i, row in enumerate(WRONG)],
)
def test_what_does_not_fit_is_an_error_before_anything_runs(
    helpers: Helpers,
    pool: wp.WorkerPool,
    function: tuple[str, str],
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    fn = helpers.native(*function)
    before = pool.stats().lanes["normal"].submitted
    for method in (pool.map_array, pool.submit_array):
        with pytest.raises(error, match=re.escape(message)):
            method(fn, *arguments, **options)
    assert pool.stats().lanes["normal"].submitted == before
    assert X.tolist() == list(range(10))


def test_what_cannot_be_looped_over(pool: wp.WorkerPool) -> None:
    with pytest.raises(TypeError, match=r"map_array\(\) takes a NativeFunction.* or a NumPy ufunc, not function"):
        pool.map_array(lambda x: x, X)
    with pytest.raises(TypeError, match="a Python function has to be compiled first"):
        pool.submit_array(math.sin, X)
    with pytest.raises(TypeError, match=r"not NoneType$"):
        pool.map_array(None, X)  # type: ignore[arg-type]


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_overlaps(helpers: Helpers, pool: wp.WorkerPool, data: st.DataObject) -> None:
    """Either the result is what it would be with copies, or it is an error; and what shares nothing is no error."""
    fn = helpers.native("sum_doubles", "double (double, double, double, double)")
    memory = np.arange(120.0).reshape(10, 12)
    window = (data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)))

    def part() -> Any:
        slices = []
        for length, size in zip(memory.shape, window, strict=True):
            step = data.draw(st.sampled_from([1, 1, 2, -1, -2]))
            reach = (size - 1) * abs(step)
            first = data.draw(st.integers(0, length - 1 - reach)) + (reach if step < 0 else 0)
            last = first + size * step
            slices.append(slice(first, last if last >= 0 else None, step))
        return memory[tuple(slices)]

    given_, out = part(), part()
    moves = [size > 1 for size in window]
    same = given_.__array_interface__["data"] == out.__array_interface__["data"] and all(
        a == b for a, b, moving in zip(given_.strides, out.strides, moves, strict=True) if moving
    )
    expected = given_ + 1
    if np.shares_memory(given_, out) and not same:
        with pytest.raises(ValueError, match="shares memory with argument 1"):
            pool.map_array(fn, given_, 1, 0, 0, out=out)
    else:
        pool.map_array(fn, given_, 1, 0, 0, out=out)
        check_same(np.array(out), np.array(expected))
