"""native(): from what people have (a ctypes function, an address, a name) to a NativeFunction.

Each recogniser takes one kind of object apart into an address and a signature; none imports the library whose objects
it knows, since an object of that library cannot exist before somebody else has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ._core import NativeFunction, SignatureError


@dataclass(frozen=True)
class _Recognised:
    """A function taken apart: `keep_alive` owns its code, `pickle_as` is how another process can find it."""

    address: int
    signature: str
    name: str
    keep_alive: object
    pickle_as: str | None = None


# ---- ctypes ----

_FUNCFLAG_PYTHONAPI = 0x4

_CTYPES_CODES = {
    "?": "bool",
    "c": "char",
    "b": "signed char",
    "B": "unsigned char",
    "h": "short",
    "H": "unsigned short",
    "i": "int",
    "I": "unsigned int",
    "l": "long",
    "L": "unsigned long",
    "q": "long long",
    "Q": "unsigned long long",
    "f": "float",
    "d": "double",
    "P": "void *",
    "z": "const char *",
    "Z": "const wchar_t *",
}


def _ctypes_spelling(ctype: Any, where: str) -> str:
    """The C spelling of a ctypes type. A pointer that ctypes fills in is one to memory that may be written."""
    import _ctypes

    if ctype is None:
        return "void"
    if isinstance(ctype, type):
        if issubclass(ctype, _ctypes._SimpleCData):
            spelling = _CTYPES_CODES.get(getattr(ctype, "_type_", ""))
            if spelling is not None:
                return spelling
        if issubclass(ctype, (_ctypes._Pointer, _ctypes.CFuncPtr, _ctypes.Array)):
            return "void *"
    raise SignatureError(f"{where} has the ctypes type {ctype!r}, which cannot be passed to a native function")


def _is_python_callback(function: Any) -> bool:
    """Whether a ctypes function is a thunk around a Python callable, which would take the GIL on every call."""
    objects = function._objects or {}
    return any(type(value).__name__ == "CThunkObject" for value in objects.values())


def _ctypes_name(function: Any) -> str:
    name = getattr(function, "__name__", "")
    return name if isinstance(name, str) and name and name != type(function).__name__ else "a ctypes function"


def _ctypes_signature(function: Any, name: str) -> str:
    if function.argtypes is None:
        raise SignatureError(
            f"{name} has no argtypes: set them (and restype), or give native() a signature such as "
            f'"int (const void *, size_t)"'
        )
    result = _ctypes_spelling(function.restype, f"the result of {name}")
    parameters = [
        _ctypes_spelling(ctype, f"parameter {number} of {name}") for number, ctype in enumerate(function.argtypes, 1)
    ]
    return f"{result} ({', '.join(parameters) or 'void'})"


def _recognise_ctypes(target: Any, signature: str | None) -> _Recognised | None:
    if "_ctypes" not in sys.modules:
        return None
    import _ctypes

    if not isinstance(target, _ctypes.CFuncPtr):
        return None
    name = _ctypes_name(target)
    if target._flags_ & _FUNCFLAG_PYTHONAPI:
        raise TypeError(f"{name} needs the GIL (it is of ctypes.PyDLL or PYFUNCTYPE); submit it as a Python callable")
    if _is_python_callback(target):
        raise TypeError(
            "this ctypes function is a callback into Python, which takes the GIL on every call; submit the Python "
            "function itself"
        )
    address = int.from_bytes(memoryview(target).cast("B"), sys.byteorder)
    return _Recognised(address, signature or _ctypes_signature(target, name), name, target)


# ---- Addresses and names ----


def _recognise_address(target: Any, signature: str | None) -> _Recognised | None:
    if not isinstance(target, int) or isinstance(target, bool):
        return None
    if signature is None:
        raise TypeError('an address needs a signature, such as native(address, "double (double)")')
    return _Recognised(target, signature, f"function at {target:#x}", None)


def _load_library(name: str) -> Any:
    """Loads a shared library by file name or by the name that the linker knows; "" is the process itself."""
    import ctypes
    import ctypes.util

    try:
        return ctypes.CDLL(name or None, use_errno=False)
    except OSError as error:
        found = ctypes.util.find_library(name)
        if found is None:
            raise OSError(f"native(): the library {name!r} cannot be loaded: {error}") from None
        return ctypes.CDLL(found)


def _recognise_name(target: Any, signature: str | None) -> _Recognised | None:
    if not isinstance(target, str):
        return None
    library, colon, symbol = target.rpartition(":")
    if not colon or not symbol:
        raise ValueError(f'native() takes a name as "library:symbol", such as "libz.so.1:crc32", not {target!r}')
    if signature is None:
        raise TypeError(f'{target!r} needs a signature, such as native({target!r}, "double (double)")')
    loaded = _load_library(library)
    try:
        function = loaded[symbol]
    except AttributeError:
        raise AttributeError(f"native(): the library {library!r} has no symbol {symbol!r}") from None
    address = int.from_bytes(memoryview(function).cast("B"), sys.byteorder)
    return _Recognised(address, signature, symbol, loaded, target)


_RECOGNISERS: list[Callable[[Any, str | None], _Recognised | None]] = [
    _recognise_ctypes,
    _recognise_address,
    _recognise_name,
]


def native(
    target: Any,
    signature: str | None = None,
    *,
    name: str | None = None,
    raises: str | None = None,
    force_libffi: bool = False,
) -> NativeFunction:
    """Return a NativeFunction: a C function that a pool can run without the interpreter.

    target: a ctypes function; an address as an int; or "library:symbol" (an empty library is the process itself).
    signature: its C type, such as "unsigned long (unsigned long, const void *, unsigned int)". Needed for an address or
        a name; a ctypes function may have argtypes and restype instead.
    name: what messages call it; left out, its own name.
    raises: which results are errors: "nonzero", "negative" or "null". Such a call raises NativeError with the result
        and errno. None: none are.
    force_libffi: call it through libffi even where a direct call would do; for comparisons.

    A pointer parameter takes any object with a buffer (a read-only one only where the C type is const), a ctypes
    object, an address or None. A parameter of type `wp_job *` is filled in by the pool; see workerpool.h.

    The function must be thread-safe, must not use the Python API, and must match the signature: a wrong one corrupts
    memory, as with ctypes.

    Raises SignatureError for a signature that is wrong (with the position) or cannot be called; TypeError for a target
    that is none, or that needs the GIL; OSError and AttributeError for a library or symbol that is not there.
    """
    for recognise in _RECOGNISERS:
        found = recognise(target, signature)
        if found is not None:
            break
    else:
        hint = "; submit a Python callable to the pool as it is" if callable(target) else ""
        raise TypeError(
            f'native() takes a ctypes function, an address or "library:symbol", not {type(target).__name__}{hint}'
        )
    reduced = None
    if found.pickle_as is not None:
        reduced = (_native_again, (found.pickle_as, found.signature, name, raises, force_libffi))
    return NativeFunction(
        found.address,
        found.signature,
        name or found.name,
        found.keep_alive,
        reduced,
        raises,
        force_libffi=force_libffi,
    )


def _native_again(
    target: str, signature: str, name: str | None, raises: str | None, force_libffi: bool
) -> NativeFunction:
    """What a pickled NativeFunction is made by in another process."""
    return native(target, signature, name=name, raises=raises, force_libffi=force_libffi)
