"""map_array() and submit_array(): what can be looped over arrays, and what a NumPy ufunc has to say about them.

NumPy is never imported here: an array or a ufunc cannot exist before somebody else has imported it.
"""

from __future__ import annotations

import sys
from typing import Any, SupportsIndex

from ._checks import kind_of, whole_number
from ._core import NativeFunction

# The types of NumPy that are plain numbers and have a buffer, by their letters.
_NUMBERS = frozenset("?bhilqpBHILQPefdgFDG")

# What the extension is given: the function or None, the ufunc or None, the arguments, the outputs, the grain.
_Request = tuple[NativeFunction | None, Any, tuple[Any, ...], tuple[Any, ...], int]


def _grain(grain: SupportsIndex | None) -> int:
    if grain is None:
        return 0
    return whole_number(grain, "grain", 1, kind="a whole number or None")


def _ufunc_of(fn: Any) -> Any:
    """The ufunc that fn is, or has inside (numba's @vectorize makes such functions); None if it is none."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if issubclass(type(fn), numpy.ufunc):
        return fn
    inner = getattr(fn, "ufunc", None)
    return inner if issubclass(type(inner), numpy.ufunc) else None


def _hint(value: Any) -> str:
    if hasattr(type(value), "to_numpy"):
        return "; pass its .to_numpy()"
    if hasattr(type(value), "__array__") or hasattr(type(value), "__array_interface__"):
        return "; pass numpy.asarray() of it"
    return ""


def _as_array(value: Any, name: str, place: str, is_number: bool) -> Any:
    """A view of a buffer as a NumPy array of plain numbers. It is this array that the loop is over, whatever else the
    object that was given might make of itself."""
    numpy: Any = sys.modules["numpy"]
    if not issubclass(type(value), (numpy.ndarray, numpy.generic) if is_number else numpy.ndarray):
        try:
            value = memoryview(value)
        except TypeError:
            raise TypeError(
                f"{name}() {place}: an array (any object with a buffer) or a number is needed, "
                f"not {type(value).__name__}{_hint(value)}"
            ) from None
        except (ValueError, BufferError) as error:
            raise ValueError(f"{name}() {place}: this {type(value).__name__} gives no buffer: {error}") from error
    array = numpy.asarray(value)
    if array.dtype.char not in _NUMBERS:
        hint = "; pass its .view('i8') if the loop is one over integers" if array.dtype.kind in "mM" else ""
        raise TypeError(f"{name}() {place}: only arrays of plain numbers can be looped over, not {array.dtype}{hint}")
    if not array.dtype.isnative:
        native = array.dtype.newbyteorder("=")
        raise ValueError(
            f"{name}() {place}: its numbers are in the byte order of another machine ({array.dtype.str}); "
            f"convert the array first, as by .astype({native.str!r})"
        )
    if not array.flags.aligned:
        raise ValueError(f"{name}() {place}: its elements are not aligned in memory; pass a copy")
    return array


def _inputs(ufunc: Any, arguments: tuple[Any, ...]) -> list[Any]:
    """The arguments as arrays, but for Python's numbers, whose type follows the arrays."""
    if len(arguments) != ufunc.nin:
        raise TypeError(
            f"{ufunc.__name__}() takes {ufunc.nin} argument{'s' if ufunc.nin != 1 else ''} ({len(arguments)} given)"
        )
    return [
        value
        if type(value) in {int, float, complex}
        else _as_array(_plain(value), ufunc.__name__, f"argument {number}", is_number=True)
        for number, value in enumerate(arguments, 1)
    ]


def _plain(value: Any) -> Any:
    """A bool is no buffer, and its type does not follow the arrays."""
    return sys.modules["numpy"].bool_(value) if isinstance(value, bool) else value


def _outputs(ufunc: Any, out: Any) -> tuple[Any, ...]:
    if ufunc.nout == 1 and not isinstance(out, tuple):
        return (out,)
    if out is None:
        return (None,) * int(ufunc.nout)
    out = tuple(out) if isinstance(out, tuple) else out  # A subclass could change its mind.
    if not isinstance(out, tuple) or len(out) != ufunc.nout:
        raise TypeError(
            f"{ufunc.__name__}() has {ufunc.nout} outputs: out must be a tuple of {ufunc.nout} arrays, each may be None"
        )
    return out


