"""A native function is never called with arguments that do not fit: each is refused before the call, and numbered."""

from __future__ import annotations

import array
import ctypes
import decimal
import importlib.util
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workerpool as wp
from support import LONG, Helpers

numpy: Any = importlib.import_module("numpy") if importlib.util.find_spec("numpy") else None
NEEDS_NUMPY = pytest.mark.skipif(numpy is None, reason="numpy is not installed")

TYPES = [
    "int8_t",
    "uint8_t",
    "int16_t",
    "uint16_t",
    "int32_t",
    "uint32_t",
    "int64_t",
    "uint64_t",
    "float",
    "double",
    "bool",
    "double *",
    "const float *",
    "const int64_t *",
    "const uint16_t *",
]
SIGNATURE = f"double ({', '.join(TYPES)})"

# The code of each type that pointers point to, in the module struct.
CODES = {"double": "d", "float": "f", "int64_t": "q", "uint16_t": "H"}


def right(ctype: str) -> Any:
    if ctype.endswith("*"):
        return array.array(CODES[pointee(ctype)], [1])
    return True if ctype == "bool" else 1


def pointee(ctype: str) -> str:
    return ctype.removeprefix("const ").removesuffix(" *")


# ---- Everything wrong that we could think of ----


def of_no_number() -> list[Any]:
    return [None, "1", b"1", bytearray(1), [1], (1,), {}, {1}, object(), 1j, int, len, array.array("q", [1]), ...]


def wrong_integers(ctype: str) -> list[Any]:
    bits = int(ctype.strip("uint_"))
    least, most = (0, 2**bits - 1) if ctype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    beyond = [least - 1, most + 1, 2**64, -(2**63) - 1, 10**40, -(10**40)]
    fractions = [1.0, 0.5, math.nan, math.inf, decimal.Decimal(1)]
    fractions += [ctypes.c_float(1), ctypes.c_double(1), ctypes.c_void_p(1), ctypes.c_char(b"1")]
    return of_no_number() + beyond + fractions


def wrong_floats(ctype: str) -> list[Any]:
    beyond = [10**400, -(10**400)] + ([1e39, -1e39, 3.5e38] if ctype == "float" else [])
    return of_no_number() + beyond + [ctypes.c_int(1), ctypes.c_longdouble(1), ctypes.c_bool(True)]


def wrong_bools() -> list[Any]:
    return [None, "1", "", b"", [1], (), {}, {1}, object(), len, ctypes.c_double(1), ctypes.c_char_p(b"1")]


def other_codes(code: str) -> list[str]:
    """Items of another kind or width; not of bytes, which are memory of any type."""
    return [other for other in "hHiIlLqQfd" if not is_same(other, code)]


def is_same(one: str, other: str) -> bool:
    kinds = ["hilq", "HILQ", "fd"]
    same_kind = any(one in kind and other in kind for kind in kinds)
    return same_kind and array.array(one).itemsize == array.array(other).itemsize


CTYPES_CODES: dict[str, Any] = {
    "h": ctypes.c_int16,
    "H": ctypes.c_uint16,
    "i": ctypes.c_int32,
    "I": ctypes.c_uint32,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_int64,
    "Q": ctypes.c_uint64,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_double), ("b", ctypes.c_double)]


def wrong_pointers(ctype: str) -> list[Any]:
    code = CODES[pointee(ctype)]
    wrong: list[Any] = ["text", 1.5, [1.0], (1,), {}, object(), 1j, len, ctypes, ..., 2**64, -(2**63) - 1, 10**40]
    for other in other_codes(code):
        kind = CTYPES_CODES[other]
        wrong += [array.array(other, [1]), memoryview(array.array(other, [1])), (kind * 2)(), kind()]
        wrong += [ctypes.byref(kind()), ctypes.byref((kind * 2)()), ctypes.pointer(kind()), ((kind * 2) * 2)()]
    wrong += [Pair(), ctypes.byref(Pair()), ctypes.pointer(Pair()), (Pair * 2)(), (ctypes.py_object * 2)()]
    wrong += [ctypes.pointer(ctypes.pointer(CTYPES_CODES[code]())), ctypes.byref(ctypes.pointer(CTYPES_CODES[code]()))]
    wrong += [memoryview(array.array(code, [1, 2, 3]))[::2], memoryview(array.array(code, [1, 2]))[::-1]]
    wrong += [memoryview(bytearray(64))[1:], memoryview(bytearray(64))[::2]]
    if not ctype.startswith("const"):
        wrong += [b"12345678", memoryview(bytearray(8)).toreadonly(), memoryview(array.array(code, [1])).toreadonly()]
    return wrong


