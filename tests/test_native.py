"""Native functions: signatures, conversions, errors, and what is refused."""

from __future__ import annotations

import array
import copy
import ctypes
import errno
import gc
import math
import mmap
import pickle
import re
import struct
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workerpool as wp
from support import LONG, Helpers, wait_until

BYTES_SIGNATURE = "uint64_t (const unsigned char *, size_t)"

ROUTES = pytest.mark.parametrize("force_libffi", [False, True], ids=["direct", "libffi"])


def has_libffi() -> bool:
    try:
        wp.native(1, "int (int)", force_libffi=True)
    except wp.SignatureError:
        return False
    return True


def through(helpers: Helpers, name: str, signature: str, force_libffi: bool, **options: Any) -> wp.NativeFunction:
    if force_libffi and not has_libffi():
        pytest.skip("built without libffi")
    function = helpers.native(name, signature, force_libffi=force_libffi, **options)
    assert function.route == ("libffi" if force_libffi else "direct")
    return function


# ---- Numbers ----

SIGNED = {
    "signed char": ("id_schar", "b"),
    "short": ("id_short", "h"),
    "int": ("id_int", "i"),
    "long": ("id_long", "l"),
    "long long": ("id_llong", "q"),
    "int8_t": ("id_schar", "b"),
    "int16_t": ("id_short", "h"),
    "int32_t": ("id_int", "i"),
    "int64_t": ("id_llong", "q"),
    "ssize_t": ("id_long", "l"),
    "ptrdiff_t": ("id_long", "l"),
    "intptr_t": ("id_long", "l"),
}
UNSIGNED = {
    "unsigned char": ("id_uchar", "B"),
    "unsigned short": ("id_ushort", "H"),
    "unsigned": ("id_uint", "I"),
    "unsigned int": ("id_uint", "I"),
    "unsigned long": ("id_ulong", "L"),
    "unsigned long long": ("id_ullong", "Q"),
    "uint8_t": ("id_uchar", "B"),
    "uint16_t": ("id_ushort", "H"),
    "uint32_t": ("id_uint", "I"),
    "uint64_t": ("id_ullong", "Q"),
    "size_t": ("id_size", "N"),
    "uintptr_t": ("id_ulong", "L"),
}


