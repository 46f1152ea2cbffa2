"""Arguments that belong to a toolchain, as ctypes and cffi themselves take them: what each stands for.

The extension asks here about an argument that is no number and no memory, before it refuses it. It converts the answer
as it converts every argument, so what does not fit the parameter is refused as usual.

| argument | stands for |
|---|---|
| `ctypes.c_long(5)`, `c_double(1.5)`, and classes of one's own | its value, for the same kind of number |
| `b"a"`, `ctypes.c_char(b"a")` | a `char` |
| a number or an enum of cffi | its value, likewise |
| a pointer or an array of cffi, `ffi.from_buffer(...)` | its address, if it points to what the parameter does |
| a NativeFunction, a @cfunc, a function of ctypes or cffi | its address, for a pointer to a function of that type |
| `array.ctypes` of NumPy | the array |
| an object with `_as_parameter_` | what that is |

What an address leads to is kept alive by the argument, which the job holds.
"""

from __future__ import annotations

import gc
import re
import sys
from contextlib import suppress
from types import BuiltinFunctionType
from typing import Any, NamedTuple

from .._checks import quoted
from .._core import NativeFunction, SignatureError
from .cffi_functions import address_of, pointer_to, signature_of
from .ctypes_functions import needs_gil
from .ctypes_functions import signature_of as signature_of_ctypes
from .numba_functions import signature_of as signature_of_numba
from .recognised import address_in, is_of, parameters_of

# An object may stand for one that stands for another. More of them than this are a ring.
_MOST_LINKS = 16

# What is below the one or above the other is refused as an address, unless it is a pointer.
_FIRST_PAGE = 4096
_LAST_PAGE = 2 ** (8 * tuple.__itemsize__) - _FIRST_PAGE

_INTEGERS = frozenset({"i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"})
_FLOATS = frozenset({"f32", "f64"})
_PLAIN_CHAR = re.compile(r"(?:(?:const|volatile) )*char")
_VOID_POINTER = re.compile(r"(?:(?:const|volatile) )*void \*(?:const|volatile|restrict| )*")
_STAR_OF_FUNCTION = re.compile(r"\(\*(?:const|volatile|restrict| )*\)(?=\()")


class StandIn(NamedTuple):
    """What an argument stands for.

    value: what is to be converted instead. owner: what must live as long as the call, or None.
    item: of an address, what is there, in the codes of the struct module; None where nothing is known of it.
    """

    value: object
    owner: object = None
    item: str | None = None


def _char(value: bytes, kind: str) -> StandIn:
    return StandIn(int.from_bytes(value, "little", signed=kind == "i8"))


def _of_ctypes(argument: Any, kind: str, spelling: str) -> StandIn | None:
    """A simple value of ctypes. What is kept in it is read past what a subclass may make of `value`."""
    ctypes: Any = sys.modules.get("_ctypes")
    if ctypes is None or not isinstance(argument, ctypes._SimpleCData):
        return None
    code = type(argument)._type_
    if code == "c":
        value = ctypes._SimpleCData.value.__get__(argument)
        return _char(value, kind) if _PLAIN_CHAR.fullmatch(spelling) else None
    fits = (kind in _INTEGERS and code in "bBhHiIlLqQ?") or (kind in _FLOATS and code in "fd")
    return StandIn(ctypes._SimpleCData.value.__get__(argument)) if fits else None


def _cffi_number(backend: Any, argument: Any, ctype: Any, kind: str, spelling: str) -> StandIn | None:
    if ctype.kind == "enum":
        return StandIn(int(argument)) if kind in _INTEGERS or kind in _FLOATS else None
    if ctype.cname in {"float", "double"}:
        return StandIn(float(argument)) if kind in _FLOATS else None
    if ctype.cname == "char":
        return _char(backend.string(argument), kind) if _PLAIN_CHAR.fullmatch(spelling) else None
    is_integer = re.search(r"double|float|complex|wchar_t|char\d+_t", ctype.cname) is None
    return StandIn(int(argument)) if is_integer and (kind in _INTEGERS or kind in _FLOATS) else None


