"""What the arguments of the public interface have to be, and the errors that say so."""

from __future__ import annotations

import operator
from typing import SupportsIndex

# Numbers that are larger mean no more than this, and the extension takes no larger ones.
LARGEST_CAPACITY = 2**63


def whole_number(
    value: SupportsIndex, name: str, least: int, most: int = LARGEST_CAPACITY, kind: str = "a whole number"
) -> int:
    """A number of at least `least`; instead of one beyond `most`, which makes no difference, that."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {kind}, not {type(value).__name__}") from None
    if number < least:
        # Python does not like to write numbers of thousands of digits.
        shown = str(number) if number > -(10**100) else f"a negative one of {number.bit_length()} bits"
        raise ValueError(f"{name} must be at least {least}, not {shown}")
    return min(number, most)


def utf8_text(value: str, name: str, kind: str = "a str") -> str:
    """A str that UTF-8 can hold."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {kind}, not {type(value).__name__}")
    try:
        str.encode(value)
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text that UTF-8 can hold, not {value!a}") from None
    return value