def limits(ctype: str) -> tuple[str, int, int]:
    name, code = (SIGNED | UNSIGNED)[ctype]
    bits = 8 * struct.calcsize(code)
    return (name, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if ctype in SIGNED else (name, 0, 2**bits - 1)


@ROUTES
@pytest.mark.parametrize("ctype", [*SIGNED, *UNSIGNED])
def test_integers_at_their_limits(helpers: Helpers, ctype: str, force_libffi: bool) -> None:
    name, least, most = limits(ctype)
    function = through(helpers, name, f"{ctype} ({ctype})", force_libffi)
    with wp.WorkerPool(1) as pool:
        for value in (least, least + 1, -1, 0, 1, most - 1, most):
            if least <= value <= most:
                assert function(value) == value
                assert pool.submit(function, value).result() == value
        for value in (least - 1, most + 1, 2**64, -(2**64), 10**40):
            with pytest.raises(OverflowError, match="argument 1"):
                function(value)
            with pytest.raises(OverflowError, match="argument 1"):
                pool.submit(function, value)


@settings(max_examples=200)
@given(ctype=st.sampled_from([*SIGNED, *UNSIGNED]), value=st.integers(-(2**66), 2**66))
def test_any_integer_is_converted_or_refused(helpers: Helpers, ctype: str, value: int) -> None:
    name, least, most = limits(ctype)
    function = helpers.native(name, f"{ctype} ({ctype})")
    if least <= value <= most:
        assert function(value) == value
    else:
        with pytest.raises(OverflowError, match="out of the range"):
            function(value)


@ROUTES
@settings(max_examples=100)
@given(value=st.floats(allow_nan=False))
def test_doubles(helpers: Helpers, force_libffi: bool, value: float) -> None:
    function = through(helpers, "id_double", "double (double)", force_libffi)
    assert function(value) == value
    assert math.copysign(1, function(value)) == math.copysign(1, value)


@ROUTES
@settings(max_examples=100)
@given(value=st.floats(width=32, allow_nan=False))
def test_floats(helpers: Helpers, force_libffi: bool, value: float) -> None:
    assert through(helpers, "id_float", "float (float)", force_libffi)(value) == value


@ROUTES
def test_floating_corners(helpers: Helpers, force_libffi: bool) -> None:
    of_double = through(helpers, "id_double", "double (double)", force_libffi)
    of_float = through(helpers, "id_float", "float (float)", force_libffi)
    assert math.isnan(of_double(math.nan))
    assert math.isnan(of_float(math.nan))
    assert of_float(math.inf) == math.inf
    assert of_float(0.1) == struct.unpack("f", struct.pack("f", 0.1))[0]
    assert of_double(3) == 3.0
    assert of_double(True) == 1.0
    for value in (1e39, -1e39, 1e300):
        with pytest.raises(OverflowError, match="`float`"):
            of_float(value)
    with pytest.raises(OverflowError):
        of_double(10**400)
    for wrong in ("1.0", None, b"", 1j, []):
        with pytest.raises(TypeError, match=r"argument 1: `double` takes a number, not"):
            of_double(wrong)


@ROUTES
def test_bool(helpers: Helpers, force_libffi: bool) -> None:
    function = through(helpers, "id_bool", "bool (bool)", force_libffi)
    assert function(True) is True
    assert function(0) is False
    assert function(256) is True  # A truth value, not the lowest byte.


@ROUTES
def test_char_is_a_number(helpers: Helpers, force_libffi: bool) -> None:
    assert through(helpers, "id_char", "char (char)", force_libffi)(65) == 65


@ROUTES
@pytest.mark.thread_unsafe(reason="reads a counter of the whole process")
def test_void(helpers: Helpers, force_libffi: bool) -> None:
    function = through(helpers, "nothing", "void (void)", force_libffi)
    calls = helpers.library.nothing_calls
    before = calls()
    with wp.WorkerPool(1) as pool:
        assert pool.submit(function).result() is None
        assert pool.submit(function).result(LONG) is None
        assert function() is None
    assert calls() == before + 3


@ROUTES
def test_many_parameters_of_all_kinds(helpers: Helpers, force_libffi: bool) -> None:
    signature = (
        "double (int8_t, float, uint16_t, double, int32_t, float, uint64_t, double, int64_t, "
        "const unsigned char *, bool, double)"
    )
    try:
        function = helpers.native("mixed", signature, force_libffi=force_libffi)
    except wp.SignatureError as error:
        assert not has_libffi()
        assert "libffi" in str(error)
        return
    expected = -1 + 2 * 0.5 + 3 * 2 + 4 * 0.25 + 5 * -3 + 6 * 1.5 + 7 * 4 + 8 * 0.125 + 9 * -5 + 10 * 6 + 11 + 12 * 7
    arguments = (-1, 0.5, 2, 0.25, -3, 1.5, 4, 0.125, -5, b"\x06", True, 7)
    assert function(*arguments) == expected
    with wp.WorkerPool(1) as pool:
        assert pool.submit(function, *arguments).result(LONG) == expected
        assert list(pool.map(function, *([x] * 50 for x in arguments))) == [expected] * 50


@pytest.mark.parametrize("wrong", [1.0, "1", b"1", None, [], 1j])
def test_integer_parameter_takes_no_other_type(helpers: Helpers, wrong: Any) -> None:
    function = helpers.native("id_int", "int (int)")
    with pytest.raises(TypeError, match=r"id_int\(\) argument 1: `int` takes an integer, not"):
        function(wrong)
    with pytest.raises(TypeError, match=r"`unsigned int` takes an integer, not"):
        helpers.native("id_uint", "unsigned (unsigned)")(wrong)


def test_objects_with_index_and_float(helpers: Helpers) -> None:
    class Number:
        def __index__(self) -> int:
            return 7

        def __float__(self) -> float:
            return 7.5

        def __bool__(self) -> bool:
            return True

    assert helpers.native("id_int", "int (int)")(Number()) == 7
    assert helpers.native("id_ulong", "unsigned long (unsigned long)")(Number()) == 7
    assert helpers.native("id_double", "double (double)")(Number()) == 7.5
    assert helpers.native("id_bool", "bool (bool)")(Number()) is True


# ---- Pointers ----


class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_uint8), ("b", ctypes.c_uint8)]


