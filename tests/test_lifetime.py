"""What a native job needs lives until the job has ended, though its last reference was dropped right after submit.

`make asan-test` runs this file with the extension and the C functions under AddressSanitizer, which then sees every
read of memory that was freed. Without it a wrong sum shows it, as freed memory is overwritten here.
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib.util
import mmap
import os
import shutil
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, Helpers, wait_until

# Large enough that an allocator gives it back, and that an array is not kept in a cache.
SIZE = 1 << 16
EXPECTED = SIZE // 256 * sum(range(256))
UNDER_ASAN = "address" in os.environ.get("WORKERPOOL_SANITIZED", "")

BUFFER_SIGNATURE = "uint64_t (int64_t *, const unsigned char *, size_t)"


def data() -> bytes:
    return bytes(range(256)) * (SIZE // 256)


class Gate:
    """Holds jobs up until everything else has let go of what they need."""

    def __init__(self) -> None:
        self.words = (ctypes.c_int64 * 2)()

    def wait_for(self, jobs: int = 1) -> None:
        wait_until(lambda: self.words[0] >= jobs)

    def open_after_overwriting(self) -> None:
        """Collects garbage and writes over what memory has been freed; then the jobs go on."""
        gc.collect()
        overwritten = [bytearray(b"\xff" * size) for size in (SIZE, SIZE + 33, SIZE - 8, SIZE // 2) for _ in range(16)]
        self.words[1] = 1
        del overwritten


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.words[1] = 1


# ---- Buffers ----


def in_mmap() -> Any:
    memory = mmap.mmap(-1, SIZE)
    memory[:] = data()
    return memory


def in_numpy() -> Any:
    numpy = pytest.importorskip("numpy")
    return numpy.tile(numpy.arange(256, dtype=numpy.uint8), SIZE // 256)


def in_cffi() -> Any:
    ffi = pytest.importorskip("cffi").FFI()
    return ffi.buffer(ffi.new("unsigned char[]", data()), SIZE)


BUFFERS: dict[str, Callable[[], Any]] = {
    "bytes": data,
    "bytearray": lambda: bytearray(data()),
    "subclass of bytes": lambda: type("MyBytes", (bytes,), {})(data()),
    "memoryview of bytes": lambda: memoryview(data()),
    "memoryview of bytearray": lambda: memoryview(bytearray(data())),
    "slice of a memoryview": lambda: memoryview(bytearray(b"\xff" * 99 + data() + b"\xff" * 99))[99:-99],
    "array": lambda: array.array("B", data()),
    "array of doubles": lambda: array.array("d", data()),
    "ctypes array": lambda: (ctypes.c_uint8 * SIZE).from_buffer_copy(data()),
    "ctypes array in a bytearray": lambda: (ctypes.c_uint8 * SIZE).from_buffer(bytearray(data())),
    "byref": lambda: ctypes.byref((ctypes.c_uint8 * SIZE).from_buffer_copy(data())),
    "byref into": lambda: ctypes.byref((ctypes.c_uint8 * (SIZE + 8)).from_buffer_copy(bytes(8) + data()), 8),
    "pointer": lambda: ctypes.pointer((ctypes.c_uint8 * SIZE).from_buffer_copy(data())),
    "cast pointer": lambda: ctypes.cast((ctypes.c_uint8 * SIZE).from_buffer_copy(data()), ctypes.c_void_p),
    "char pointer": lambda: ctypes.c_char_p(data()),
    "mmap": in_mmap,
    "numpy array": in_numpy,
    "view of a numpy array": lambda: in_numpy().view("f8").reshape(64, -1)[:],
    "memoryview of a numpy array": lambda: memoryview(in_numpy()),
    "cffi buffer": in_cffi,
}


MakeBuffer = Callable[[], Any]


@pytest.fixture(params=BUFFERS)
def buffer(request: pytest.FixtureRequest) -> MakeBuffer:
    make = BUFFERS[request.param]
    make()  # Where a package is missing the test is skipped here, and not in the middle of it.
    return make


@pytest.fixture
def sum_behind(helpers: Helpers) -> wp.NativeFunction:
    return helpers.native("sum_behind", BUFFER_SIGNATURE)


def test_buffer_of_a_running_job(sum_behind: wp.NativeFunction, gate: Gate, buffer: MakeBuffer) -> None:
    with wp.WorkerPool(1) as pool:
        future = pool.submit(sum_behind, gate.words, buffer(), SIZE)
        gate.wait_for()
        gate.open_after_overwriting()
        assert future.result(LONG) == EXPECTED


def test_buffer_of_a_waiting_job(sum_behind: wp.NativeFunction, gate: Gate, buffer: MakeBuffer) -> None:
    """Neither its future nor its pool is kept."""
    sums = []
    pool = wp.WorkerPool(1)
    running = pool.submit(sum_behind, gate.words, b"", 0)
    gate.wait_for()
    pool.submit(sum_behind, gate.words, buffer(), SIZE).add_done_callback(lambda f: sums.append(f.result()))
    del pool
    gate.open_after_overwriting()
    assert running.result(LONG) == 0
    wait_until(lambda: sums == [EXPECTED])


def test_buffers_of_a_map(sum_behind: wp.NativeFunction, gate: Gate, buffer: MakeBuffer) -> None:
    with wp.WorkerPool(2) as pool:
        results = pool.map(sum_behind, [gate.words] * 5, (buffer() for _ in range(5)), [SIZE] * 5)
        gate.wait_for()
        gate.open_after_overwriting()
        assert list(results) == [EXPECTED] * 5


def test_buffers_of_a_results_queue(sum_behind: wp.NativeFunction, gate: Gate, buffer: MakeBuffer) -> None:
    with wp.WorkerPool(1) as pool, pool.results() as results:
        for _ in range(3):
            results.submit(sum_behind, gate.words, buffer(), SIZE)
        results.close()
        gate.wait_for()
        gate.open_after_overwriting()
        assert [result.unwrap() for result in results] == [EXPECTED] * 3


def test_buffers_of_cancelled_jobs_are_let_go(sum_behind: wp.NativeFunction, gate: Gate) -> None:
    with wp.WorkerPool(1) as pool:
        pool.submit(sum_behind, gate.words, b"", 0)
        gate.wait_for()
        buffers = [array.array("B", data()) for _ in range(10)]
        alive = [weakref.ref(buffer) for buffer in buffers]
        futures = [pool.submit(sum_behind, gate.words, buffer, SIZE) for buffer in buffers]
        del buffers
        gc.collect()
        assert all(reference() is not None for reference in alive)
        assert all(future.cancel() for future in futures)
        del futures
        wait_until(lambda: not any(reference() for reference in alive))
        gate.open_after_overwriting()


def test_buffer_is_let_go_when_the_job_has_ended(sum_behind: wp.NativeFunction, gate: Gate) -> None:
    """Though the future is kept, and nobody asks for its result."""
    buffer = array.array("B", data())
    alive = weakref.ref(buffer)
    with wp.WorkerPool(1) as pool:
        future = pool.submit(sum_behind, gate.words, buffer, SIZE)
        del buffer
        gate.wait_for()
        assert alive() is not None
        gate.open_after_overwriting()
        wait_until(lambda: alive() is None)
        assert future.result(LONG) == EXPECTED


# ---- Functions ----


def is_loaded(path: str) -> bool:
    return path in Path("/proc/self/maps").read_text()


NEEDS_MAPS = pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="there is no /proc/self/maps")


@pytest.fixture
def own_library(helpers_path: str, tmp_path: Path) -> str:
    """A copy of the helpers that nobody else has loaded."""
    return str(shutil.copy(helpers_path, tmp_path / "own.so"))


@NEEDS_MAPS
def test_library_that_cffi_closes_stays_loaded(cffi: Any, own_library: str, helpers_path: str, gate: Gate) -> None:
    ffi = cffi.FFI()
    ffi.cdef("uint64_t sum_behind(int64_t *, const unsigned char *, size_t);")
    library = ffi.dlopen(own_library)
    function = wp.native(library.sum_behind, BUFFER_SIGNATURE)
    with wp.WorkerPool(1) as pool:
        future = pool.submit(function, gate.words, data(), SIZE)
        gate.wait_for()
        ffi.dlclose(library)
        del ffi, library, function
        gate.open_after_overwriting()
        assert future.result(LONG) == EXPECTED
        assert is_loaded(own_library)


@NEEDS_MAPS
def test_cffi_closes_a_library_that_no_native_function_is_of(cffi: Any, own_library: str) -> None:
    """What the test above rests on."""
    ffi = cffi.FFI()
    ffi.cdef("int id_int(int);")
    library = ffi.dlopen(own_library)
    assert library.id_int(3) == 3
    assert is_loaded(own_library)
    ffi.dlclose(library)
    assert not is_loaded(own_library)


@NEEDS_MAPS
def test_library_around_an_address_stays_loaded(cffi: Any, own_library: str, gate: Gate) -> None:
    ffi = cffi.FFI()
    ffi.cdef("uint64_t sum_behind(int64_t *, const unsigned char *, size_t);")
    library = ffi.dlopen(own_library)
    function = wp.native(int(ffi.cast("uintptr_t", library.sum_behind)), BUFFER_SIGNATURE)
    ffi.dlclose(library)
    del ffi, library
    gate.open_after_overwriting()
    assert function(gate.words, data(), SIZE) == EXPECTED


def test_target_lives_as_long_as_a_job(numba: Any, sum_behind: wp.NativeFunction, gate: Gate) -> None:
    """A cfunc that nothing else refers to."""
    cfunc = numba.cfunc("float64(float64)")(lambda x: 2 * x)
    alive = weakref.ref(cfunc)
    with wp.WorkerPool(1) as pool:
        pool.submit(sum_behind, gate.words, b"", 0)
        gate.wait_for()
        future = pool.submit(wp.native(cfunc), 21.0)
        del cfunc
        gc.collect()
        assert alive() is not None
        gate.open_after_overwriting()
        assert future.result(LONG) == 42.0
        del future
    wait_until(lambda: gc.collect() >= 0 and alive() is None)


@pytest.mark.parametrize("kind", ["ctypes", "capsule"])
def test_user_data_lives_as_long_as_a_job(
    helpers: Helpers, low_level_callable: Any, new_capsule: Any, gate: Gate, kind: str
) -> None:
    class Pair(ctypes.Structure):
        _fields_ = [("data", ctypes.c_char_p), ("size", ctypes.c_size_t)]

    pair = ctypes.pointer(Pair(data(), SIZE))
    alive = weakref.ref(pair)
    pointer = ctypes.cast(pair, ctypes.c_void_p)
    pointer.owner = pair  # type: ignore[attr-defined]
    function = ctypes.CDLL(helpers.path).sum_user_data_behind
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    function.restype = ctypes.c_uint64
    if kind == "capsule":
        address = wp.native(function).address
        function = new_capsule(address, "uint64_t (int64_t *, void *)")
    native = wp.native(low_level_callable(function, pointer))
    with wp.WorkerPool(1) as pool:
        future = pool.submit(native, gate.words)
        del pair, pointer, function, native
        gate.wait_for()
        assert alive() is not None
        gate.open_after_overwriting()
        assert future.result(LONG) == EXPECTED


# ---- AddressSanitizer itself ----


@pytest.mark.skipif(not UNDER_ASAN, reason="not under AddressSanitizer")
def test_a_read_of_freed_memory_is_seen(run_scenario: RunScenario, helpers_path: str) -> None:
    """The net that all other tests of this file are caught by."""
    code = f"""
    import ctypes, workerpool as wp
    from workerpool import _core
    assert "/asan/" in _core.__file__, _core.__file__
    sum_bytes = wp.native({helpers_path!r} + ":sum_bytes", "uint64_t (const unsigned char *, size_t)")
    data = (ctypes.c_uint8 * {SIZE})()
    address = ctypes.addressof(data)
    with wp.WorkerPool(1) as pool:
        assert pool.submit(sum_bytes, address, {SIZE}).result() == 0
        print("before", flush=True)
        del data
        pool.submit(sum_bytes, address, {SIZE}).result()
    """
    to_stderr = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":log_path=stderr"}
    done = run_scenario(code, timeout=60, check=False, options=[], env=to_stderr)
    assert done.returncode != 0
    assert done.stdout == "before\n"
    assert "AddressSanitizer: heap-use-after-free" in done.stderr


def test_which_extension_is_tested() -> None:
    """`make asan-test` must not test the one that was built without the sanitizer."""
    assert (Path(wp._core.__file__).parent.parent.parent.name == "asan") == UNDER_ASAN
    assert importlib.util.find_spec("workerpool") is not None
    assert sys.modules["workerpool"] is wp
