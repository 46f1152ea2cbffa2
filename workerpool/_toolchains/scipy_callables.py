"""scipy.LowLevelCallable: a function of any toolchain, with a signature and user data.

The user data is always passed as the last parameter, which must be a `void *`, and the caller leaves that argument out.
Without user data such a parameter is an argument like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .._checks import quoted, shortened
from .._core import SignatureError
from .capsules import ends_with_user_data, of_capsule
from .recognised import Recognised, is_of, parameters_of

# SciPy spells the types of a ctypes function by their names in ctypes.
_CTYPES_WORDS = {
    "byte": "signed char",
    "ubyte": "unsigned char",
    "ushort": "unsigned short",
    "uint": "unsigned int",
    "ulong": "unsigned long",
    "longlong": "long long",
    "ulonglong": "unsigned long long",
    "char_p": "const char *",
}


def _in_c(signature: str) -> str:
    return re.sub(r"\w+", lambda word: _CTYPES_WORDS.get(word[0], word[0]), signature)


def recognise_scipy(target: Any, recognise: Callable[[Any], Recognised | None]) -> Recognised | None:
    """See the package. Raises TypeError for what takes the GIL, SignatureError for user data that has no place."""
    if not is_of(target, "scipy._lib._ccallback", "LowLevelCallable"):
        return None
    inner = recognise(target.function)  # What takes the GIL is refused there.
    name = inner.name if inner is not None else None
    capsule = tuple.__getitem__(target, 0)
    found = of_capsule(capsule, name, "a scipy.LowLevelCallable", target, _in_c(target.signature))
    if target.user_data is not None:
        if not ends_with_user_data(parameters_of(found.signature or "")):
            raise SignatureError(
                f"{quoted(target)} has user data, and the last parameter of `{shortened(str(found.signature))}`, to "
                f"which it would be passed, is no `void *`"
            )
        found = replace(found, bound=found.bound or (0,))  # It may be a null pointer.
    return replace(found, keep_alive=(target, inner))