def readable_buffers() -> dict[str, Any]:
    return {
        "bytes": b"\x01\x02",
        "bytearray": bytearray(b"\x01\x02"),
        "memoryview": memoryview(b"\x01\x02"),
        "slice": memoryview(b"\x00\x01\x02\x00")[1:3],
        "array": array.array("B", [1, 2]),
        "ctypes array": (ctypes.c_uint8 * 2)(1, 2),
        "structure": Pair(1, 2),
        "c_uint16": ctypes.c_uint16(0x0201 if struct.pack("=H", 1)[0] else 0x0102),
        "subclass of bytes": type("MyBytes", (bytes,), {})(b"\x01\x02"),
    }


@ROUTES
@pytest.mark.parametrize("kind", readable_buffers())
def test_const_pointer_takes_any_buffer(helpers: Helpers, kind: str, force_libffi: bool) -> None:
    function = through(helpers, "sum_bytes", BYTES_SIGNATURE, force_libffi)
    with wp.WorkerPool(1) as pool:
        assert function(readable_buffers()[kind], 2) == 3
        assert pool.submit(function, readable_buffers()[kind], 2).result(LONG) == 3
        assert list(pool.map(function, [readable_buffers()[kind]] * 3, [2] * 3)) == [3, 3, 3]


@pytest.mark.parametrize("make", [bytearray, lambda b: memoryview(bytearray(b)), lambda b: array.array("B", b)])
def test_pointer_writes_to_writable_buffers(helpers: Helpers, make: Any) -> None:
    fill = helpers.native("fill_bytes", "void (unsigned char *, int, size_t)")
    buffer = make(b"\x00" * 4)
    with wp.WorkerPool(1) as pool:
        pool.submit(fill, buffer, 7, 3).result(LONG)
    assert bytes(buffer) == b"\x07\x07\x07\x00"


def test_ctypes_objects_that_hold_addresses(helpers: Helpers) -> None:
    """They mean the address that they hold, as they do to ctypes."""
    sum_bytes = helpers.native("sum_bytes", BYTES_SIGNATURE)
    data = (ctypes.c_uint8 * 4)(1, 2, 3, 4)
    address = ctypes.addressof(data)
    given = [
        ctypes.byref(data),
        ctypes.pointer(data),
        ctypes.cast(data, ctypes.POINTER(ctypes.c_uint8)),
        ctypes.c_void_p(address),
        ctypes.c_char_p(address),
        address,
        data,
    ]
    with wp.WorkerPool(1) as pool:
        for pointer in given:
            assert sum_bytes(pointer, 4) == 10
            assert pool.submit(sum_bytes, pointer, 4).result(LONG) == 10
        assert sum_bytes(ctypes.byref(data, 2), 2) == 7  # byref with an offset.
        assert sum_bytes(ctypes.c_char_p(b"\x05\x06"), 2) == 11


def test_array_of_pointers_is_a_buffer(helpers: Helpers) -> None:
    one = (ctypes.c_char_p * 1)(b"abc")
    expected = sum(ctypes.string_at(ctypes.addressof(one), ctypes.sizeof(one)))
    assert helpers.native("sum_bytes", BYTES_SIGNATURE)(one, ctypes.sizeof(one)) == expected


def test_structure_by_byref_is_written(helpers: Helpers) -> None:
    fill = helpers.native("fill_bytes", "void (void *, int, size_t)")
    pair = Pair()
    with wp.WorkerPool(1) as pool:
        pool.submit(fill, ctypes.byref(pair), 9, 1).result(LONG)
        pool.submit(fill, ctypes.byref(pair, 1), 8, 1).result(LONG)
    assert (pair.a, pair.b) == (9, 8)


def test_none_and_addresses(helpers: Helpers) -> None:
    function = helpers.native("id_pointer", "void *(void *)")
    assert function(None) is None
    assert function(0) is None
    assert function(ctypes.c_void_p(None)) is None
    assert function(4096) == 4096
    assert function(2 ** (8 * struct.calcsize("P")) - 1) == 2 ** (8 * struct.calcsize("P")) - 1
    for value in (2 ** (8 * struct.calcsize("P")), 10**40):
        with pytest.raises(OverflowError, match="argument 1"):
            function(value)