def _item(backend: Any, ctype: Any) -> str | None:
    """What a pointer to `ctype` leads to."""
    while ctype.kind == "array":
        ctype = ctype.item
    if ctype.kind in {"pointer", "function"}:
        return "P"
    if ctype.kind in {"void", "struct", "union"}:
        return None if ctype.kind == "void" else "T{}"
    size = backend.sizeof(ctype)
    if ctype.cname in {"float", "double", "long double"}:
        return {"float": "=f", "double": "=d"}.get(ctype.cname, "g")
    if "complex" in ctype.cname:
        return "Zd"
    if ctype.cname in {"_Bool", "char"}:
        return "?" if ctype.cname == "_Bool" else "c"
    code = {1: "b", 2: "h", 4: "i", 8: "q"}[size]
    is_signed = int(backend.cast(ctype, -1)) < 0 if ctype.kind == "primitive" else min(ctype.elements, default=0) < 0
    return "=" + (code if is_signed else code.upper())


def _views(argument: Any) -> list[memoryview]:
    """Views of what a `ffi.from_buffer()` is of, which cffi knows and does not tell: `ffi.release()`, or the end of its
    `with`, gives the buffer back although a job has the address."""
    views = []
    if is_of(argument, "_cffi_backend", "__CDataFromBuf"):
        for exporter in gc.get_referents(argument):
            # Some have no buffer, and of some no view can be made, as of dates.
            with suppress(TypeError, ValueError, BufferError):
                views.append(memoryview(exporter))
    return views


def _of_cffi(argument: Any, kind: str, spelling: str, is_const: bool) -> StandIn | str | None:
    backend: Any = sys.modules.get("_cffi_backend")
    if backend is None or not is_of(argument, "_cffi_backend", "_CDataBase"):
        return None
    ctype = backend.typeof(argument)
    if ctype.kind in {"primitive", "enum"}:
        return _cffi_number(backend, argument, ctype, kind, spelling)
    if kind != "ptr":
        return None
    if ctype.kind in {"struct", "union"}:
        return f"this is a {quoted(ctype.cname)} by value; pass its ffi.addressof()"
    if ctype.kind == "function":
        return _function(argument, _signature_of_cffi(argument), address_of(argument), spelling)
    if _STAR_OF_FUNCTION.search(spelling) is not None and ctype.item.kind != "void":
        return f"`{spelling[:100]}` points to a function, and this {quoted(ctype.cname)} to something else"
    views = _views(argument)
    if not is_const and any(view.readonly for view in views):
        kind = quoted(ctype.cname)
        return f"`{spelling[:100]}` needs memory that may be written, and this {kind} is of a read-only buffer"
    owner = (argument, *views) if views else argument
    return StandIn(_address(address_of(argument)), owner, _item(backend, ctype.item))


def _address(address: int) -> object:
    """An address that a toolchain calls one. A small number may be meant (SIG_IGN is 1), which is refused as an int."""
    import ctypes

    is_small = address < _FIRST_PAGE or address > _LAST_PAGE
    return ctypes.c_void_p(address) if is_small and address else address


# ---- Functions ----


def _signature_or(unlike: str, ask: Any) -> str:
    """The signature; `unlike`, which is none, for a type that C could not pass here."""
    try:
        return str(ask())
    except SignatureError:
        return unlike


def _signature_of_cffi(pointer: Any) -> str:
    ctype = sys.modules["_cffi_backend"].typeof(pointer)
    return _signature_or(_STAR_OF_FUNCTION.sub("", ctype.cname, count=1), lambda: signature_of(pointer))


def _signature_of_ctypes(ctypes: Any, function: Any) -> str | None:
    """None without argtypes, and with what is no type of ctypes' own: nobody knows what it makes of arguments."""
    types = [*(function.argtypes or ()), *([] if function.restype is None else [function.restype])]
    data = ctypes._SimpleCData.__base__
    if function.argtypes is None or not all(isinstance(its, type) and issubclass(its, data) for its in types):
        return None
    names = ", ".join(its.__name__ for its in function.argtypes)
    return _signature_or(f"a function of ({names})", lambda: signature_of_ctypes(function, ""))