def wrong_numpy_pointers(ctype: str) -> list[Any]:
    code = CODES[pointee(ctype)]
    right = numpy.ones(4, code)
    wrong = [numpy.ones(4, other) for other in other_codes(code)]
    wrong += [numpy.ones(4, other) for other in ("?", "e", "g", "F", "D", "O", "M8[s]", "U3", "i4,f8", "O,O")]
    wrong += [right[::2], right[::-1], numpy.ones((2, 3), code).T, numpy.ones((2, 2), code)[:, :1]]
    wrong += [right.astype(right.dtype.newbyteorder()), numpy.frombuffer(bytearray(65), code, offset=1, count=4)]
    wrong += [numpy.array(None), numpy.array(["a"], object), numpy.ones(2, [("x", code), ("y", code)])]
    wrong += [numpy.broadcast_to(right[:1], 3)]
    wrong += [numpy.float64(1), numpy.float32(1), numpy.bool_(True), numpy.complex128(1), numpy.str_("abc")]
    wrong += [numpy.datetime64(1, "s"), numpy.timedelta64(1, "s"), numpy.array(4096), numpy.zeros(4, "m8[s]")]
    wrong += [numpy.zeros(4, "M8[s]")[::2]]
    if not ctype.startswith("const"):
        constant = right.copy()
        constant.setflags(write=False)
        wrong += [constant, numpy.frombuffer(bytes(64), code)]
    return wrong


def wrong_values(ctype: str) -> list[Any]:
    if ctype.endswith("*"):
        return wrong_pointers(ctype) + (wrong_numpy_pointers(ctype) if numpy is not None else [])
    if ctype == "bool":
        return wrong_bools()
    return wrong_integers(ctype) if ctype.endswith("_t") else wrong_floats(ctype)


# ---- The tests ----

WRONG_VALUES = {ctype: wrong_values(ctype) for ctype in TYPES}
REFUSED = (TypeError, ValueError, OverflowError, BufferError)


@pytest.fixture(scope="module")
def touch_all(helpers: Helpers) -> wp.NativeFunction:
    return helpers.native("touch_all", SIGNATURE)


def ways_to_call(pool: wp.WorkerPool, function: wp.NativeFunction) -> list[Callable[[list[Any]], Any]]:
    return [
        lambda arguments: function(*arguments),
        lambda arguments: pool.submit(function, *arguments).result(LONG),
        lambda arguments: pool.lane("high").submit(function, *arguments).result(LONG),
        lambda arguments: list(pool.map(function, *([x] for x in arguments))),
        lambda arguments: pool.results().submit(function, *arguments),
    ]


def test_right_arguments_are_taken(touch_all: wp.NativeFunction, two_workers: wp.WorkerPool) -> None:
    for call in ways_to_call(two_workers, touch_all)[:-1]:
        assert call([right(ctype) for ctype in TYPES]) in (14, [14])


def test_every_wrong_argument_is_refused(
    touch_all: wp.NativeFunction, two_workers: wp.WorkerPool, helpers: Helpers
) -> None:
    calls_before = helpers.library.touch_all_calls()
    submitted_before = two_workers.stats().lanes["normal"].submitted
    for position, ctype in enumerate(TYPES):
        for wrong in WRONG_VALUES[ctype]:
            arguments = [right(other) for other in TYPES]
            arguments[position] = wrong
            for call in ways_to_call(two_workers, touch_all):
                with pytest.raises(REFUSED) as caught:
                    call(arguments)
                assert re.match(rf"touch_all\(\) argument {position + 1}: ", str(caught.value)), wrong
    assert helpers.library.touch_all_calls() == calls_before
    assert two_workers.stats().lanes["normal"].submitted == submitted_before


