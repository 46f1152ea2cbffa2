"""Function pointers of cffi, of both modes.

ABI mode (`ffi.dlopen`) gives function pointers. API mode gives functions of a compiled module, of which
`ffi.addressof(lib, "name")` is the pointer: that of a plain C function that forwards to the one declared, without the
interpreter. Both know their type, but not `const`, which cffi does not keep: a signature given to native() adds it, and
then read-only buffers are taken.

cffi closes a library that it opened once the `lib` object is gone, and a function pointer does not keep that. So the
library is opened once more, by the linker's own name for it.

Refused are `ffi.callback` and `extern "Python"` functions: their code is Python, and each call takes the GIL. A
callback that was cast to another function type is not recognised as one.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType
from typing import Any

from .._checks import quoted, shortened
from .._core import SignatureError
from .addresses import keep_loaded, name_at
from .recognised import Recognised, integer_spelling, is_of

# cffi's own word for some types, and the names by which both know the rest.
_SAME_NAMES = frozenset(
    {
        "char",
        "signed char",
        "unsigned char",
        "short",
        "unsigned short",
        "int",
        "unsigned int",
        "long",
        "unsigned long",
        "long long",
        "unsigned long long",
        "float",
        "double",
        "size_t",
        "ssize_t",
        "ptrdiff_t",
        "intptr_t",
        "uintptr_t",
        *(f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    }
)


def _is_signed(backend: Any, ctype: Any) -> bool:
    return int(backend.cast(ctype, -1)) < 0


def _scalar_spelling(backend: Any, ctype: Any) -> str | None:
    """The C spelling of a number, None for what is none or has no place in a register."""
    if ctype.kind == "enum":
        # Of an enum that has no negative value, C compilers make an unsigned int.
        return integer_spelling(backend.sizeof(ctype), min(ctype.elements, default=0) < 0)
    if ctype.kind != "primitive":
        return None
    if ctype.cname == "_Bool":
        return "bool"
    if ctype.cname in _SAME_NAMES:
        return str(ctype.cname)
    is_integer = "double" not in ctype.cname and "float" not in ctype.cname and "complex" not in ctype.cname
    return integer_spelling(backend.sizeof(ctype), _is_signed(backend, ctype)) if is_integer else None


def _pointer_spelling(backend: Any, ctype: Any) -> str:
    """An array of arrays is one block of the innermost items."""
    item = ctype.item
    while item.kind == "array":
        item = item.item
    if item.kind == "pointer":
        return f"{_pointer_spelling(backend, item)}*"
    return "void **" if item.kind == "function" else f"{_scalar_spelling(backend, item) or 'void'} *"


def _spelling_in_function(backend: Any, ctype: Any) -> str:
    """Of the result or a parameter of a type of functions: what C could not pass here is said to be a struct."""
    try:
        return _spelling(backend, ctype, "")
    except SignatureError:
        return "struct unknown"


def _parameter_spelling(backend: Any, ctype: Any, where: str) -> str:
    """A pointer to a function keeps its type: nothing else, and no memory, may be called."""
    if ctype.kind != "function":
        return _spelling(backend, ctype, where)
    texts = [_spelling_in_function(backend, its) for its in ctype.args] + ["..."] * ctype.ellipsis
    return f"{_spelling_in_function(backend, ctype.result)} (*)({', '.join(texts) or 'void'})"


def _spelling(backend: Any, ctype: Any, where: str) -> str:
    if ctype.kind == "void":
        return "void"
    if ctype.kind == "function":
        return "void *"
    if ctype.kind in {"pointer", "array"}:
        return _pointer_spelling(backend, ctype)
    spelling = _scalar_spelling(backend, ctype)
    if spelling is None:
        raise SignatureError(
            f"{where} has the cffi type '{shortened(ctype.cname)}', which cannot be passed by value to a "
            f"native function; wrap it in a C function that takes or fills in a pointer"
        )
    return spelling


def _signature(backend: Any, ctype: Any, name: str) -> str:
    result = _spelling(backend, ctype.result, f"the result of {name}")
    parameters = [
        _parameter_spelling(backend, arg, f"parameter {number} of {name}") for number, arg in enumerate(ctype.args, 1)
    ]
    if ctype.ellipsis:  # Looked at last, because it is also set where cffi itself cannot pass a type.
        raise SignatureError(
            f"{name} is variadic ('{shortened(ctype.cname)}'); give native() a signature with the types of the other "
            f"arguments behind the '...', such as \"int (const char *, ..., double)\""
        )
    return f"{result} ({', '.join(parameters) or 'void'})"


def _is_python_function(ffi: Any, name: str) -> bool:
    """Whether the name is an `extern "Python"` function of that module's.

    def_extern looks that up before it looks at what it is given, and None it does not take: so nothing changes.
    """
    try:
        ffi.def_extern(name=name)(None)
    except TypeError:
        return True
    except Exception:
        return False
    return False


def _compiled_modules() -> Iterator[tuple[Any, Any]]:
    """The ffi and the lib of every module that cffi has compiled, which it lists as "module.lib"."""
    for name, lib in list(sys.modules.items()):
        ffi = getattr(sys.modules.get(name.removesuffix(".lib")), "ffi", None)
        if name.endswith(".lib") and is_of(lib, "_cffi_backend", "Lib") and ffi is not None:
            yield ffi, lib


def address_of(pointer: Any) -> int:
    """The address in a pointer, an array or a function pointer."""
    backend: Any = sys.modules["_cffi_backend"]
    return int(backend.cast(backend.new_primitive_type("uintptr_t"), pointer))


def pointer_to(function: Any) -> Any:
    """The function pointer of a function of a compiled module."""
    return sys.modules["_cffi_backend"].FFI().addressof(function.__self__, function.__name__)


def signature_of(pointer: Any) -> str:
    """The type of a function pointer. Raises SignatureError for one that C could not pass here."""
    backend: Any = sys.modules["_cffi_backend"]
    return _signature(backend, backend.typeof(pointer), "a cffi function")


def _name_in_a_module(address: int) -> str | None:
    """The name that a compiled module has for the function at an address, which the linker does not know."""
    for _, lib in _compiled_modules():
        for name in dir(lib):
            value = getattr(lib, name, None)
            if isinstance(value, BuiltinFunctionType) and address_of(pointer_to(value)) == address:
                return name
    return None


def _name_in_a_library(pointer: Any) -> str | None:
    """The name by which a library that `ffi.dlopen` has opened gave the pointer: it keeps all that it was asked for."""
    for library in gc.get_objects():
        if type(library).__name__.startswith("FFILibrary"):
            for name, value in list(vars(library).items()):
                if value is pointer:
                    return str(name)
    return None


def _extern_python_at(address: int) -> str | None:
    """The name of the `extern "Python"` function at an address."""
    for ffi, lib in _compiled_modules():
        for name in dir(lib):
            if _is_python_function(ffi, name) and address_of(getattr(lib, name)) == address:
                return name
    return None


def _of_pointer(backend: Any, pointer: Any, name: str | None, keep_alive: object) -> Recognised:
    if is_of(pointer, "_cffi_backend", "__CDataOwnGC"):
        raise TypeError(
            f"{quoted(pointer)} is a cffi callback into Python, which takes the GIL on every call; submit the Python "
            f"function itself"
        )
    address = address_of(pointer)
    extern = _extern_python_at(address)
    if extern is not None:
        raise TypeError(
            f'{extern} is an extern "Python" function of cffi, which takes the GIL on every call; submit the Python '
            f"function itself"
        )
    if address == 0:
        raise ValueError(f"{quoted(pointer)} is a null pointer, not a function")
    name = name or _name_in_a_library(pointer) or _name_in_a_module(address) or name_at(address)
    signature, problem = None, None
    try:
        signature = _signature(backend, backend.typeof(pointer), name)
    except SignatureError as error:
        problem = error
    return Recognised(
        address, name, "a cffi function", signature, problem, keep_alive=(keep_alive, keep_loaded(address))
    )


def recognise_cffi(target: Any) -> Recognised | None:
    """See the package. Raises TypeError for what takes the GIL, ValueError for a null pointer."""
    backend: Any = sys.modules.get("_cffi_backend")
    if backend is None:
        return None
    if isinstance(target, BuiltinFunctionType) and is_of(target.__self__, "_cffi_backend", "Lib"):
        return _of_pointer(backend, pointer_to(target), target.__name__, target)
    if is_of(target, "_cffi_backend", "_CDataBase") and backend.typeof(target).kind == "function":
        return _of_pointer(backend, target, None, target)
    return None
