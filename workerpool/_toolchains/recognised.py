"""What every recogniser returns, and what several of them need."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

_PYTHON_OBJECTS = re.compile(r"\bPy([A-Z]\w*)?Object\b|\b__pyx_obj_\w+")


@dataclass(frozen=True)
class Recognised:
    """A function taken apart.

    address: where it is. name: what messages call it.
    origin: what it was made from, as in "cannot be pickled: it was made from ...".
    signature: its C type as the toolchain knows it, or None where it does not.
    no_signature: why there is none; raised when the user gives none either.
    keep_alive: owns the code.
    context: user data, for a capsule that does not know its signature.
    bound: values of the last parameters, which the caller does not give: user data.
    knows_result: False if the result in `signature` may be no more than a default of the toolchain.
    pickle_as: the name by which another process can find it.
    raises, force_libffi: as for native(), where the target has them itself.
    """

    address: int
    name: str
    origin: str
    signature: str | None = None
    no_signature: Exception | None = None
    keep_alive: object = None
    context: int | None = None
    bound: tuple[int, ...] = ()
    knows_result: bool = True
    pickle_as: str | None = None
    raises: str | None = None
    force_libffi: bool = False


def is_of(target: Any, module: str, *names: str) -> bool:
    """Whether an object's type, or one that it derives from, has one of these names in that module."""
    return any(base.__module__ == module and base.__name__ in names for base in type(target).__mro__)


def integer_spelling(size: int, is_signed: bool) -> str:
    """The C type of an integer of `size` bytes."""
    return f"{'' if is_signed else 'u'}int{8 * size}_t"


def address_in(pointer: Any) -> int:
    """The address in an object whose buffer is one pointer, such as a function of ctypes."""
    return int.from_bytes(memoryview(pointer).cast("B"), sys.byteorder)


def parameters_of(signature: str) -> list[str]:
    """The texts between the commas of a signature's parameter list; empty for none."""
    inside = signature[signature.find("(") + 1 : signature.rfind(")")]
    parameters, depth = [""], 0
    for character in inside:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parameters.append("")
        else:
            parameters[-1] += character
    texts = [text.strip() for text in parameters]
    return [] if texts in ([""], ["void"]) else texts


def takes_python_objects(signature: str) -> bool:
    """Whether a signature names Python objects, which a function may not touch without the GIL."""
    return _PYTHON_OBJECTS.search(signature) is not None