def test_byref_keeps_its_object_alive(helpers: Helpers) -> None:
    wait_at = helpers.native("wait_at", "int (int64_t *)")
    gate = (ctypes.c_int64 * 2)()
    alive = weakref.ref(gate)
    address = ctypes.addressof(gate)
    with wp.WorkerPool(1) as pool:
        future = pool.submit(wait_at, ctypes.byref(gate))
        del gate
        gc.collect()
        assert alive() is not None
        ctypes.c_int64.from_address(address + 8).value = 1
        future.result(LONG)


def test_mmap(helpers: Helpers) -> None:
    with mmap.mmap(-1, 4096) as memory:
        helpers.native("fill_bytes", "void (void *, int, size_t)")(memory, 1, 4096)
        assert helpers.native("sum_bytes", BYTES_SIGNATURE)(memory, 4096) == 4096


@pytest.mark.parametrize("read_only", [b"1234", memoryview(b"1234"), memoryview(bytearray(4)).toreadonly()])
def test_read_only_buffer_for_a_pointer_that_is_not_const(helpers: Helpers, read_only: Any) -> None:
    fill = helpers.native("fill_bytes", "void (unsigned char *, int, size_t)")
    before = bytes(read_only)
    message = r"fill_bytes\(\) argument 1: `unsigned char \*` needs a writable buffer, and this \w+ is read-only"
    with wp.WorkerPool(1) as pool:
        for call in (fill, lambda *args: pool.submit(fill, *args)):
            with pytest.raises(TypeError, match=message):
                call(read_only, 7, 4)
    assert bytes(read_only) == before


@pytest.mark.parametrize("signature", [BYTES_SIGNATURE, "uint64_t (unsigned char *, size_t)"])
def test_non_contiguous_buffer(helpers: Helpers, signature: str) -> None:
    function = helpers.native("sum_bytes", signature)
    for step in (2, -1):
        with pytest.raises(ValueError, match=r"argument 1: .* is not contiguous; pass a copy"):
            function(memoryview(bytearray(8))[::step], 4)


def test_released_memoryview(helpers: Helpers) -> None:
    function = helpers.native("sum_bytes", BYTES_SIGNATURE)
    view = memoryview(b"1234")
    view.release()
    with pytest.raises(ValueError, match=r"argument 1: .*released memoryview"):
        function(view, 4)
    with wp.WorkerPool(1) as pool, pytest.raises(ValueError, match="released memoryview"):
        pool.submit(function, view, 4)


def test_memoryview_cannot_be_released_under_a_job(helpers: Helpers) -> None:
    sleep = helpers.native("sleep_stamped", "void (int64_t *, int64_t)")
    view = memoryview(bytearray(16))
    with wp.WorkerPool(1) as pool:
        future = pool.submit(sleep, view, 50_000_000)
        with pytest.raises(BufferError):
            view.release()
        future.result(LONG)


@pytest.mark.parametrize("wrong", ["text", 1.5, [1], object(), {}, ctypes])
def test_pointer_takes_no_other_type(helpers: Helpers, wrong: Any) -> None:
    function = helpers.native("sum_bytes", BYTES_SIGNATURE)
    with pytest.raises(TypeError, match=r"argument 1: `const unsigned char \*` takes a buffer, a ctypes object, an"):
        function(wrong, 1)


def can_grow(data: bytearray) -> bool:
    try:
        data.append(0)
    except BufferError:
        return False
    return True


def test_failed_conversion_holds_nothing(helpers: Helpers) -> None:
    function = helpers.native("sum_bytes", BYTES_SIGNATURE)
    data = bytearray(4)
    with wp.WorkerPool(1) as pool:
        for bad in (-1, "x", None):
            with pytest.raises((OverflowError, TypeError), match="argument 2"):
                pool.submit(function, data, bad)
        data.append(0)
        with pytest.raises(OverflowError, match="argument 2"):
            list(pool.map(function, [data, data], [1, -1]))
        wait_until(lambda: can_grow(data))  # A worker may still be letting go of the first call's.
        stats = pool.stats().lanes["normal"]
        assert stats.failed == 0


@settings(max_examples=100)
@given(data=st.binary(max_size=2000))
def test_any_bytes_are_summed(helpers: Helpers, data: bytes) -> None:
    function = helpers.native("sum_bytes", BYTES_SIGNATURE)
    assert function(data, len(data)) == sum(data)
    assert function(memoryview(bytearray(data)), len(data)) == sum(data)


