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
        raise ValueError(f"{name} must be text that UTF-8 can hold, not {shortened(ascii(value))}") from None
    return value


def shortened(text: str, most: int = 200) -> str:
    """A text as messages show it: what somebody else wrote may be megabytes long."""
    return text if len(text) <= most else f"{text[:most]}..."


def kind_of(value: object, wanted: type) -> str:
    """The name of a value's type, for messages that say that it is not `wanted`. Every import of the package makes
    classes of its own, whose names do not tell them apart."""
    kind = type(value)
    if (kind.__module__, kind.__name__) == (wanted.__module__, wanted.__name__):
        return f"a {kind.__name__} of another import of {__name__.partition('.')[0]}"
    return kind.__name__


def quoted(value: object) -> str:
    """The repr of a value, for messages."""
    if isinstance(value, str) and len(value) > 200:
        return f"{value[:200]!r}..."
    return shortened(repr(value))