@pytest.mark.thread_unsafe(reason="reads a counter of the whole process")
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_number_of_wrong_arguments(
    touch_all: wp.NativeFunction, two_workers: wp.WorkerPool, helpers: Helpers, data: st.DataObject
) -> None:
    """Some wrong and some right, and some missing or too many; the first that is wrong is named."""
    calls_before = helpers.library.touch_all_calls()
    positions = sorted(data.draw(st.sets(st.integers(0, len(TYPES) - 1))))
    arguments = [right(ctype) for ctype in TYPES]
    for position in positions:
        wrong = WRONG_VALUES[TYPES[position]]
        arguments[position] = wrong[data.draw(st.integers(0, len(wrong) - 1))]
    change = data.draw(st.integers(-3, 3))
    arguments = arguments[:change] if change < 0 else arguments + [1] * change
    call = data.draw(st.sampled_from(ways_to_call(two_workers, touch_all)))
    if change != 0:
        with pytest.raises(TypeError, match=rf"takes 15 arguments \({15 + change} given\)"):
            call(arguments)
    elif positions:
        with pytest.raises(REFUSED, match=rf"touch_all\(\) argument {positions[0] + 1}: "):
            call(arguments)
    else:
        call(arguments)
        return
    assert helpers.library.touch_all_calls() == calls_before


def test_messages_say_what_was_wrong_and_what_would_be_right(helpers: Helpers) -> None:
    function = helpers.native("sum_doubles_at", "double (const double *, size_t)")
    cases: list[tuple[Any, type[Exception], str]] = [
        (
            array.array("f", [1]),
            TypeError,
            r"points to double, and .* of the format 'f' \(float32\); convert it first$",
        ),
        (memoryview(bytearray(16))[1:9], ValueError, r"points to double, .* not aligned for it; pass a copy"),
        ((ctypes.c_double.__ctype_be__ * 2)(), TypeError, r"points to double, .* in the other byte order"),
        ((ctypes.py_object * 2)(), TypeError, r"holds references to Python objects"),
        (ctypes.byref(ctypes.c_float()), TypeError, r"this c_float holds items of the format"),
    ]
    for wrong, kind, message in cases:
        with pytest.raises(kind, match=r"sum_doubles_at\(\) argument 1: .*" + message):
            function(wrong, 1)


def test_a_lack_of_memory_is_told_with_what_would_be_right(helpers: Helpers) -> None:
    class Series:
        def to_numpy(self) -> None: ...

    class Image:
        __array_interface__ = None

    function = helpers.native("sum_bytes", "uint64_t (const char *, size_t)")
    for wrong, hint in (
        ("text", "not str; pass its .encode()"),
        (1.5, "not float; a number has no memory to point to, pass an array of one"),
        ([1], "not list; pass an array of its items, as array.array() or numpy.array() makes it"),
        (Series(), "not Series; pass its .to_numpy()"),
        (Image(), "not Image; pass numpy.asarray() of it"),
    ):
        with pytest.raises(
            TypeError,
            match=re.escape(
                f"sum_bytes() argument 1: `const char *` takes a buffer, a ctypes object, an address or None, {hint}"
            )
            + "$",
        ):
            function(wrong, 1)


@pytest.mark.parametrize(
    ("ctype", "hint"),
    [
        ("const char *", "; pass its .encode()"),
        ("void *", "; pass ctypes.create_string_buffer() of its .encode()"),
        ("const wchar_t *", "; pass ctypes.create_unicode_buffer() of it"),
        ("const double *", ""),
    ],
)
def test_text_is_told_what_would_be_memory_for_it(helpers: Helpers, ctype: str, hint: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"an address or None, not str{hint}") + "$"):
        helpers.native("id_pointer", f"void *({ctype})")("text")