# ---- Counting arguments ----


@pytest.mark.parametrize("arguments", [(), (b"",), (b"", 0, 0)])
def test_wrong_number_of_arguments(helpers: Helpers, arguments: tuple[Any, ...]) -> None:
    function = helpers.native("sum_bytes", BYTES_SIGNATURE)
    message = rf"sum_bytes\(\) takes 2 arguments \({len(arguments)} given\)"
    with wp.WorkerPool(1) as pool:
        with pytest.raises(TypeError, match=message):
            function(*arguments)
        with pytest.raises(TypeError, match=message):
            pool.submit(function, *arguments)
        if arguments:
            with pytest.raises(TypeError, match=message):
                pool.map(function, *([x] for x in arguments))
        assert pool.stats().lanes["normal"].submitted == 0


def test_no_keyword_arguments(helpers: Helpers) -> None:
    function = helpers.native("id_int", "int (int)")
    with pytest.raises(TypeError, match=r"id_int\(\) takes no keyword arguments"):
        function(1, x=2)
    with wp.WorkerPool(1) as pool, pytest.raises(TypeError, match=r"id_int'?\(\) takes no keyword arguments"):
        pool.submit(function, 1, x=2)


# ---- Signatures ----


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("int (unknown_t)", 5),
        ("int (int,)", 9),
        ("int (int", 8),
        ("int int)", 4),
        ("", 0),
        ("long double (int)", 0),
        ("int (long double)", 5),
        ("int (int) x", 10),
        ("int (short long)", None),
        ("int ($)", 5),
        ("struct point (int)", None),
    ],
)
def test_bad_signature_says_where(text: str, position: int | None) -> None:
    with pytest.raises(wp.SignatureError, match=r"at position \d+ of ") as caught:
        wp.native(1, text)
    assert repr(text) in str(caught.value)
    if position is not None:
        assert f"at position {position} of" in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, wp.Error)


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("double(double)", "double (double)"),
        ("unsigned long f(unsigned long crc, const void *buf, unsigned len)", None),
        ("int ( void )", "int (void)"),
        ("long long int (long int, unsigned short int)", "long long (long, unsigned short)"),
        ("const char * (const char *const)", None),
    ],
)
def test_signature_is_normalised(text: str, normalised: str | None) -> None:
    function = wp.native(1, text)
    if normalised is not None:
        assert function.signature == normalised
    assert wp.native(1, function.signature).signature == function.signature


@settings(max_examples=300)
@given(st.text(alphabet="intvodchar ()*,[]constunsigned_ulgftp1;{}\0é", max_size=60))
def test_any_text_is_a_signature_or_an_error(text: str) -> None:
    try:
        function = wp.native(1, text)
    except (wp.SignatureError, ValueError):
        return
    assert wp.native(1, function.signature).signature == function.signature


@pytest.mark.parametrize(
    "word", ["__complex__", "__complex", "_Complex", "__float80", "__ibm128", "__bf16", "_BitInt(7)"]
)
@pytest.mark.parametrize("text", ["double {} (double)", "double (double {})", "double ({} double)", "{} double (int)"])
def test_no_keyword_of_a_compiler_is_taken_for_a_name(word: str, text: str) -> None:
    with pytest.raises(
        wp.SignatureError, match=f"'{re.escape(word.partition('(')[0])}' is not|complex numbers by value"
    ):
        wp.native(1, text.format(word))


def test_keywords_that_say_nothing_of_the_call_are_read() -> None:
    text = "__extension__ __inline__ __const char *f(__signed__ char __c, __volatile__ int *__restrict__ __p)"
    assert wp.native(1, text).signature == "const char *(signed char, volatile int *restrict)"