def _resolve(fn: Any, ufunc: Any, given: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """The types that the ufunc would loop over, and its call_info. numba compiles a loop at the first call, so one that
    is not there is asked for by a call with empty arrays."""
    numpy: Any = sys.modules["numpy"]
    resolve = getattr(ufunc, "_resolve_dtypes_and_context", None)
    if resolve is None:
        raise TypeError(f"{ufunc.__name__}(): the loops of ufuncs are within reach from NumPy 1.24 on")
    try:
        types, info = resolve(given)
    except TypeError:
        if fn is ufunc:
            raise
        fn(*[numpy.empty(0, dtype) for dtype in given[: ufunc.nin]])
        types, info = resolve(given)
    return types, info


def _check_types(ufunc: Any, given: tuple[Any, ...], types: tuple[Any, ...]) -> None:
    """A ufunc converts where it must; a loop cannot."""
    if any(its.hasobject for its in types):
        raise TypeError(
            f"{ufunc.__name__}() works on Python objects, which needs the GIL; "
            f"a pool can only run loops over plain numbers"
        )
    for number, (mine, its) in enumerate(zip(given, types, strict=True)):
        if mine is None or isinstance(mine, type) or mine == its:
            continue
        if number < ufunc.nin:
            raise TypeError(
                f"{ufunc.__name__}() argument {number + 1}: its loop for these arrays takes {its}, not {mine}; "
                f"convert the array first, as by .astype({its.name!r})"
            )
        place = "out" if ufunc.nout == 1 else f"out[{number - ufunc.nin}]"
        raise TypeError(f"{ufunc.__name__}() {place}: its loop for these arrays gives {its}, not {mine}")


def _as_type(value: Any, dtype: Any, place: str) -> Any:
    """One of Python's numbers as an array of a type; an array is of that type already."""
    numpy: Any = sys.modules["numpy"]
    if isinstance(value, int) and dtype.kind in "iu":
        limits = numpy.iinfo(dtype)
        if not limits.min <= value <= limits.max:
            raise OverflowError(f"{place}: {value} is out of the range of {dtype}")
    return numpy.asarray(value, dtype)


def _request_of_ufunc(fn: Any, ufunc: Any, arguments: tuple[Any, ...], out: Any, grain: int) -> _Request:
    name = ufunc.__name__
    if ufunc.signature is not None:
        raise TypeError(f"{name}() works on whole rows ({ufunc.signature}), not on elements")
    inputs = _inputs(ufunc, arguments)
    outputs = _outputs(ufunc, out)
    out_arrays = [
        None if array is None else _as_array(array, name, "out" if ufunc.nout == 1 else f"out[{number}]", False)
        for number, array in enumerate(outputs)
    ]
    given = tuple(
        None if x is None else type(x) if type(x) in {int, float, complex} else x.dtype for x in inputs + out_arrays
    )
    types, info = _resolve(fn, ufunc, given)
    _check_types(ufunc, given, types)
    ufunc._get_strided_loop(info)
    arrays = tuple(
        _as_type(x, dtype, f"{name}() argument {number}")
        for number, (x, dtype) in enumerate(zip(inputs, types, strict=False), 1)
    )
    return None, (info, name, types, outputs), arrays, tuple(out_arrays), grain


def request(method: str, fn: Any, arguments: tuple[Any, ...], out: Any, grain: SupportsIndex | None) -> _Request:
    """What the extension makes a loop of; `method` is for messages."""
    size = _grain(grain)
    if type(fn) is NativeFunction:
        return fn, None, arguments, (out,), size
    ufunc = _ufunc_of(fn)
    if ufunc is not None:
        return _request_of_ufunc(fn, ufunc, arguments, out, size)
    kind = kind_of(fn, NativeFunction)
    is_callable = callable(fn) and kind == type(fn).__name__
    hint = "; a Python function has to be compiled first, for instance by numba" if is_callable else ""
    raise TypeError(f"{method}() takes a NativeFunction, as native() makes it, or a NumPy ufunc, not {kind}{hint}")