def _kinds(signature: str) -> list[str] | None:
    """What is passed for the result and the parameters. To a call an integer is the same with a sign and without; to
    be variadic is not the same as not to be."""
    try:
        kinds = NativeFunction(1, signature, "")._kinds
    except SignatureError:
        return None
    is_variadic = ["..."] * ("..." in parameters_of(signature))
    return [kind.replace("u", "i") if kind in _INTEGERS else kind for kind in kinds] + is_variadic


def _function(owner: object, signature: str | None, address: int, spelling: str) -> StandIn | str:
    """The address of a function of that type, or why the parameter is not for it. None is a type that nobody knows."""
    is_for_functions = _STAR_OF_FUNCTION.search(spelling) is not None
    if not is_for_functions and _VOID_POINTER.fullmatch(spelling) is None:
        return f"`{spelling[:100]}` is no pointer to a function"
    wanted = _kinds(_STAR_OF_FUNCTION.sub("", spelling, count=1)) if is_for_functions else None
    if wanted is not None and signature is not None:
        given = _kinds(signature) or [""]
        wanted[0] = given[0] if wanted[0] == "void" else wanted[0]
        if wanted != given:
            return f"`{spelling[:100]}` points to another type of function than `{signature[:100]}`"
    return StandIn(_address(address), owner)


def _of_function(argument: Any, spelling: str) -> StandIn | str | None:
    if isinstance(argument, NativeFunction):
        if argument._bound:
            return f"{quoted(argument)} has values of its own for its last parameters, which its caller would not pass"
        if "wp_job *" in argument.signature and "wp_job *" not in spelling:
            return f"{quoted(argument)} takes its job, which only a pool passes"
        return _function(argument, argument.signature, argument.address, spelling)
    ctypes: Any = sys.modules.get("_ctypes")
    if ctypes is not None and isinstance(argument, ctypes.CFuncPtr):
        if needs_gil(argument):
            return f"{quoted(argument)} is of ctypes.PyDLL or PYFUNCTYPE, and would be called without the GIL"
        return _function(argument, _signature_of_ctypes(ctypes, argument), address_in(argument), spelling)
    if is_of(argument, "numba.core.ccallback", "CFunc"):
        signature = _signature_or(str(argument._sig), lambda: signature_of_numba(argument))
        return _function(argument, signature, argument.address, spelling)
    if isinstance(argument, BuiltinFunctionType) and is_of(argument.__self__, "_cffi_backend", "Lib"):
        pointer = pointer_to(argument)
        return _function(argument, _signature_of_cffi(pointer), address_of(pointer), spelling)
    return None


# ---- All of them ----


def _known(argument: Any, kind: str, spelling: str, is_const: bool) -> StandIn | str | None:
    if isinstance(argument, (bytes, bytearray)) and _PLAIN_CHAR.fullmatch(spelling):
        value = bytes(argument)
        return _char(value, kind) if len(value) == 1 else None
    found = _of_ctypes(argument, kind, spelling) or _of_cffi(argument, kind, spelling, is_const)
    if found is None and kind == "ptr":
        if is_of(argument, "numpy._core._internal", "_ctypes") or is_of(argument, "numpy.core._internal", "_ctypes"):
            return StandIn(argument._arr)
        found = _of_function(argument, spelling)
    return found


def stand_in(argument: Any, kind: str, spelling: str, is_const: bool) -> StandIn | str | None:
    """What an argument stands for as a parameter of that kind; a str that says why it must not; None if it is nothing
    that is known here.
    """
    owner: object = None
    for _ in range(_MOST_LINKS):
        found = _known(argument, kind, spelling, is_const)
        if isinstance(found, StandIn) and owner is not None:
            return found._replace(owner=(owner, found.owner))
        if found is not None:
            return found
        try:
            inner = argument._as_parameter_
        except AttributeError:
            return StandIn(argument, owner) if owner is not None else None
        owner = (owner, argument)
        argument = inner
    return "its _as_parameter_ leads from one object to the next without end"
