"""Capsules that hold a function and are named by its signature, as in a Cython module's __pyx_capi__.

The name is the signature in C, "double (double, void *)". A capsule may have a context; as for scipy.LowLevelCallable
it is user data: if the last parameter is a `void *` and there is a context, it is always passed there, and the caller
leaves that argument out. The context of a capsule whose last parameter is something else is not looked at.

Cython adds parameters of its own to some functions. `__pyx_skip_dispatch` (of cpdef functions) and
`__pyx_optional_args` (of functions with default values) are filled in here, as Cython's own callers do: 0, and NULL for
the defaults.

GIL: a capsule's name does not say whether a function is `nogil`. What can be seen is refused: parameters or a result
that are Python objects. A `cdef` function of numbers that was not declared `nogil` looks like one that was; whoever
wraps it must know. A function declared `with gil` may be called, and takes the GIL. With `except` in its declaration, a
function that raises takes the GIL to do so, and then the exception is lost on a worker: declare it `noexcept`.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from .._checks import quoted, shortened
from .addresses import name_at
from .recognised import Recognised, is_of, parameters_of, takes_python_objects

_CYTHON_FILLS_IN = re.compile(r"\b__pyx_skip_dispatch$|\*\s*__pyx_optional_args$")
_VOID_POINTER = re.compile(r"(const\s+)?void\s*\*(\s*(const|restrict))?(\s*[A-Za-z_]\w*)?")


@cache
def _api() -> tuple[Any, Any, Any]:
    """The name, the pointer and the context of a capsule, by the C API."""
    import ctypes

    api = ctypes.pythonapi
    name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", api))
    pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", api))
    context = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object)(("PyCapsule_GetContext", api))
    return name, pointer, context


def _is_signature(name: str) -> bool:
    return re.fullmatch(r"[^()]*\S\s*\(.*\)", name, re.DOTALL) is not None


def _number_filled_in(parameters: list[str]) -> int:
    """How many of the last parameters are Cython's own."""
    count = 0
    while count < len(parameters) and _CYTHON_FILLS_IN.search(parameters[len(parameters) - 1 - count]):
        count += 1
    return count


def ends_with_user_data(parameters: list[str]) -> bool:
    """Whether the last parameter is one for user data, a `void *`."""
    return bool(parameters) and _VOID_POINTER.fullmatch(parameters[-1]) is not None


def bound_values(signature: str, context: int | None) -> tuple[int, ...]:
    """The values of the last parameters that the caller of such a function does not give."""
    parameters = parameters_of(signature)
    if context and ends_with_user_data(parameters):
        return (context,)
    return (0,) * _number_filled_in(parameters)


def of_capsule(
    capsule: Any, name: str | None, origin: str, keep_alive: object, signature: str | None = None
) -> Recognised:
    """A capsule taken apart. signature: instead of the capsule's own name."""
    get_name, get_pointer, get_context = _api()
    raw_name: bytes | None = get_name(capsule)
    address: int = get_pointer(capsule, raw_name)
    name = name or name_at(address)
    if signature is None and raw_name is not None:
        signature = raw_name.decode("ascii", "backslashreplace")
    problem = None
    if signature is None:
        problem = TypeError('this capsule has no name: native() needs a signature, such as "double (double)"')
    elif not _is_signature(signature):
        raise TypeError(
            f"{quoted(capsule)} holds no function: one that does is named by its signature, such as "
            f'"double (double, void *)"'
        )
    elif takes_python_objects(signature):
        raise TypeError(
            f"{name} of the type `{shortened(signature)}` takes or returns Python objects, for which it needs the GIL; "
            f"submit a Python callable"
        )
    context: int | None = get_context(capsule)
    return Recognised(
        address,
        name,
        origin,
        signature,
        problem,
        keep_alive=keep_alive,
        context=context,
        bound=bound_values(signature, context) if signature is not None else (),
    )


def recognise_capsule(target: Any) -> Recognised | None:
    """See the package. Raises TypeError for a capsule that holds no function, or one of Python objects."""
    if not is_of(target, "builtins", "PyCapsule"):
        return None
    return of_capsule(target, None, "a capsule", target)


def exported_by(module: Any, name: str) -> Any:
    """The capsule of a C function that a Cython module exports by that name, or None."""
    exported = getattr(module, "__pyx_capi__", None)
    return exported.get(name) if isinstance(exported, dict) else None