@pytest.mark.parametrize(
    "make",
    [
        lambda: wp.native(1, "int (" + "x" * 10**7),
        lambda: wp.native(1, "int (int)\0" + "x" * 10**7),
        lambda: wp.native(1, "x" * 10**7 + "\ud800"),
        lambda: wp.native(1, "int (" + "int, " * 700 + "int)"),
        lambda: wp.native(1, "int (int " + "*" * 4000 + ")")("x"),
        lambda: wp.native(1, "int (int)", raises="x" * 10**7),
        lambda: wp.native(1, "int (int)", name="x" * 10**7)("y"),
        lambda: wp.native(1, "int (int)", name="\ud800" + "x" * 10**7),
        lambda: wp.native(1, "int (int)")(10**5000),
        lambda: wp.native(1, "double (double)")(10**4000),
        lambda: wp.native("x" * 10**7, "int (int)"),
        lambda: wp.native("x" * 10**7 + ":abs", "int (int)"),
        lambda: wp.native(":" + "x" * 10**7, "int (int)"),
        lambda: wp.native("math:" + "x" * 10**7),
        lambda: wp.native(ctypes.CFUNCTYPE(None, type("x" * 10**7, (ctypes.Structure,), {}))(1)),
    ],
)
def test_errors_quote_no_more_than_a_few_hundred_characters(make: Callable[[], object]) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError, OSError, AttributeError)) as caught:
        make()
    assert len(str(caught.value)) < 700
    assert len(str(caught.value.__cause__)) < 700


def test_what_was_raised_while_converting_is_not_lost() -> None:
    class Argument:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __index__(self) -> int:
            raise self.error

        __float__ = __index__

    for text in ("int (int)", "int (unsigned)", "int (double)", "int (float)"):
        function = wp.native(1, text)
        for error in (KeyboardInterrupt(), SystemExit(3), MemoryError()):
            with pytest.raises(type(error)):
                function(Argument(error))
        with pytest.raises(TypeError, match="takes a") as caught:
            function(Argument(ZeroDivisionError("why")))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_native_function_is_made_of_another() -> None:
    magnitude = wp.native(":abs", "int (int)")
    other = wp.native(magnitude, name="magnitude", raises="nonzero")
    assert (other.address, other.__name__, other.raises) == (magnitude.address, "magnitude", "nonzero")
    with pytest.raises(wp.NativeError, match=r"magnitude\(\) returned 3"):
        other(-3)


def test_embedded_null_is_refused() -> None:
    with pytest.raises(wp.SignatureError, match="at position 9"):
        wp.native(1, "int (int)\0garbage")


# ---- Targets ----


def test_by_name(helpers: Helpers) -> None:
    function = wp.native(f"{helpers.path}:id_int", "int (int)")
    assert function(3) == 3
    assert function.__name__ == "id_int"
    assert "id_int" in repr(function)
    assert wp.native(":abs", "int (int)")(-3) == 3  # The process itself.
    with pytest.raises(OSError, match="cannot be loaded"):
        wp.native("libnosuchthing.so.1:x", "int (int)")
    with pytest.raises(AttributeError, match="no symbol 'no_such_symbol'"):
        wp.native(f"{helpers.path}:no_such_symbol", "int (int)")
    for bad in ("no_colon", "trailing:", ""):
        with pytest.raises(ValueError, match="library:symbol"):
            wp.native(bad, "int (int)")
    with pytest.raises(TypeError, match="needs a signature"):
        wp.native(f"{helpers.path}:id_int")


def test_by_address(helpers: Helpers) -> None:
    address = ctypes.cast(helpers.library.id_int, ctypes.c_void_p).value
    assert address is not None
    function = wp.native(address, "int (int)", name="mine")
    assert function(3) == 3
    assert function.address == address
    assert function.__name__ == "mine"
    with pytest.raises(TypeError, match="needs a signature"):
        wp.native(address)
    with pytest.raises(ValueError, match="must not be 0"):
        wp.native(0, "int (int)")
    with pytest.raises(OverflowError):
        wp.native(2**70, "int (int)")


def test_by_ctypes_function(helpers: Helpers) -> None:
    library = ctypes.CDLL(helpers.path)
    library.sum_bytes.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.sum_bytes.restype = ctypes.c_uint64
    function = wp.native(library.sum_bytes)
    assert function(b"\x01\x02", 2) == 3
    assert function.__name__ == "sum_bytes"
    with_text = wp.native(library.sum_bytes, BYTES_SIGNATURE)
    assert with_text(memoryview(b"\x01\x02"), 2) == 3
    library.nothing.argtypes = []
    library.nothing.restype = None
    assert wp.native(library.nothing)() is None


def test_ctypes_function_without_argtypes(helpers: Helpers) -> None:
    with pytest.raises(wp.SignatureError, match=r"id_int has no argtypes: set them .* or give native\(\) a signature"):
        wp.native(ctypes.CDLL(helpers.path).id_int)


