"""C types for the tests of toolchains: values of each to draw, and how results are compared bit for bit."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from hypothesis import strategies as st

# For each C type: its name in tests/native/helpers.c, and the ctypes type.
SCALARS: dict[str, tuple[str, Any]] = {
    "bool": ("id_bool", ctypes.c_bool),
    "signed char": ("id_schar", ctypes.c_byte),
    "unsigned char": ("id_uchar", ctypes.c_ubyte),
    "short": ("id_short", ctypes.c_short),
    "unsigned short": ("id_ushort", ctypes.c_ushort),
    "int": ("id_int", ctypes.c_int),
    "unsigned int": ("id_uint", ctypes.c_uint),
    "long": ("id_long", ctypes.c_long),
    "unsigned long": ("id_ulong", ctypes.c_ulong),
    "long long": ("id_llong", ctypes.c_longlong),
    "unsigned long long": ("id_ullong", ctypes.c_ulonglong),
    "size_t": ("id_size", ctypes.c_size_t),
    "float": ("id_float", ctypes.c_float),
    "double": ("id_double", ctypes.c_double),
}

# The parameters of `mixed` in helpers.c, which returns a double.
MIXED = [
    "signed char",
    "float",
    "unsigned short",
    "double",
    "int",
    "float",
    "unsigned long",
    "double",
    "long",
    "const unsigned char *",
    "bool",
    "double",
]


def values(ctype: str) -> st.SearchStrategy[Any]:
    """Any value of a C type. A pointer is one to a byte."""
    if ctype.endswith("*"):
        return st.binary(min_size=1, max_size=8)
    kind = SCALARS[ctype][1]
    if kind is ctypes.c_bool:
        return st.booleans()
    if kind in {ctypes.c_float, ctypes.c_double}:
        return st.floats(width=8 * ctypes.sizeof(kind))
    bits = 8 * ctypes.sizeof(kind)
    least = 0 if kind(-1).value > 0 else -(2 ** (bits - 1))
    return st.integers(least, least + 2**bits - 1)


def bits(value: Any) -> tuple[type, Any]:
    """What two results have in common that are the same: NaN differs from itself, 0.0 is equal to -0.0 and to False."""
    return type(value), struct.pack("=d", value) if isinstance(value, float) else value