def test_text_made_as_the_message_says_is_taken() -> None:
    length = wp.native("c:wcslen", "size_t (const wchar_t *)")
    assert length(ctypes.create_unicode_buffer("text")) == 4
    assert wp.native("c:strlen", "size_t (char *)")(ctypes.create_string_buffer(b"text")) == 4


@pytest.mark.parametrize("ctype", ["int (*)(int)", "const char *(*)(const void *)", "const double *(const void *)"])
@pytest.mark.parametrize("wrong", [lambda: 0, "text", b"bytes", bytearray(8), 1.5, [1], memoryview(b"bytes")])
def test_no_function_is_told_what_would_be_one(helpers: Helpers, ctype: str, wrong: object) -> None:
    with pytest.raises(
        TypeError, match=r"points to a function: it takes .*; ctypes\.CFUNCTYPE\(\.\.\.\)\(f\) makes one"
    ):
        helpers.native("id_pointer", f"void *({ctype})")(wrong)


@NEEDS_NUMPY
def test_other_items_are_told_how_to_convert_them(helpers: Helpers) -> None:
    cases = [
        ("double *", numpy.zeros(2, "f4"), r"'f' \(float32\); convert it first, as in a = a\.astype\('float64'\)$"),
        ("double *", numpy.zeros(2, "i8"), r"'l' \(int64\); convert it first, as in a = a\.astype\('float64'\)$"),
        ("double *", numpy.zeros(2, "c16"), r"'Zd'; pass an array of double$"),
        ("int32_t *", numpy.zeros(2, "i8"), r"'l' \(int64\); convert it first, as in a = a\.astype\('int32'\)$"),
        ("bool *", numpy.zeros(2, "i4"), r"'i' \(int32\); convert it first, as in a = a\.astype\('bool'\)$"),
        ("int *", numpy.zeros(2, "u4"), r"astype\('int32'\), or declare the parameter `void \*` if .* takes both$"),
        ("int *", numpy.zeros(2, "f4"), r"\(float32\); convert it first, as in a = a\.astype\('int32'\)$"),
        ("double *", numpy.zeros(2, ">f8"), r"convert it first, as in a = a\.astype\(a\.dtype\.newbyteorder\('='\)\)$"),
    ]
    for ctype, wrong, message in cases:
        with pytest.raises(TypeError, match=message):
            helpers.native("id_pointer", f"void *({ctype})")(wrong)
    for ctype, wrong, message in (
        ("double", numpy.zeros(2), r"a number, not numpy\.ndarray; map_array\(\) calls a function for each element"),
        ("int64_t", array.array("q", [1]), r"an integer, not array\.array; map_array\(\) calls a function for each"),
        ("int64_t", numpy.datetime64(1, "s"), r"dates are integers to C: pass its \.astype\('i8'\)"),
        ("int64_t", numpy.timedelta64(1, "s"), r"dates are integers to C: pass its \.astype\('i8'\)"),
    ):
        with pytest.raises(TypeError, match=message):
            helpers.native("id_pointer", f"void *({ctype})")(wrong)


def test_a_number_too_long_to_be_shown_is_out_of_range_all_the_same(helpers: Helpers) -> None:
    for ctype in ("int8_t", "uint64_t", "double", "void *"):
        function = helpers.native("id_int", f"int ({ctype})")
        for wrong in (10**6000, -(10**6000)):
            with pytest.raises(
                OverflowError, match=rf"argument 1: this int is out of the range of `{re.escape(ctype)}`"
            ):
                function(wrong)
        with pytest.raises(OverflowError, match=r"argument 1: 10{99}\.\.\. is out of the range"):
            function(10**2000)


def test_what_an_argument_raises_itself_is_the_cause_or_ends_the_call(helpers: Helpers) -> None:
    class Raises:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def __index__(self) -> int:
            raise self.error("mine")

        def __float__(self) -> float:
            raise self.error("mine")

        def __bool__(self) -> bool:
            raise self.error("mine")

    for ctype in ("int8_t", "uint64_t", "double", "float", "bool", "void *"):
        function = helpers.native("id_int", f"int ({ctype})")
        with pytest.raises(KeyboardInterrupt, match="mine"):
            function(Raises(KeyboardInterrupt))
        with pytest.raises(TypeError, match="argument 1: ") as caught:
            function(Raises(ZeroDivisionError))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


