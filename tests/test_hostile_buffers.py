"""Buffers that lie: exporters that give another buffer each time, or one that contradicts itself. What does not add up
is refused, and no memory but that of the view that was checked is touched."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest

import workerpool as wp
from support import LONG, Helpers

np: Any = pytest.importorskip("numpy")

pytestmark = pytest.mark.keeps("types whose slots are ctypes callbacks are never freed")

DOUBLE = ("id_double", "double (double)")
KERNEL = ("scale_range", "int (size_t, size_t, const double *, double, double *)")
UNTYPED = ("count_range", "int (size_t, size_t, void *)")
BYTES = ("sum_bytes", "uint64_t (const unsigned char *, size_t)")


class PyBuffer(ctypes.Structure):
    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_char_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


class Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("function", ctypes.c_void_p)]


class Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(Slot)),
    ]


GetBuffer = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(PyBuffer), ctypes.c_int)
BF_GETBUFFER = 1
MEMORY = (ctypes.c_double * 64)()
KEEP: list[Any] = []  # Types are never freed, and need this as long.


def lengths(values: list[int] | None) -> Any:
    return None if values is None else (ctypes.c_ssize_t * len(values))(*values)


class Liar:
    """`object` gives the views one after the other, the last of them for ever; `taken` says how many were."""

    def __init__(self, *views: dict[str, Any]) -> None:
        self.taken = 0
        self._views = [self._complete(**view) for view in views]
        get_buffer = GetBuffer(self._get)
        slots = (Slot * 2)(Slot(BF_GETBUFFER, ctypes.cast(get_buffer, ctypes.c_void_p)), Slot(0, None))
        spec = Spec(b"hostile.Liar", 0, 0, 1 << 18, slots)
        make = ctypes.pythonapi.PyType_FromSpec
        make.restype, make.argtypes = ctypes.py_object, [ctypes.POINTER(Spec)]
        self.object = make(spec)()
        KEEP.append((get_buffer, slots, spec, self._views))

    @staticmethod
    def _complete(
        shape: list[int] | None = None,
        strides: list[int] | None = None,
        suboffsets: list[int] | None = None,
        **view: Any,
    ) -> dict[str, Any]:
        arrays = [lengths(shape), lengths(strides), lengths(suboffsets)]
        KEEP.append(arrays)
        names = ("shape", "strides", "suboffsets")
        addresses = {name: a and ctypes.addressof(a) for name, a in zip(names, arrays, strict=True)}
        usual = {
            "buf": ctypes.addressof(MEMORY),
            "itemsize": 8,
            "format": b"d",
            "ndim": len(shape or []),
            "readonly": 0,
        }
        return {**usual, **addresses, **view}

    def _get(self, exporter: Any, view: Any, flags: int) -> int:
        fields = self._views[min(self.taken, len(self._views) - 1)]
        self.taken += 1
        for name, value in fields.items():
            setattr(view.contents, name, value)
        view.contents.obj = id(exporter)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(exporter))
        return 0


GOOD: dict[str, Any] = {"len": 32, "shape": [4], "strides": [8]}
LIES: dict[str, dict[str, Any]] = {
    "length too short": {**GOOD, "len": 8},
    "negative length": {**GOOD, "len": -32},
    "negative dimension": {**GOOD, "shape": [-4]},
    "negative dimensions": {**GOOD, "shape": [-2, -2], "strides": [16, 8]},
    "no shape": {"len": 32, "shape": None, "ndim": 1},
    "negative number of dimensions": {**GOOD, "ndim": -1},
    "65 dimensions": {"len": 8, "shape": [1] * 65, "strides": [8] * 65},
    "a million dimensions": {**GOOD, "ndim": 10**6},
    "product that overflows": {"len": 0, "shape": [2**32, 2**32], "strides": [8, 8]},
    "product that overflows to the length": {"len": 32, "shape": [2**61 + 1, 4], "strides": [8, 8]},
    "product of bytes that overflows": {"len": 32, "shape": [2**61 + 4], "strides": [8]},
    "no memory": {**GOOD, "buf": None},
    "no item size": {**GOOD, "itemsize": 0},
    "negative item size": {**GOOD, "itemsize": -8},
    "strides beyond all memory": {**GOOD, "strides": [2**62]},
    "strides before all memory": {**GOOD, "strides": [-(2**62)]},
    "strides that wrap around": {"len": 64, "shape": [2, 4], "strides": [2**63 - 1, 8]},
    "suboffsets": {**GOOD, "suboffsets": [0]},
    "items that are larger than their kind": {"len": 64, "shape": [4], "strides": [16], "itemsize": 16},
    "items that are smaller than their kind": {"len": 16, "shape": [4], "strides": [4], "itemsize": 4},
    "no format": {**GOOD, "format": None},
    "empty format": {**GOOD, "format": b""},
    "no format but its order": {**GOOD, "format": b"<"},
    "half a complex": {**GOOD, "format": b"Z"},
    "format of a megabyte": {**GOOD, "format": b"d" * 1_000_000},
    "format that is no text": {**GOOD, "format": b"\xff\xfe"},
}
REFUSED = (ValueError, TypeError)


def ways(helpers: Helpers, pool: wp.WorkerPool) -> dict[str, Callable[[Any], Any]]:
    elements, kernel = helpers.native(*DOUBLE), helpers.native(*KERNEL)
    x = np.zeros(4)
    return {
        "an argument": lambda liar: pool.map_array(elements, liar),
        "an argument of a submitted loop": lambda liar: pool.submit_array(elements, liar).result(LONG),
        "the output": lambda liar: pool.map_array(elements, x, out=liar),
        "the output for a number": lambda liar: pool.map_array(elements, 1.0, out=liar),
        "the input of a kernel": lambda liar: pool.map_array(kernel, liar, 2.0),
        "the range of a kernel": lambda liar: pool.map_array(kernel, range(4), liar, 2.0),
        "the output of a kernel": lambda liar: pool.map_array(kernel, x, 2.0, out=liar),
    }


@pytest.mark.parametrize("lie", LIES)
def test_buffers_that_contradict_themselves_are_refused(helpers: Helpers, two_workers: wp.WorkerPool, lie: str) -> None:
    for name, call in ways(helpers, two_workers).items():
        with pytest.raises(REFUSED, match=r"^(id_double|scale_range)\(\) (argument \d|out): "):
            call(Liar(LIES[lie]).object)
            pytest.fail(name)


def test_read_only_buffers_are_not_written_to(helpers: Helpers, two_workers: wp.WorkerPool) -> None:
    """Not even where they were given as if they were writable."""
    constant = {**GOOD, "readonly": 1}
    for name, call in ways(helpers, two_workers).items():
        if name.startswith("the output"):
            with pytest.raises(ValueError, match=r"out: this hostile\.Liar is read-only"):
                call(Liar(constant).object)
    fill = helpers.native("fill_bytes", "void (unsigned char *, int, size_t)")
    with pytest.raises(TypeError, match="gave a read-only one"):
        fill(Liar(constant).object, 7, 1)


def test_pointers_get_one_block_of_memory_that_is_there(helpers: Helpers) -> None:
    lies = [
        LIES[lie] for lie in ("negative length", "negative number of dimensions", "negative item size", "no memory")
    ]
    lies += [
        {**GOOD, "strides": [16]},
        {**GOOD, "strides": [-8]},
        LIES["suboffsets"],
        {**GOOD, "shape": None, "ndim": 1},
    ]
    for lie in lies:
        with pytest.raises(ValueError, match=r"argument 1: .* does not add up"):
            helpers.native(*BYTES)(Liar(lie).object, 1)


def test_each_buffer_is_taken_once(helpers: Helpers, two_workers: wp.WorkerPool) -> None:
    """And that view is the one that is used: every later one would lead nowhere."""
    nowhere = {"len": 2**40, "shape": [2**37], "strides": [8], "buf": 4096}
    for name, call in ways(helpers, two_workers).items():
        liar = Liar(GOOD, nowhere)
        call(liar.object)
        assert liar.taken == 1, name
    for arguments in ((), (range(4),)):
        plain = {"len": 4, "shape": [4], "strides": [1], "itemsize": 1, "format": b"B"}
        for given in ("argument", "out"):
            liar = Liar(plain, nowhere)
            extra = (liar.object,) if given == "argument" else ()
            two_workers.map_array(helpers.native(*UNTYPED), *arguments, *extra, out=None if extra else liar.object)
            assert liar.taken == 1
    liar = Liar(GOOD, nowhere)
    assert helpers.native(*BYTES)(liar.object, 0) == 0
    assert two_workers.submit(helpers.native(*BYTES), liar.object, 0).result(LONG) == 0
    assert liar.taken == 2


@pytest.mark.parametrize("place", ["argument", "out"])
def test_a_ufunc_loops_over_the_buffer_that_was_looked_at(two_workers: wp.WorkerPool, place: str) -> None:
    memory = (ctypes.c_double * 4)(1, 2, 3, 4)
    view = {**GOOD, "buf": ctypes.addressof(memory)}
    for later in ({**GOOD, "len": 4, "itemsize": 1, "format": b"B", "strides": [1]}, {**GOOD, "buf": 4096}):
        liar = Liar(view, later)
        x = np.arange(4.0)
        if place == "argument":
            assert two_workers.map_array(np.add, x, liar.object).tolist() == [
                a + b for a, b in zip(memory, x, strict=True)
            ]
        else:
            assert two_workers.map_array(np.add, x, x, out=liar.object) is liar.object
            assert list(memory) == [0, 2, 4, 6]
        assert liar.taken == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes have no __buffer__ before")
def test_an_array_that_changes_while_a_ufunc_is_found_is_looked_at_again(two_workers: wp.WorkerPool) -> None:
    class Changes:
        def __init__(self, change: Callable[[], None]) -> None:
            self.change = change

        def __buffer__(self, flags: int) -> memoryview:
            self.change()
            return memoryview(bytearray(32)).cast("d")

    for dtype in ("f4", "i8", "?", "S1"):
        x = np.zeros(4)

        def change(x: Any = x, dtype: str = dtype) -> None:
            x.__setstate__((1, (4,), np.dtype(dtype), False, bytes(4 * np.dtype(dtype).itemsize)))

        with pytest.raises((TypeError, ValueError)):
            two_workers.map_array(np.add, x, Changes(change))


# ---- Dimensions ----


def deep(n_dims: int, length: int = 1) -> Any:
    kind = functools.reduce(lambda inner, _: inner * 1, range(n_dims - 1), ctypes.c_double * length)
    return kind()


@pytest.mark.parametrize("n_dims", [65, 66, 70, 128, 200, 1000])
def test_more_dimensions_than_a_loop_has_are_an_error(
    helpers: Helpers, two_workers: wp.WorkerPool, n_dims: int
) -> None:
    for name, call in ways(helpers, two_workers).items():
        with pytest.raises(ValueError, match=rf"(argument \d|out): this c_double\w+ has {n_dims} dimensions"):
            call(deep(n_dims, 4))
            pytest.fail(name)
    for arguments, out in (((deep(n_dims),), None), ((np.zeros(1),), deep(n_dims))):
        with pytest.raises(ValueError, match=r"sin\(\) (argument 1|out): this c_double"):
            two_workers.map_array(np.sin, *arguments, out=out)


def test_as_many_dimensions_as_a_loop_has_are_looped_over(helpers: Helpers, two_workers: wp.WorkerPool) -> None:
    fn = helpers.native(*DOUBLE)
    for n_dims in (32, 33, 63, 64):
        given, out = deep(n_dims, 3), deep(n_dims, 3)
        numbers = (ctypes.c_double * 3).from_buffer(given)
        numbers[:] = [1.0, 2.0, 3.0]
        assert two_workers.map_array(fn, given, out=out) is out
        assert list((ctypes.c_double * 3).from_buffer(out)) == [1.0, 2.0, 3.0]
    sum_at = helpers.native("sum_doubles_at", "double (const double *, size_t)")
    assert sum_at(given, 3) == 6.0
    assert sum_at(deep(200), 1) == 0.0  # A pointer needs a block of memory, and no dimensions.


# ---- What only looks like something else ----


def test_more_memory_than_the_elements_need_is_no_contradiction(helpers: Helpers, two_workers: wp.WorkerPool) -> None:
    resized = (ctypes.c_double * 4)(1, 2, 3, 4)
    ctypes.resize(resized, 64)
    assert two_workers.map_array(helpers.native(*DOUBLE), resized).tolist() == [1, 2, 3, 4]
    assert two_workers.map_array(helpers.native(*KERNEL), resized, 2.0).tolist() == [2, 4, 6, 8]
    assert two_workers.map_array(np.negative, resized).tolist() == [-1, -2, -3, -4]


def test_what_says_to_be_of_another_class_is_not_taken_for_it(two_workers: wp.WorkerPool) -> None:
    class Native:
        __class__ = wp.NativeFunction  # type: ignore[assignment]

    class Ufunc:
        __class__ = np.ufunc

    class Array:
        __class__ = np.ndarray

        def __array__(self, *_: Any) -> Any:
            return np.zeros(3)

    class Outputs(tuple[Any, ...]):
        __slots__ = ()

        def __len__(self) -> int:
            return 2

    x = np.zeros(3)
    for wrong in (Native(), Ufunc()):
        with pytest.raises(TypeError, match="takes a NativeFunction"):
            two_workers.map_array(wrong, x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"sin\(\) out: .* not Array; pass numpy\.asarray\(\) of it"):
        two_workers.map_array(np.sin, x, out=Array())
    for outputs in (Outputs([None]), Outputs([None] * 3)):
        with pytest.raises(TypeError, match=r"modf\(\) has 2 outputs"):
            two_workers.map_array(np.modf, x, out=outputs)


def test_attributes_make_no_pointer_of_memory(helpers: Helpers) -> None:
    """To take one for the other is to call the function with a wild pointer."""

    class Flags(ctypes.Structure):
        _fields_ = [("value", ctypes.c_int64)]
        _flags_ = 1

    class Typed(ctypes.Structure):
        _fields_ = [("value", ctypes.c_int64)]
        _type_ = "P"

    class Integer(ctypes.c_int64):
        pass

    class Later(ctypes.Structure):
        pass

    Integer._type_ = "P"
    identity = helpers.native("id_pointer", "void *(void *)")
    for memory in (Flags(4096), Typed(4096), Integer(4096), (ctypes.c_int64 * 1)(4096), (ctypes.c_void_p * 1)(4096)):
        assert identity(memory) == ctypes.addressof(memory)

    class Incomplete(ctypes._Pointer):  # type: ignore[type-arg]
        pass

    Incomplete.set_type(Later)  # type: ignore[attr-defined]
    Later._fields_ = [("value", ctypes.c_int64)]
    for pointer in (ctypes.c_void_p(4096), ctypes.cast(4096, ctypes.POINTER(Later)), ctypes.cast(4096, Incomplete)):
        assert identity(pointer) == 4096


def test_byref_leads_into_its_object(helpers: Helpers) -> None:
    identity = helpers.native("id_pointer", "void *(const double *)")
    data = (ctypes.c_double * 4)()
    for offset in (0, 8, 24, 32):
        assert identity(ctypes.byref(data, offset)) == ctypes.addressof(data) + offset
    for offset in (-8, 40, 2**40):
        with pytest.raises(ValueError, match=r"argument 1: this byref\(\) leads outside of its c_double_Array_4"):
            identity(ctypes.byref(data, offset))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes have no __buffer__ before")
def test_byref_of_what_gives_the_buffer_of_something_else(helpers: Helpers) -> None:
    class Float(ctypes.c_float):
        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(np.ones(4))

    with pytest.raises(ValueError, match="leads outside of its Float"):
        helpers.native("sum_doubles_at", "double (const double *, size_t)")(ctypes.byref(Float(1)), 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes have no __buffer__ before")
def test_a_pool_that_is_shut_down_by_an_argument_says_so(helpers: Helpers) -> None:
    class Shuts:
        def __init__(self, pool: wp.WorkerPool) -> None:
            self.pool = pool

        def __buffer__(self, flags: int) -> memoryview:
            self.pool.shutdown()
            return memoryview(bytearray(32)).cast("d")

    fn = helpers.native(*DOUBLE)
    with wp.WorkerPool(1) as pool, pytest.raises(RuntimeError, match="shutdown"):
        pool.submit_array(fn, Shuts(pool))
    with wp.WorkerPool(1) as pool, pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(helpers.native(*BYTES), Shuts(pool), 1)
    with wp.WorkerPool(1) as pool:  # The calling thread needs no worker.
        assert pool.map_array(fn, Shuts(pool)).tolist() == [0] * 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="classes have no __buffer__ before")
def test_a_class_that_changes_its_name_is_called_by_one_that_it_has(helpers: Helpers) -> None:
    """The name before is freed memory by then."""

    class Renamed:
        calls = 0

        def __buffer__(self, flags: int) -> memoryview:
            Renamed.calls += 1
            Renamed.__name__ = f"name{Renamed.calls}" * 8
            raise BufferError("never")

    with pytest.raises(ValueError, match="gives no buffer: never") as caught:
        helpers.native(*BYTES)(Renamed(), 1)
    assert f"this {Renamed.__name__} gives no buffer" in str(caught.value)