def test_ctypes_function_with_types_that_cannot_be_passed(helpers: Helpers) -> None:
    for argtypes, restype in (([Pair], None), ([], Pair), ([ctypes.c_longdouble], None), ([ctypes.py_object], None)):
        function = ctypes.CDLL(helpers.path).id_int
        function.argtypes = argtypes
        function.restype = restype
        with pytest.raises(wp.SignatureError, match=r"(parameter 1|the result) of id_int"):
            wp.native(function)


@pytest.mark.parametrize("factory", [ctypes.CFUNCTYPE, ctypes.PYFUNCTYPE])
def test_ctypes_callback_into_python_is_refused(factory: Any) -> None:
    callback = factory(ctypes.c_int, ctypes.c_int)(lambda x: x)
    for signature in (None, "int (int)"):
        with pytest.raises(TypeError, match="submit"):
            wp.native(callback, signature)
    if factory is ctypes.CFUNCTYPE:
        with pytest.raises(TypeError, match="submit the Python function itself"):
            wp.native(callback)


def test_prototype_that_points_to_c_is_not_a_callback(helpers: Helpers) -> None:
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    assert wp.native(prototype(("id_int", helpers.library)))(3) == 3
    address = ctypes.cast(helpers.library.id_int, ctypes.c_void_p).value
    assert wp.native(prototype(address))(3) == 3


def test_function_that_needs_the_gil_is_refused() -> None:
    for function in (ctypes.PyDLL(None).abs, ctypes.pythonapi.Py_IncRef):
        with pytest.raises(TypeError, match="needs the GIL"):
            wp.native(function, "int (int)")


@pytest.mark.parametrize("wrong", [None, 1.5, [], True, b"libm.so:sqrt", len, lambda: None])
def test_wrong_targets(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"native\(\) takes a ctypes function, an address or"):
        wp.native(wrong, "int (int)")


def test_pickling_by_name_and_not_by_address(helpers: Helpers) -> None:
    named = wp.native(f"{helpers.path}:fail_with", "int (int, int)", name="mine", raises="nonzero")
    again = pickle.loads(pickle.dumps(named))
    assert again(0, 0) == 0
    assert (again.__name__, again.signature, again.route) == ("mine", named.signature, named.route)
    with pytest.raises(wp.NativeError):
        again(1, 0)
    by_address = wp.native(named.address, "int (int)")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="made from an address"):
            pickle.dumps(by_address, protocol)
        assert pickle.loads(pickle.dumps(named, protocol))(0, 0) == 0
    assert copy.copy(named)(0, 0) == 0


def test_library_stays_loaded_as_long_as_the_function(helpers: Helpers) -> None:
    function = wp.native(ctypes.CDLL(helpers.path).id_int, "int (int)")
    gc.collect()
    assert function(5) == 5
    assert weakref.ref(function)() is function


# ---- errno and status codes ----


@ROUTES
def test_raises_nonzero(helpers: Helpers, force_libffi: bool) -> None:
    function = through(helpers, "fail_with", "int (int, int)", force_libffi, raises="nonzero")
    with wp.WorkerPool(1) as pool:
        assert function(0, errno.ENOENT) == 0
        assert pool.submit(function, 0, errno.ENOENT).result(LONG) == 0
        for call in (function, lambda *args: pool.submit(function, *args).result(LONG)):
            with pytest.raises(wp.NativeError, match=r"fail_with\(\) returned -5 \(errno 2: ") as caught:
                call(-5, errno.ENOENT)
            assert caught.value.code == -5
            assert caught.value.errno == errno.ENOENT
            assert caught.value.function == "fail_with"
            with pytest.raises(wp.NativeError, match=r"fail_with\(\) returned 3$") as caught:
                call(3, 0)
            assert caught.value.errno == 0


def test_errno_of_an_earlier_call_is_not_reported(helpers: Helpers) -> None:
    loud = helpers.native("fail_with", "int (int, int)", raises="nonzero")
    quiet = helpers.native("id_int", "int (int)", raises="nonzero")
    with wp.WorkerPool(1) as pool:
        assert pool.submit(loud, 1, errno.EIO).exception(LONG).errno == errno.EIO
        assert pool.submit(quiet, 1).exception(LONG).errno == 0


