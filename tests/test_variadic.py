"""Variadic C functions: where their arguments are is for the caller to know, and nobody tells when it is wrong."""

from __future__ import annotations

import ctypes
import platform
import sys

import pytest

import workerpool as wp

# Elsewhere a variadic function needs the ellipsis in its signature, because its arguments travel in another way.
LIKE_ANY = sys.platform == "linux" and platform.machine() in {"x86_64", "aarch64"}
FIXED = "int (char *, size_t, const char *, double)"
ELLIPSIS = "int (char *, size_t, const char *, ..., double)"
SIGNATURES = [ELLIPSIS, FIXED] if LIKE_ANY else [ELLIPSIS]


@pytest.mark.parametrize("force_libffi", [False, True])
@pytest.mark.parametrize("signature", SIGNATURES)
def test_doubles_reach_a_variadic_function_on_every_way(signature: str, force_libffi: bool) -> None:
    try:
        function = wp.native(":snprintf", signature, force_libffi=force_libffi)
    except wp.SignatureError as error:
        pytest.skip(str(error))
    with wp.WorkerPool(2) as pool:
        for _ in range(20):
            buffer = bytearray(64)
            assert pool.submit(function, buffer, 64, b"%.2f", 2.5).result() == 4
            assert buffer[:5] == b"2.50\0"
            assert function(buffer, 64, b"%.3f", 7.125) == 5
            assert buffer[:6] == b"7.125\0"
        buffers = [bytearray(16) for _ in range(100)]
        lengths = list(pool.map(function, buffers, [16] * 100, [b"%.1f"] * 100, [k + 0.5 for k in range(100)]))
    assert [bytes(b[:n]) for b, n in zip(buffers, lengths, strict=True)] == [b"%d.5" % k for k in range(100)]


@pytest.mark.skipif(not LIKE_ANY, reason="ctypes does not know either what is variadic")
def test_a_ctypes_declaration_of_printf_is_called_rightly() -> None:
    snprintf = ctypes.CDLL(None)["snprintf"]
    snprintf.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p] + [ctypes.c_double] * 9 + [ctypes.c_int]
    buffer = ctypes.create_string_buffer(128)
    values = [k + 0.25 for k in range(9)]
    wp.native(snprintf, "int (char *, size_t, const char *," + " double," * 9 + " int)")(
        buffer, 128, b"%g " * 9 + b"%d", *values, 42
    )
    assert buffer.value.decode().split() == [str(value) for value in values] + ["42"]


def test_what_stands_behind_the_ellipsis_is_promoted() -> None:
    function = wp.native(
        ":snprintf", "int (char *, size_t, const char *, ..., float, short, unsigned char, long, char *)"
    )
    assert function.signature == "int (char *, size_t, const char *, ..., double, int, int, long, char *)"
    buffer = bytearray(128)
    function(buffer, 128, b"%.2f %d %d %ld %s", 2.5, -3, 4, -(2**40), bytearray(b"text\0"))
    assert buffer.partition(b"\0")[0] == b"2.50 -3 4 -1099511627776 text"


def test_an_ellipsis_with_nothing_behind_it_is_a_call_without_more_arguments() -> None:
    function = wp.native(":snprintf", "int (char *, size_t, const char *, ...)")
    assert function(bytearray(8), 8, b"plain") == 5
    with pytest.raises(TypeError, match=r"takes 3 arguments \(4 given\).*names the types of those behind"):
        function(bytearray(8), 8, b"%f", 2.5)


@pytest.mark.parametrize("text", ["int (...)", "int (..., double)", "int (int ...)", "int (int, ..., int, ...)"])
def test_an_ellipsis_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(wp.SignatureError, match=r"'\.\.\.' stands once, after a parameter"):
        wp.native(":abs", text)
