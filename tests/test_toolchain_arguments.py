"""Arguments that belong to ctypes, cffi, numba or NumPy: each stands for what it stands for there, or is refused.

What must not happen: a number or memory of one kind is passed for another, or goes before the job has ended.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.util
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import workerpool as wp
from support import Helpers


def module(name: str) -> Any:
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


cffi, numba, numpy = module("cffi"), module("numba"), module("numpy")
ffi: Any = cffi.FFI() if cffi is not None else None
if ffi is not None:
    ffi.cdef("enum color {RED, BLUE = 5}; struct point {int x;};")
NEEDS_CFFI = pytest.mark.skipif(cffi is None, reason="cffi is not installed")
NEEDS_NUMBA = pytest.mark.skipif(numba is None, reason="numba is not installed")
NEEDS_NUMPY = pytest.mark.skipif(numpy is None, reason="numpy is not installed")

COMPARE = "int (*)(const void *, const void *)"
QSORT = f"void (void *, size_t, size_t, {COMPARE})"
IDENTITIES = {"int": "abs", "long": "labs", "double": "fabs", "float": "fabsf"}


class StandsFor:
    def __init__(self, value: object) -> None:
        self._as_parameter_ = value


class Integer(ctypes.c_int):
    """A subclass says nothing else than its base does, whatever it says."""

    @property  # type: ignore[override]
    def value(self) -> int:
        return 99

    @value.setter
    def value(self, value: int) -> None:
        raise AssertionError(value)


def of_type(parameter: str) -> wp.NativeFunction:
    """A function that returns its argument as it is passed, if it is an address, and else makes it positive."""
    if parameter in {"double", "float"}:
        return wp.native(f"m:{IDENTITIES[parameter]}", f"{parameter} ({parameter})")
    return wp.native("c:labs", f"long ({parameter})")


@pytest.mark.parametrize(
    ("parameter", "argument", "result"),
    [
        ("int", ctypes.c_int(-5), 5),
        ("int", ctypes.c_long(5), 5),
        ("long", ctypes.c_long(-(2**40)), 2**40),
        ("long", ctypes.c_short(-5), 5),
        ("long", ctypes.c_int.__ctype_be__(-5), 5),
        ("int", ctypes.c_bool(True), 1),
        ("int", Integer(-7), 7),
        ("bool", ctypes.c_bool(False), 0),
        ("bool", ctypes.c_int(3), 1),
        ("double", ctypes.c_double(-1.5), 1.5),
        ("double", ctypes.c_float(-1.5), 1.5),
        ("float", ctypes.c_double(-1.5), 1.5),
        ("char", b"a", 97),
        ("const char", bytearray(b"a"), 97),
        ("char", ctypes.c_char(b"a"), 97),
        ("int", StandsFor(-3), 3),
        ("int", StandsFor(StandsFor(ctypes.c_int(-3))), 3),
        ("double", StandsFor(-3), 3.0),
        ("double *", StandsFor(None), 0),
    ],
)
def test_what_ctypes_takes_is_taken(parameter: str, argument: object, result: float) -> None:
    function = of_type(parameter)
    assert function(argument) == result
    with wp.WorkerPool(1) as pool:
        assert pool.submit(function, argument).result() == result
        assert list(pool.map(function, [argument] * 3)) == [result] * 3


@pytest.mark.parametrize(
    ("parameter", "argument"),
    [
        ("int", ctypes.c_double(1.5)),
        ("int", ctypes.c_float(1.0)),
        ("int", ctypes.c_void_p(5)),
        ("int", ctypes.c_char_p(b"a")),
        ("int", ctypes.c_char(b"a")),
        ("int", ctypes.c_wchar("a")),
        ("int", b"a"),
        ("char", b"ab"),
        ("char", b""),
        ("unsigned char", b"a"),
        ("int8_t", b"a"),
        ("double", ctypes.c_int(1)),
        ("double", ctypes.c_longdouble(1)),
        ("double", b"1"),
        ("bool", ctypes.c_double(1.0)),
        ("bool", ctypes.c_void_p(5)),
        ("bool", ctypes.c_char_p(b"a")),
        ("int", StandsFor(2.5)),
        ("int", StandsFor(ctypes.c_double(2.5))),
        ("double *", StandsFor(ctypes.byref(ctypes.c_int(1)))),
        ("double *", StandsFor("text")),
        ("char *", StandsFor(b"read-only")),
    ],
)
def test_another_kind_is_refused(parameter: str, argument: object) -> None:
    with pytest.raises(TypeError, match=r"\(\) argument 1: "):
        of_type(parameter)(argument)


def test_ranges_hold_for_what_stands_for_a_number() -> None:
    for parameter, argument in (
        ("int", ctypes.c_long(2**40)),
        ("unsigned", ctypes.c_int(-1)),
        ("int8_t", StandsFor(200)),
        ("float", ctypes.c_double(1e300)),
    ):
        with pytest.raises(OverflowError, match="is out of the range of"):
            of_type(parameter)(argument)


def test_a_ring_of_as_parameter_is_refused() -> None:
    ring = StandsFor(None)
    ring._as_parameter_ = StandsFor(ring)

    class Endless:
        @property
        def _as_parameter_(self) -> Endless:
            return Endless()

    for argument in (ring, Endless()):
        for parameter in ("int", "double *", "double"):
            with pytest.raises(TypeError, match="leads from one object to the next without end"):
                of_type(parameter)(argument)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError, AttributeError])
def test_what_as_parameter_raises_is_not_lost(error: type[BaseException]) -> None:
    class Raises:
        @property
        def _as_parameter_(self) -> int:
            raise error

    with pytest.raises((error, TypeError)) as caught:
        of_type("int")(Raises())
    if error is ZeroDivisionError:
        assert isinstance(caught.value.__cause__, error)
    else:
        assert isinstance(caught.value, TypeError if error is AttributeError else error)


# ---- cffi ----


@NEEDS_CFFI
@pytest.mark.parametrize(
    ("parameter", "make", "result"),
    [
        ("int", lambda: ffi.cast("int", -5), 5),
        ("long", lambda: ffi.cast("short", -5), 5),
        ("int", lambda: ffi.cast("enum color", 5), 5),
        ("int", lambda: ffi.cast("_Bool", 1), 1),
        ("bool", lambda: ffi.cast("int", 3), 1),
        ("double", lambda: ffi.cast("double", -2.5), 2.5),
        ("double", lambda: ffi.cast("float", -2.5), 2.5),
        ("double", lambda: ffi.cast("int", -2), 2.0),
        ("char", lambda: ffi.cast("char", b"a"), 97),
        ("int *", lambda: ffi.NULL, 0),
        ("int *", lambda: ffi.cast("int *", 0), 0),
    ],
)
def test_numbers_of_cffi_are_taken(parameter: str, make: Callable[[], object], result: float) -> None:
    assert of_type(parameter)(make()) == result


@NEEDS_CFFI
@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ("int *", "int[4]"),
        ("int *", "int *"),
        ("int *", "int[2][2]"),
        ("double *", "double[3]"),
        ("uint64_t *", "unsigned long[3]"),
        ("bool *", "_Bool[3]"),
        ("unsigned *", "enum color[2]"),
        ("void *", "struct point *"),
        ("struct point *", "struct point *"),
        ("int **", "int *[2]"),
        ("const char *const *", "char *[2]"),
        ("char *", "char[4]"),
    ],
)
def test_memory_of_cffi_is_taken(parameter: str, text: str) -> None:
    memory = ffi.new(text)
    assert of_type(parameter)(memory) == int(ffi.cast("uintptr_t", memory))


@NEEDS_CFFI
@pytest.mark.parametrize(
    ("parameter", "make"),
    [
        ("int *", lambda: ffi.new("double *")),
        ("int *", lambda: ffi.new("long[2]")),
        ("int *", lambda: ffi.new("unsigned[2]")),
        ("double *", lambda: ffi.new("float[2]")),
        ("double *", lambda: ffi.new("int[2]")),
        ("double *", lambda: ffi.new("long double *")),
        ("double *", lambda: ffi.new("struct point *")),
        ("double *", lambda: ffi.new("double *[2]")),
        ("double **", lambda: ffi.new("double[2]")),
        ("double *", lambda: ffi.cast("int *", 0)),
        ("struct point *", lambda: ffi.new("struct point *")[0]),
        ("char *", lambda: ffi.from_buffer(b"read-only")),
        ("double *", lambda: ffi.cast("uintptr_t", 16)),
        ("double *", lambda: ffi.cast("void (*)(int)", 16)),
        ("void (*)(int)", lambda: ffi.new("int[4]")),
        ("void (*)(int)", lambda: ffi.cast("void (*)(double)", 16)),
        ("int", lambda: ffi.cast("double", 2)),
        ("int", lambda: ffi.new("int *")),
        ("double", lambda: ffi.cast("char", b"7")),
        ("bool", lambda: ffi.new("int *")),
        ("bool", lambda: ffi.NULL),
    ],
)
def test_other_memory_of_cffi_is_refused(parameter: str, make: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"\(\) argument 1: "):
        of_type(parameter)(make())


# ---- Functions ----


@pytest.mark.parametrize("kind", ["ctypes", "cffi", "numba", "native"])
def test_a_function_of_any_toolchain_is_a_callback(kind: str) -> None:
    def difference(a: Any, b: Any) -> int:
        return int(a[0]) - int(b[0])

    compare: Any
    if kind == "ctypes":
        pointer = ctypes.POINTER(ctypes.c_int)
        compare = ctypes.CFUNCTYPE(ctypes.c_int, pointer, pointer)(difference)
    elif kind == "cffi":
        if cffi is None:
            pytest.skip("cffi is not installed")
        compare = ffi.callback("int(const void *, const void *)")(
            lambda a, b: difference(ffi.cast("int *", a), ffi.cast("int *", b))
        )
    else:
        if numba is None:
            pytest.skip("numba is not installed")
        compare = numba.cfunc("int32(CPointer(int32), CPointer(int32))")(lambda a, b: a[0] - b[0])
        compare = wp.native(compare) if kind == "native" else compare
    sort = wp.native("c:qsort", QSORT)
    with wp.WorkerPool(1) as pool:
        numbers = (ctypes.c_int * 5)(3, 1, 2, 5, 4)
        pool.submit(sort, numbers, 5, 4, compare).result()
        assert list(numbers) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "argument",
    [
        wp.native(":labs", "long (long)"),
        ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(abs),
        ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda a, b: 0),
        ctypes.byref(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda a, b: 0)),
        (ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p) * 2)(),
        ctypes.pointer(ctypes.c_int(1)),
        ctypes.c_char_p(b"text"),
        (ctypes.c_int * 4)(),
        bytearray(64),
        lambda a, b: 0,
    ],
)
def test_no_other_function_and_no_data_is_called(argument: object) -> None:
    with pytest.raises(TypeError, match=r"\(\) argument 4: "):
        wp.native("c:qsort", QSORT)((ctypes.c_int * 4)(), 4, 4, argument)


class Pair(ctypes.Structure):
    _fields_ = (("a", ctypes.c_double), ("b", ctypes.c_double))


def functions_of_types_that_cannot_be_passed() -> list[Any]:
    functions: list[Any] = [
        ctypes.CFUNCTYPE(ctypes.c_int, Pair)(1),
        wp.NativeFunction(1, "int (const void *, ..., const void *)", "variadic"),
    ]
    if ffi is not None:
        functions += [ffi.cast(f"{text}", 1) for text in ("int (*)(struct point)", "int (*)(void *, ...)")]
    return functions


@pytest.mark.parametrize("function", functions_of_types_that_cannot_be_passed())
def test_a_function_of_a_type_that_cannot_be_passed_is_no_callback(function: Any) -> None:
    with pytest.raises(TypeError, match="points to another type of function than"):
        wp.native("c:qsort", QSORT)((ctypes.c_int * 4)(), 4, 4, function)


def test_a_variadic_function_is_a_variadic_callback() -> None:
    take = wp.native(":labs", "long (int (*)(const char *, ...))")
    functions: list[Any] = [wp.native("c:printf", "int (const char *, ...)")]
    if ffi is not None:
        functions.append(ffi.cast("int (*)(char *, ...)", 1))
    for function in functions:
        assert take(function) > 0
    with pytest.raises(TypeError, match="points to another type of function than"):
        take(wp.native("c:puts", "int (const char *)"))


def test_a_function_with_user_data_of_its_own_is_no_callback() -> None:
    function = wp.NativeFunction(1, "int (const void *, const void *, void *)", "compare", bound=(5,))
    with pytest.raises(TypeError, match="has values of its own for its last parameters"):
        wp.native(":labs", "long (int (*)(const void *, const void *, void *))")(function)
    of_a_job = wp.native(":labs", "int (wp_job *)")
    with pytest.raises(TypeError, match="takes its job, which only a pool passes"):
        wp.native(":labs", "long (int (*)(void *))")(of_a_job)


# ---- NumPy, and what lives how long ----


@NEEDS_NUMPY
def test_the_ctypes_of_an_array_is_the_array() -> None:
    array = numpy.zeros(4)
    assert of_type("double *")(array.ctypes) == array.ctypes.data
    with pytest.raises(TypeError, match="holds items of the format 'd'"):
        of_type("int *")(array.ctypes)
    array.flags.writeable = False
    with pytest.raises(TypeError, match="is read-only"):
        of_type("double *")(array.ctypes)


def test_what_an_argument_stands_for_lives_until_the_job_has_ended() -> None:
    length, pause = wp.native("c:strlen", "size_t (const char *)"), wp.native("c:usleep", "int (unsigned)")
    makers: list[Callable[[bytes], object]] = [
        lambda text: StandsFor(StandsFor(ctypes.c_char_p(text))),
        lambda text: StandsFor(ctypes.create_string_buffer(text)),
        lambda text: StandsFor(bytearray(text + b"\0")),
    ]
    if ffi is not None:
        makers += [lambda text: ffi.new("char[]", text), lambda text: ffi.from_buffer(bytearray(text + b"\0"))]
    if numpy is not None:
        makers.append(lambda text: numpy.frombuffer(text + b"\0", "u1").ctypes)
    with wp.WorkerPool(1) as pool:
        pool.submit(pause, 50_000)
        futures = [(n, pool.submit(length, make(b"x" * n))) for n in range(60) for make in makers]
        gc.collect()
        assert [future.result() for n, future in futures] == [n for n, future in futures]


def pointers_that_forget() -> list[tuple[str, int, object, Callable[[], object]]]:
    """Pointers of ctypes to ones, each with what makes it let go of them: the numbers behind it are others then."""
    text = ctypes.c_char_p(b"\1" * 100_000)
    pointer = ctypes.pointer(ctypes.c_ubyte(1))
    table = (ctypes.POINTER(ctypes.c_ubyte) * 1)(ctypes.pointer(ctypes.c_ubyte(1)))
    part = table[0]
    view = ctypes.cast(ctypes.create_string_buffer(b"\1" * 100_000), ctypes.POINTER(ctypes.c_ubyte))
    return [
        ("c_char_p", 100_000, text, lambda: setattr(text, "value", b"")),
        ("pointer", 1, pointer, lambda: setattr(pointer, "contents", ctypes.c_ubyte(2))),
        ("part of an array", 1, part, lambda: table.__setitem__(0, ctypes.pointer(ctypes.c_ubyte(2)))),
        ("cast", 100_000, view, lambda: setattr(view, "contents", ctypes.c_ubyte(2))),
    ]


@pytest.mark.parametrize("of", range(4))
def test_what_a_pointer_led_to_lives_although_the_pointer_is_given_another_value(helpers: Helpers, of: int) -> None:
    name, size, pointer, change = pointers_that_forget()[of]
    sum_behind = helpers.native("sum_behind", "uint64_t (int64_t *, const unsigned char *, size_t)")
    gate = (ctypes.c_int64 * 2)()
    with wp.WorkerPool(1) as pool:
        future = pool.submit(sum_behind, gate, pointer, size)
        change()
        gc.collect()
        others = [[ctypes.c_ubyte(3), bytearray(b"\3" * 100_000)] for _ in range(100)]  # Where the first were.
        gate[1] = 1
        assert future.result() == size, name
        assert others


def test_a_pointer_in_a_long_array_costs_no_more_than_in_a_short_one() -> None:
    """What the whole array keeps alive is not copied for each."""
    identity, one = of_type("unsigned char *"), ctypes.pointer(ctypes.c_ubyte(1))
    table = (ctypes.POINTER(ctypes.c_ubyte) * 200_000)(*[one] * 200_000)
    assert len(table._objects or ()) == len(table)
    began = time.process_time()
    for place in range(2000):  # Copies took a millisecond and more each.
        assert identity(table[place]) == ctypes.addressof(one.contents)
    assert time.process_time() - began < 1


@NEEDS_CFFI
def test_memory_that_cffi_was_told_to_release_lives_until_the_job_has_ended(helpers: Helpers) -> None:
    sum_behind = helpers.native("sum_behind", "uint64_t (int64_t *, const unsigned char *, size_t)")
    gate, memory = (ctypes.c_int64 * 2)(), bytearray(b"\1" * 64)
    with wp.WorkerPool(1) as pool:
        with ffi.from_buffer(memory) as data:
            future = pool.submit(sum_behind, gate, data, 64)
        with pytest.raises(BufferError):
            memory.extend(b"more")
        gate[1] = 1
        assert future.result() == 64
        memory.extend(b"more")  # No buffer is held.


@NEEDS_CFFI
@NEEDS_NUMPY
def test_memory_of_cffi_of_which_no_view_can_be_made_is_taken() -> None:
    dates = numpy.zeros(3, "M8[s]")
    assert of_type("void *")(ffi.from_buffer(dates)) == dates.ctypes.data


def test_what_an_argument_stands_for_is_let_go() -> None:
    length = wp.native("c:strlen", "size_t (const char *)")
    memory = bytearray(b"text\0")
    argument = StandsFor(memory)
    gone = weakref.ref(argument)
    assert length(argument) == 4
    with pytest.raises(TypeError):
        of_type("int *")(StandsFor(StandsFor(ctypes.c_double(1))))
    del argument
    gc.collect()
    assert gone() is None
    memory.extend(b"more")  # No buffer is held.


@pytest.mark.parametrize(("parameter", "value"), [("int", 5), ("double", 2.5), ("bool", True), ("char", b"a")])
def test_what_stands_for_a_number_is_let_go(parameter: str, value: object) -> None:
    function = of_type(parameter)
    argument = StandsFor(StandsFor(value))
    gone = weakref.ref(argument)
    function(argument)
    with wp.WorkerPool(1) as pool:
        pool.submit(function, argument).result()
        list(pool.map(function, [argument] * 3))
    del argument
    gc.collect()
    assert gone() is None
