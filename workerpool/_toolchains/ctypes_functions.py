"""Functions of ctypes: those of a CDLL, and those made from a prototype and an address.

`argtypes` and `restype` are the signature. What ctypes does around a call in Python is not part of the C function and
does not happen on a worker: `errcheck`, the default values of prototypes' parameter flags, keeping errno aside
(`use_errno`; native(raises=...) does that).

Refused are functions of a PyDLL or PYFUNCTYPE, which expect the GIL, and callbacks: a prototype called with a Python
callable makes a thunk that takes the GIL on every call.
"""

from __future__ import annotations

import sys
from typing import Any

from .._checks import quoted
from .._core import SignatureError
from .addresses import name_at
from .recognised import Recognised, address_in, integer_spelling

# ctypes' FUNCFLAG_PYTHONAPI.
_NEEDS_GIL = 0x4

# The type codes of ctypes, by which its simple types are known whatever their names are: c_int64 is c_long.
_CODES = {
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


def _ndpointer_spelling(ctype: Any) -> str | None:
    """The C spelling of a type made by numpy.ctypeslib.ndpointer; None for other types. It does not say whether the
    function writes: NumPy's flag WRITEABLE is a demand, and its absence says nothing."""
    if not (isinstance(ctype, type) and ctype.__module__.startswith("numpy.ctypeslib") and hasattr(ctype, "_dtype_")):
        return None
    dtype: Any = ctype._dtype_
    if dtype is None or dtype.kind not in "biuf" or dtype.itemsize > 8 or dtype.str[0] == ">":
        return "void *"
    if dtype.kind == "f":
        return {4: "float *", 8: "double *"}.get(dtype.itemsize, "void *")
    return "bool *" if dtype.kind == "b" else f"{integer_spelling(dtype.itemsize, dtype.kind == 'i')} *"


def _spelling(ctype: Any, where: str) -> str:
    """The C spelling of a ctypes type. A pointer that ctypes fills in is one to memory that may be written."""
    import _ctypes

    if ctype is None:
        return "void"
    if isinstance(ctype, type):
        spelling = _ndpointer_spelling(ctype)  # First, because these types derive from c_void_p.
        if spelling is not None:
            return spelling
        if issubclass(ctype, _ctypes._SimpleCData):
            spelling = _CODES.get(getattr(ctype, "_type_", ""))
            if spelling is not None:
                return spelling
        if issubclass(ctype, (_ctypes._Pointer, _ctypes.Array)):
            return _pointer_spelling(getattr(ctype, "_type_", None))
        if issubclass(ctype, _ctypes.CFuncPtr):
            return "void *"
        if issubclass(ctype, (_ctypes.Structure, _ctypes.Union)):
            raise SignatureError(
                f"{where} has the ctypes type {quoted(ctype)}, which by value is not supported (wrap it in a C "
                f"function that takes or fills in a pointer)"
            )
    raise SignatureError(f"{where} has the ctypes type {quoted(ctype)}, which cannot be passed to a native function")


def _pointer_spelling(target: Any) -> str:
    """Of a pointer to that ctypes type: named where it is a number or a pointer, so that other memory is refused. An
    array of arrays is one block of the innermost items."""
    import _ctypes

    while isinstance(target, type) and issubclass(target, _ctypes.Array):
        target = target._type_
    if isinstance(target, type) and issubclass(target, _ctypes._SimpleCData):
        spelling = _CODES.get(getattr(target, "_type_", ""), "void")
    elif isinstance(target, type) and issubclass(target, _ctypes._Pointer):
        spelling = _pointer_spelling(getattr(target, "_type_", None))
    else:
        spelling = "void *" if isinstance(target, type) and issubclass(target, _ctypes.CFuncPtr) else "void"
    return f"{spelling}*" if spelling.endswith("*") else f"{spelling} *"


def _spelling_in_function(ctype: Any) -> str:
    """Of the result or a parameter of a type of functions: what C could not pass here is said to be a struct, which is
    the same to those that are given the type, namely nothing that is known."""
    try:
        return _spelling(ctype, "")
    except SignatureError:
        name = getattr(ctype, "__name__", "")
        is_tag = name.isascii() and name.isidentifier() and name[0].isupper()  # And so no word of C's.
        return f"struct {name}" if is_tag else "struct unknown"


def _parameter_spelling(ctype: Any, where: str) -> str:
    """A function of ctypes' is a pointer to a function of that type: nothing else, and no memory, may be called."""
    import _ctypes

    if not (isinstance(ctype, type) and issubclass(ctype, _ctypes.CFuncPtr)):
        return _spelling(ctype, where)
    parameters = getattr(ctype, "_argtypes_", None)
    texts = ["struct unknown"] if parameters is None else [_spelling_in_function(its) for its in parameters]
    return f"{_spelling_in_function(getattr(ctype, '_restype_', None))} (*)({', '.join(texts) or 'void'})"


def _is_python_callback(function: Any) -> bool:
    """Whether a ctypes function is a thunk around a Python callable, or was cast from one."""
    objects = function._objects or {}
    return any(type(value).__name__ == "CThunkObject" for value in objects.values())


def needs_gil(function: Any) -> bool:
    """Whether it must be called with the GIL."""
    return bool(function._flags_ & _NEEDS_GIL)


def _name(function: Any) -> str:
    name = getattr(function, "__name__", "")
    is_name = isinstance(name, str) and name and name != type(function).__name__
    return name if is_name else name_at(address_in(function))


def signature_of(function: Any, name: str) -> str:
    """Its type. Raises SignatureError where that is not known, or cannot be passed by C."""
    if function.argtypes is None:
        raise SignatureError(
            f"{name} has no argtypes: set them (and restype), or give native() a signature such as "
            f'"int (const void *, size_t)"'
        )
    result = _spelling(function.restype, f"the result of {name}")
    parameters = [
        _parameter_spelling(ctype, f"parameter {number} of {name}") for number, ctype in enumerate(function.argtypes, 1)
    ]
    return f"{result} ({', '.join(parameters) or 'void'})"


def recognise_ctypes(target: Any) -> Recognised | None:
    """See the package. Raises TypeError for what takes the GIL."""
    if "_ctypes" not in sys.modules:
        return None
    import _ctypes

    if not isinstance(target, _ctypes.CFuncPtr):
        return None
    name = _name(target)
    if needs_gil(target):
        raise TypeError(f"{name} needs the GIL (it is of ctypes.PyDLL or PYFUNCTYPE); submit it as a Python callable")
    if _is_python_callback(target):
        raise TypeError(
            "this ctypes function is a callback into Python, which takes the GIL on every call; submit the Python "
            "function itself"
        )
    signature, problem = None, None
    try:
        signature = signature_of(target, name)
    except SignatureError as error:
        problem = error
    return Recognised(
        address_in(target),
        name,
        "a ctypes function",
        signature,
        problem,
        keep_alive=target,
        # int is what restype is when nobody has set it.
        knows_result=getattr(target.restype, "_type_", None) != "i",
    )
