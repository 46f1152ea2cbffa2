"""native(): from what people have (a ctypes function, a numba cfunc, a name, ...) to a NativeFunction.

What kinds of objects there are, and how each is taken apart, is in the package _toolchains.
"""

from __future__ import annotations

from typing import Any

from ._checks import kind_of, quoted, shortened, utf8_text
from ._core import NativeFunction, SignatureError
from ._toolchains import KINDS, Recognised, recognise
from ._toolchains.capsules import bound_values
from ._toolchains.names import of_native
from ._toolchains.recognised import parameters_of, takes_python_objects


def _kinds(found: Recognised) -> tuple[str, ...] | None:
    """The kinds of the result and the parameters as the toolchain knows them; None where it uses names of its own."""
    try:
        return NativeFunction(found.address, found.signature or "", found.name)._kinds
    except SignatureError:
        return None


def _check_agreement(function: NativeFunction, given: str, found: Recognised) -> None:
    """That a signature which the user gives says nothing else than the one that the toolchain knows."""
    if found.signature is None:
        return
    known = _kinds(found)
    if known is None:
        agrees = len(parameters_of(found.signature)) == len(function._kinds) - 1
    else:
        agrees = known[1:] == function._kinds[1:] and (known[0] == function._kinds[0] or not found.knows_result)
    if not agrees:
        raise SignatureError(
            f"the signature {quoted(given)} does not fit {shortened(found.name)}, which is "
            f"`{shortened(found.signature)}` by {found.origin}; a signature may add `const` and names. If it is right "
            f"all the same, give native() the address"
        )


def native(
    target: Any,
    signature: str | None = None,
    *,
    name: str | None = None,
    raises: str | None = None,
    force_libffi: bool = False,
) -> NativeFunction:
    """Return a NativeFunction: a C function that a pool can run without the interpreter.

    target: one of
        a ctypes function with argtypes and restype;
        a cffi function pointer, or a function of a module compiled by cffi;
        a numba @cfunc;
        a PyCapsule named by its signature, as in a Cython module's __pyx_capi__. Its context is user data: passed as
            the last parameter, if that is a `void *`, and not given by the caller. One without a name needs a
            signature;
        a scipy.LowLevelCallable; likewise with its user data;
        a NativeFunction, to make another of it;
        an address as an int;
        "library:symbol", such as "libz.so.1:crc32" (an empty library is the process itself);
        "module:attribute", where the attribute is any of these, or names a C function that a Cython module exports.
    signature: its C type, such as "unsigned long (unsigned long, const void *, unsigned int)". Needed for an address, a
        symbol of a library and a ctypes function without argtypes. The others know theirs; a signature can then add
        what they do not know (numba and cffi have no `const`) and must be the same otherwise.
    name: what messages call it; left out, its own name.
    raises: which results are errors: "nonzero" (of an integer or bool), "negative" (of a signed integer) or "null" (of
        a pointer). Such a call raises NativeError with the result and errno. None: none are.
    force_libffi: call it through libffi even where a direct call would do; for comparisons.

    A signature may end in `...` and the types of the other arguments, "int (const char *, ..., double)".

    A number takes a number, also of ctypes or cffi. A pointer parameter takes any object with a buffer (a read-only one
    only where the C type is const), a ctypes or cffi object, an address or None; one to a function takes a function of
    any kind above. An object with `_as_parameter_` is what that is. What the buffer holds must be what the pointer
    points to; bytes go everywhere, and a pointer to void, bytes or a struct takes everything. A parameter of type
    `wp_job *` is filled in by the pool; see workerpool.h.

    The function must be thread-safe, must not use the Python API, and must match the signature: a wrong one corrupts
    memory, as with ctypes. The NativeFunction, and each job that calls it, keeps the target alive, and its library
    loaded. One that was made from a name can be pickled, and is found by its name again.

    Raises SignatureError for a signature that is wrong (with the position), cannot be called, or contradicts the
    target; TypeError for a target that is none, or that takes the GIL: a callback made of Python code, a function of
    Python objects, numba's @njit; ValueError for a text that is no name; OSError and AttributeError for a library,
    symbol or attribute that is not there.
    """
    if signature is not None and not isinstance(signature, str):
        raise TypeError(f"signature must be a str or None, not {type(signature).__name__}")
    if name is not None:
        utf8_text(name, "name", "a str or None")
    found = of_native(target) if isinstance(target, NativeFunction) else recognise(target)
    if found is None:
        kind = kind_of(target, NativeFunction)
        is_callable = callable(target) and kind == type(target).__name__
        hint = "; submit a Python callable to the pool as it is" if is_callable else ""
        raise TypeError(f"native() takes {KINDS}, not {kind}{hint}")
    text = signature if signature is not None else found.signature
    if text is None:
        raise found.no_signature or TypeError(f"{found.name} needs a signature")
    if takes_python_objects(text):
        raise TypeError(
            f"{shortened(found.name)} of the type `{shortened(text)}` takes or returns Python objects, for "
            f"which it needs the GIL; submit a Python callable"
        )
    raises = raises if raises is not None else found.raises
    bound = bound_values(text, found.context) if found.context and found.signature is None else found.bound
    reduced: object = found.origin
    if found.pickle_as is not None:
        reduced = (_native_again, (found.pickle_as, signature, name, raises, force_libffi))
    function = NativeFunction(
        found.address,
        text,
        name or found.name,
        found.keep_alive,
        reduced,
        raises,
        bound=bound,
        force_libffi=force_libffi or found.force_libffi,
    )
    if signature is not None:
        _check_agreement(function, signature, found)
    return function


def _native_again(
    target: str, signature: str | None, name: str | None, raises: str | None, force_libffi: bool
) -> NativeFunction:
    """What a pickled NativeFunction is made by in another process."""
    return native(target, signature, name=name, raises=raises, force_libffi=force_libffi)