# ---- Numbers and pointers ----


class Address:
    def __init__(self, address: int) -> None:
        self.address = address

    def __index__(self) -> int:
        return self.address


def test_integers_of_every_kind_are_addresses(helpers: Helpers, two_workers: wp.WorkerPool) -> None:
    function = helpers.native("sum_doubles_at", "double (const double *, size_t)")
    data = array.array("d", [1, 2])
    address = data.buffer_info()[0]
    kinds: list[Any] = [int, Address, type("MyInt", (int,), {})]
    if numpy is not None:
        kinds += [numpy.uint64, numpy.int64, numpy.uintp, numpy.intp, numpy.longlong, numpy.ulonglong]
    for kind in kinds:
        assert function(kind(address), 2) == 3.0
        assert two_workers.submit(function, kind(address), 2).result(LONG) == 3.0
    for wrong in (2**64, -(2**64)):
        with pytest.raises(OverflowError, match=r"argument 1: .* out of the range"):
            function(Address(wrong), 2)


def small_integers() -> list[Any]:
    small: list[Any] = [1, 5, 4095, -2, -4095, 2**64 - 5, True, Address(5), type("MyInt", (int,), {})(5)]
    return small + ([numpy.int64(5), numpy.uint8(5), numpy.arange(9)[5]] if numpy is not None else [])


@pytest.mark.parametrize("ctype", ["void *", "const void *", "double *", "const char *", "int64_t **", "int (*)(int)"])
def test_an_element_of_an_array_is_no_address(helpers: Helpers, two_workers: wp.WorkerPool, ctype: str) -> None:
    function = helpers.native("id_pointer", f"void *({ctype})")
    advice = "a function" if ctype.startswith("int (") else r"an array of one, as a\[:1\], for its memory"
    message = rf"argument 1: .*5 is no address; pass {advice}, or ctypes\.c_void_p\(\) of it if"
    for small in small_integers():
        calls: list[Callable[[], Any]] = [
            lambda small=small: function(small),
            lambda small=small: two_workers.submit(function, small),
            lambda small=small: list(two_workers.map(function, [small])),
            lambda small=small: function(type("Stand", (), {"_as_parameter_": small})()),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=message if repr(small) == "5" else "is no address; pass a"):
                call()
    with pytest.raises(ValueError, match="is no address"):
        two_workers.map_array(helpers.native("add_to", "int64_t (int64_t *, int64_t)"), 5, array.array("q", [1]))


@pytest.mark.parametrize("ctype", ["void *", "const double *", "int (*)(int)"])
def test_values_that_stand_in_the_place_of_addresses_are_taken_as_pointers(helpers: Helpers, ctype: str) -> None:
    function = helpers.native("id_pointer", f"void *({ctype})")
    for value, result in ((0, None), (None, None), (-1, 2**64 - 1), (4096, 4096), (2**64 - 1, 2**64 - 1)):
        assert function(value) == result
    assert function(ctypes.c_void_p(1)) == 1  # SIG_IGN.
    if importlib.util.find_spec("cffi"):
        ffi: Any = importlib.import_module("cffi").FFI()
        assert function(ffi.cast("int (*)(int)" if "(*)" in ctype else "double *", 8)) == 8


