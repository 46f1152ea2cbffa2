"""What people have that is a C function, and how each kind is taken apart. One file for each toolchain.

A recogniser looks at one kind of object. It returns None if the object is of another kind, a Recognised with the
address, the signature and what keeps the code alive if it is a C function, and raises if it is one that must not run
without the interpreter: what would take the GIL is refused here, with what to do instead.

No recogniser imports the library whose objects it knows. An object of that library cannot exist before somebody else
has imported it, so the name of its type is enough to know it by, and the library is then found in sys.modules.

| file | takes |
|---|---|
| ctypes_functions | functions of ctypes.CDLL, prototypes made with CFUNCTYPE |
| cffi_functions | function pointers of cffi, and functions of its compiled modules |
| numba_functions | numba's @cfunc |
| capsules | Cython's __pyx_capi__, and any capsule that is named by its signature |
| scipy_callables | scipy.LowLevelCallable, with its user data |
| addresses | an int |
| names | "library:symbol" and "module:attribute" |

What arguments of theirs stand for is in the file arguments, for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .addresses import recognise_address
from .arguments import stand_in
from .capsules import recognise_capsule
from .cffi_functions import recognise_cffi
from .ctypes_functions import recognise_ctypes
from .names import recognise_name
from .numba_functions import recognise_numba
from .recognised import Recognised
from .scipy_callables import recognise_scipy

__all__ = ["KINDS", "Recognised", "recognise", "stand_in"]

# What messages say that there is to choose from.
KINDS = (
    'a ctypes function, an address or a name ("library:symbol", "module:attribute"), a cffi function, a numba cfunc, '
    "a PyCapsule named by its signature or a scipy.LowLevelCallable"
)

_OBJECTS: list[Callable[[Any], Recognised | None]] = [
    recognise_ctypes,
    recognise_cffi,
    recognise_numba,
    recognise_capsule,
    recognise_address,
]


def _recognise_object(target: Any) -> Recognised | None:
    for recogniser in _OBJECTS:
        found = recogniser(target)
        if found is not None:
            return found
    return recognise_scipy(target, _recognise_object)


def recognise(target: Any) -> Recognised | None:
    """Take `target` apart; None if it is no C function of a kind that is known here.

    Raises TypeError for one that takes the GIL; ValueError, OSError, AttributeError and ImportError for a name that
    names nothing.
    """
    if isinstance(target, str):
        return recognise_name(target, _recognise_object)
    return _recognise_object(target)