def test_raises_negative(helpers: Helpers) -> None:
    for name, signature in (("id_int", "int (int)"), ("id_schar", "int8_t (int8_t)"), ("id_long", "long (long)")):
        function = helpers.native(name, signature, raises="negative")
        assert function(1) == 1
        assert function(0) == 0
        with pytest.raises(wp.NativeError) as caught:
            function(-1)
        assert caught.value.code == -1


def test_raises_null(helpers: Helpers) -> None:
    function = helpers.native("null_with", "void *(int, int)", raises="null")
    assert isinstance(function(0, 0), int)
    with pytest.raises(wp.NativeError) as caught:
        function(1, errno.ENOMEM)
    assert caught.value.code is None
    assert caught.value.errno == errno.ENOMEM


def test_narrow_result_is_not_read_wider(helpers: Helpers) -> None:
    """The upper bytes of the register are not the function's."""
    function = helpers.native("fail_narrow", "signed char (int)", raises="nonzero")
    assert function(256) == 0
    with pytest.raises(wp.NativeError):
        function(257)


@pytest.mark.parametrize(
    ("signature", "raises"),
    [
        ("void (int)", "nonzero"),
        ("double (double)", "negative"),
        ("unsigned (unsigned)", "negative"),
        ("int (int)", "null"),
        ("void *(int)", "nonzero"),
    ],
)
def test_raises_must_fit_the_result(signature: str, raises: str) -> None:
    with pytest.raises(wp.SignatureError, match="does not fit a result of type"):
        wp.native(1, signature, raises=raises)


@pytest.mark.parametrize("wrong", ["zero", "", 1, True])
def test_raises_that_is_none(wrong: Any) -> None:
    with pytest.raises(ValueError, match="raises must be 'nonzero'"):
        wp.native(1, "int (int)", raises=wrong)


# ---- The job as a parameter ----


@ROUTES
def test_job_parameter_is_filled_in(helpers: Helpers, force_libffi: bool) -> None:
    function = through(helpers, "should_stop_now", "int (wp_job *, int)", force_libffi)
    worker_of = through(helpers, "worker_of", "uint32_t (const wp_job *)", force_libffi)
    with wp.WorkerPool(1) as pool:
        assert pool.submit(function, 5).result(LONG) == 5
        assert pool.submit(worker_of).result(LONG) == 0
        assert list(pool.map(function, range(100))) == list(range(100))
    assert function(5) == 5  # Called inline there is no job.
    assert worker_of() == 2**32 - 1
    with pytest.raises(TypeError, match=r"takes 1 argument \(2 given\)"):
        function(None, 5)
    with pytest.raises(OverflowError, match="argument 1"):
        function(2**40)


def test_job_parameter_tells_the_deadline(helpers: Helpers) -> None:
    function = helpers.native("time_left_of", "uint64_t (wp_job *)")
    with wp.WorkerPool(1) as pool:
        assert pool.submit(function).result(LONG) == 2**64 - 1
        assert 50e9 < pool.options(run_timeout=100).submit(function).result(LONG) <= 100e9


def test_failure_after_a_request_to_stop_is_a_cancellation(helpers: Helpers) -> None:
    begun = ctypes.c_int64(0)
    poll = helpers.native("poll_job", "int (int64_t *, int64_t, wp_job *)", raises="nonzero")
    with wp.WorkerPool(1) as pool:
        future = pool.submit(poll, ctypes.byref(begun), LONG * 10**9)
        while begun.value == 0:
            pass
        assert future.request_cancel()
        with pytest.raises(CancelledError):
            future.result(LONG)
        assert future.cancelled()


# ---- Inline calls ----


def test_inline_call_releases_the_gil(helpers: Helpers) -> None:
    gate = (ctypes.c_int64 * 2)()
    wait_at = helpers.native("wait_at", "int (int64_t *)")
    thread = threading.Thread(target=wait_at, args=(gate,))
    thread.start()
    while gate[0] == 0:
        pass
    gate[1] = 1
    thread.join(LONG)
    assert not thread.is_alive()


def test_mean_time_is_measured(helpers: Helpers) -> None:
    function = helpers.native("sleep_ns", "int64_t (int64_t)")
    assert function.mean_time is None
    with wp.WorkerPool(1) as pool:
        pool.submit(function, 20_000_000).result(LONG)
    assert function.mean_time is not None
    assert function.mean_time >= 0.019