@NEEDS_NUMPY
def test_a_numpy_integer_is_not_taken_for_the_memory_that_holds_it(
    helpers: Helpers, two_workers: wp.WorkerPool
) -> None:
    function = helpers.native("sum_doubles_at", "double (const double *, size_t)")
    of_int64 = helpers.native("add_to", "int64_t (int64_t *, int64_t)")
    identity = helpers.native("id_pointer", "void *(const void *)")
    data = numpy.array([1.5, 2.5])
    number = numpy.array([40])
    addresses = numpy.array([data.ctypes.data, data[1:].ctypes.data], numpy.uintp)
    assert list(two_workers.map(function, addresses, [1, 1])) == [1.5, 2.5]
    assert list(two_workers.map(identity, addresses)) == addresses.tolist()
    assert of_int64(numpy.int64(number.ctypes.data), 2) == 42
    assert two_workers.map_array(
        helpers.native("add_to", "int64_t (int64_t *, int64_t)"), numpy.intp(number.ctypes.data), numpy.array([1, 1])
    ).tolist() == [43, 44]
    for target in (identity, of_int64):
        with pytest.raises(TypeError, match=r"could be an address or memory; pass int\(\) of it for the address"):
            target(*[addresses.view(numpy.int64)[:1].reshape(()), 1][: 1 if target is identity else 2])
    assert of_int64(number.reshape(1), 1) == 45
    assert function(numpy.array(1.5), 1) == 1.5  # Memory: no integer.


def pointers_to_pointers() -> list[Any]:
    one = (ctypes.POINTER(ctypes.c_double) * 1)(ctypes.pointer(ctypes.c_double(1)))
    right: list[Any] = [one, (ctypes.c_void_p * 1)(), (ctypes.c_char_p * 1)(), ctypes.byref(one), ctypes.pointer(one)]
    right += [ctypes.pointer(ctypes.pointer(ctypes.c_double())), array.array("Q", [1]), array.array("q", [1])]
    right += [ctypes.byref(ctypes.c_void_p()), (ctypes.CFUNCTYPE(ctypes.c_int) * 1)(), None]
    return right + ([numpy.zeros(1, numpy.uintp), numpy.zeros((2, 3), numpy.intp)] if numpy is not None else [])


def no_pointers_to_pointers() -> list[Any]:
    wrong: list[Any] = [((ctypes.c_double * 2) * 2)(), array.array("d", [1]), array.array("I", [1]), b"12345678"]
    wrong += [bytearray(16), memoryview(bytearray(16)), memoryview(bytearray(16)).cast("d"), ctypes.byref(Pair())]
    wrong += [ctypes.c_char_p(b"12345678"), ctypes.c_char_p(), ctypes.c_wchar_p("text")]  # byref() of them was meant.
    wrong += [ctypes.pointer(ctypes.c_double()), ((ctypes.c_uint8 * 8) * 2)(), [array.array("d", [1])], "12345678"]
    if numpy is not None:
        wrong += [numpy.zeros((2, 2)), numpy.zeros((8, 8), numpy.uint8), numpy.zeros(2, "i4"), numpy.zeros(2, ">u8")]
        wrong += [numpy.zeros(2, object), numpy.zeros(2, "M8[s]"), numpy.zeros(2, "S8"), numpy.zeros(2, "U2")]
    return wrong


@pytest.mark.parametrize("ctype", ["double **", "const double *const *", "unsigned char *[2]", "void (**)(int)"])
def test_pointers_to_pointers_take_arrays_of_pointers_only(helpers: Helpers, ctype: str) -> None:
    function = helpers.native("id_pointer", f"void *({ctype})")
    for right in pointers_to_pointers():
        function(right)
    for wrong in no_pointers_to_pointers():
        with pytest.raises(REFUSED, match=r"id_pointer\(\) argument 1: "):
            function(wrong)
    with pytest.raises(TypeError, match=r"points to pointers, .*; pass an array of addresses"):
        function((ctypes.c_double * 2)())


@NEEDS_NUMPY
def test_dates_are_memory_for_void_and_are_told_their_view(helpers: Helpers, two_workers: wp.WorkerPool) -> None:
    for kind in ("M8[ns]", "m8[s]", "M8[D]"):
        dates = numpy.arange(3).astype(kind)
        constant = dates.copy()
        constant.setflags(write=False)
        for pointer in ("void *", "const void *", "const unsigned char *"):
            function = helpers.native("sum_bytes", f"uint64_t ({pointer}, size_t)")
            assert function(dates, 24) == 3
            assert two_workers.submit(function, dates, 24).result(LONG) == 3
            with pytest.raises(ValueError, match="is not contiguous; pass a copy"):
                function(dates[::2], 16)
        with pytest.raises(TypeError, match=r"needs a writable buffer, and this numpy\.ndarray is read-only"):
            helpers.native("sum_bytes", "uint64_t (void *, size_t)")(constant, 24)
        of_int64 = helpers.native("sum_bytes", "uint64_t (const int64_t *, size_t)")
        with pytest.raises(TypeError, match=r"argument 1: .*dates are integers to C: pass its \.view\('i8'\)"):
            of_int64(dates, 3)
        assert of_int64(dates.view("i8"), 24) == 3


# ---- What is right all the same ----


def test_items_of_the_same_kind_are_taken_by_any_name(helpers: Helpers) -> None:
    function = helpers.native("sum_doubles_at", "double (const double *, size_t)")
    given: list[Any] = [
        array.array("d", [1, 2]),
        memoryview(array.array("d", [1, 2])),
        (ctypes.c_double * 2)(1, 2),
        ctypes.byref((ctypes.c_double * 2)(1, 2)),
        ctypes.cast((ctypes.c_double * 2)(1, 2), ctypes.POINTER(ctypes.c_double)),
        ctypes.pointer((ctypes.c_double * 2)(1, 2)),
        array.array("d", [1, 2]).tobytes(),
        bytearray(array.array("d", [1, 2]).tobytes()),
        memoryview(array.array("d", [1, 2])).cast("B"),
        ctypes.cast((ctypes.c_double * 2)(1, 2), ctypes.c_void_p),
    ]
    for pointer in given:
        assert function(pointer, 2) == 3.0
    assert function(None, 0) == 0.0
    assert function(b"", 0) == 0.0
    assert function(array.array("d"), 0) == 0.0


@NEEDS_NUMPY
def test_numpy_arrays_are_taken_by_what_they_hold(helpers: Helpers) -> None:
    function = helpers.native("sum_doubles_at", "double (const double *, size_t)")
    array = numpy.arange(6.0)
    constant = array.copy()
    constant.setflags(write=False)
    for data in (
        array,
        array.reshape(2, 3),
        constant,
        array[1:],
        array.astype("=f8"),
        array.view(numpy.uint8),
        array[:0],
    ):
        assert function(data, data.nbytes // 8) == data.view(numpy.float64).sum()
    of_longs = helpers.native("add_to", "int64_t (int64_t *, int64_t)")
    for code in ("l", "q", "p", "i8"):
        assert of_longs(numpy.full(1, 40, code), 2) == 42


def test_pointers_to_anything_take_anything(helpers: Helpers) -> None:
    """Bytes, void and structs: nothing is known of what the function makes of the memory."""
    for pointer in ("const void *", "const unsigned char *", "const char *", "const int8_t *", "const struct point *"):
        function = helpers.native("sum_bytes", f"uint64_t ({pointer}, size_t)")
        for memory in (array.array("d", [0.0]), (ctypes.c_int * 2)(1, 2), Pair(), ctypes.byref(Pair()), b"12345678"):
            assert function(memory, 1) < 256
        with pytest.raises(TypeError, match="holds references to Python objects"):
            function((ctypes.py_object * 2)(1, 2), 8)


@NEEDS_NUMPY
def test_fields_with_an_o_in_their_name_are_no_objects(helpers: Helpers) -> None:
    function = helpers.native("sum_bytes", "uint64_t (const void *, size_t)")
    assert function(numpy.zeros(2, [("O", "f8"), ("xOy", "i4")]), 24) == 0
    with pytest.raises(TypeError, match="holds references to Python objects"):
        function(numpy.zeros(2, [("x", "f8"), ("y", "O")]), 8)


def test_a_bool_takes_numbers_and_what_behaves_like_one(helpers: Helpers) -> None:
    function = helpers.native("id_bool", "bool (bool)")
    for value in (True, 1, -1, 2**70, 0.5, math.nan, decimal.Decimal(1)):
        assert function(value) is True
    for value in (False, 0, 0.0, decimal.Decimal(0)):
        assert function(value) is False
    if numpy is not None:
        assert function(numpy.bool_(True)) is True
        with pytest.raises(TypeError, match="takes a truth value"):
            function(numpy.ones(2))
