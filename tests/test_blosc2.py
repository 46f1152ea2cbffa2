"""c-blosc2 on the threads of a pool: the same compressed bytes as with its own threads, and no thread of its own.

c-blosc2 writes the blocks of a chunk in the order in which they are ready, so two runs of its own threads differ too.
Put into the order of the blocks, a chunk is the same whoever compressed it, byte for byte.
"""

from __future__ import annotations

import ctypes.util
from importlib.util import find_spec
from pathlib import Path

import pytest

from conftest import RunScenario

# Each scenario begins with this: `blosc` is the library, the functions are Python's view of it.
SETUP = """
import array, ctypes, os, random, struct, sys, threading
import workerpool as wp

blosc = ctypes.CDLL(LIBRARY)
voidp, int32 = ctypes.c_void_p, ctypes.c_int32
blosc.blosc2_set_threads_callback.argtypes = [voidp, voidp]
blosc.blosc2_set_threads_callback.restype = None
blosc.blosc2_compress.argtypes = [ctypes.c_int, ctypes.c_int, int32, voidp, int32, voidp, int32]
blosc.blosc2_decompress.argtypes = [voidp, int32, voidp, int32]
HEADER = 32


def start(threads, callback=None):
    '''Begins anew: the callback must be set before anything else.'''
    blosc.blosc2_destroy()
    blosc.blosc2_set_threads_callback(*((callback.address, callback.data) if callback else (None, None)))
    blosc.blosc2_init()
    blosc.blosc2_set_nthreads(threads)


def compress(data, level=5, shuffle=1, typesize=8):
    room = ctypes.create_string_buffer(len(data) + 64)
    size = blosc.blosc2_compress(level, shuffle, typesize, bytes(data), len(data), room, len(room))
    assert size > 0, size
    return room.raw[:size]


def decompress(chunk, size):
    room = ctypes.create_string_buffer(size)
    assert blosc.blosc2_decompress(chunk, len(chunk), room, size) == size
    return room.raw


def in_block_order(chunk):
    '''The chunk as one thread writes it: behind the header where each block begins, then the blocks.'''
    size, block_size, chunk_size = struct.unpack_from("<3i", chunk, 4)
    n = -(-size // block_size)
    if chunk[2] & 2 or chunk_size == HEADER:
        return chunk  # Copied as it is, or a chunk of zeros: there is only one way.
    begins = struct.unpack_from(f"<{n}i", chunk, HEADER)
    end_of = dict(zip(sorted(begins), [*sorted(begins)[1:], chunk_size]))
    blocks = [chunk[begin : end_of[begin]] for begin in begins]
    at, moved = HEADER + 4 * n, []
    for block in blocks:
        moved.append(at)
        at += len(block)
    return chunk[:HEADER] + struct.pack(f"<{n}i", *moved) + b"".join(blocks)


def some_data(kind, n):
    numbers = random.Random(n)
    if kind == "noise":
        return numbers.randbytes(n)
    if kind == "zeros":
        return bytes(n)
    return array.array("q", [i * i % 1000003 + numbers.randrange(3) for i in range(n // 8)]).tobytes()


start(1)
"""


@pytest.fixture(scope="module")
def library() -> str:
    """Where PyPI's or the system's c-blosc2 lies."""
    package = find_spec("blosc2")
    if package is not None and package.origin is not None:
        for path in Path(package.origin).parent.glob("lib*/libblosc2.*"):
            if path.suffix in {".so", ".dylib"}:
                return str(path)
    found = ctypes.util.find_library("blosc2")
    if found is None:
        pytest.skip("there is no c-blosc2")
    return found


@pytest.fixture
def run_blosc(run_scenario: RunScenario, library: str) -> RunScenario:
    def run(code: str, **options: object) -> object:
        return run_scenario(f"LIBRARY = {library!r}\n{SETUP}\n{code}", **options)

    return run


@pytest.mark.parametrize("kind", ["numbers", "noise", "zeros"])
def test_same_bytes(run_blosc: RunScenario, kind: str) -> None:
    code = f"""
for n in (64, 100_000, 3_000_000):
    data = some_data({kind!r}, n)
    for level, shuffle, typesize in ((1, 0, 1), (5, 1, 8), (9, 2, 8)):
        start(1)
        serial = compress(data, level, shuffle, typesize)
        for threads in (2, 4):
            start(threads)
            own = compress(data, level, shuffle, typesize)
            with wp.WorkerPool(2) as pool:
                callback = wp.ThreadsCallback(pool)
                start(threads, callback)
                ours = compress(data, level, shuffle, typesize)
                assert decompress(ours, len(data)) == decompress(own, len(data)) == data
                start(1)
            assert in_block_order(ours) == in_block_order(own) == in_block_order(serial) == serial
"""
    run_blosc(code, timeout=50)


def test_blocks_that_need_the_first(run_blosc: RunScenario) -> None:
    """With the delta filter each block waits for the first, on whichever thread that is."""
    code = """
data = some_data("numbers", 2_000_000)
for workers in (1, 2, 3):
    with wp.WorkerPool(workers, queue_size=1) as pool:
        callback = wp.ThreadsCallback(pool)
        start(4, callback)
        blosc.blosc2_set_delta(1)
        for _ in range(10):
            assert decompress(compress(data), len(data)) == data
        blosc.blosc2_set_delta(0)
        start(1)
"""
    run_blosc(code, timeout=40)


def test_no_threads_but_the_pools(run_blosc: RunScenario) -> None:
    code = """
if not os.path.isdir("/proc/self/task"):
    sys.exit()
data = some_data("numbers", 8_000_000)
with wp.WorkerPool(2) as pool:
    start(8, wp_callback := wp.ThreadsCallback(pool))
    for _ in range(20):
        chunk = compress(data)
        threads = {open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")}
    print(sorted(threads), len(os.listdir("/proc/self/task")))
    assert len(os.listdir("/proc/self/task")) <= 3, "this thread and two workers"
    assert pool.stats().busy_time > 0, "and they worked"
    start(1)
"""
    run_blosc(code, timeout=40)


def test_calls_from_workers_and_threads(run_blosc: RunScenario) -> None:
    """Jobs of the pool compress with the pool's threads, and so do other threads. One worker is enough."""
    code = """
data = some_data("numbers", 500_000)
for workers in (1, 2):
    with wp.WorkerPool(workers, queue_size=2) as pool:
        callback = wp.ThreadsCallback(pool.lane("high"))
        start(3, callback)
        expected = in_block_order(compress(data))
        chunks = list(pool.map(compress, [data] * 20))
        futures = [pool.submit(compress, data) for _ in range(10)]
        threads = [threading.Thread(target=lambda: chunks.append(compress(data))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        chunks += [future.result() for future in futures]
        assert len(chunks) == 33
        assert all(in_block_order(chunk) == expected for chunk in chunks)
        start(1)
"""
    run_blosc(code, timeout=50)


def test_a_pool_that_was_shut_down(run_blosc: RunScenario) -> None:
    code = """
data = some_data("numbers", 1_000_000)
serial = compress(data)
pool = wp.WorkerPool(2)
callback = wp.ThreadsCallback(pool)
start(4, callback)
pool.shutdown()
assert in_block_order(compress(data)) == serial
del pool
assert in_block_order(compress(data)) == serial
assert decompress(serial, len(data)) == data
start(1)
"""
    run_blosc(code)


def test_what_is_no_pool() -> None:
    import workerpool as wp

    for wrong in [None, 5, object()]:
        with pytest.raises(TypeError, match="a WorkerPool or a view of one is needed"):
            wp.ThreadsCallback(wrong)  # type: ignore[arg-type]
    with wp.WorkerPool(1) as pool:
        first, second = wp.ThreadsCallback(pool), wp.ThreadsCallback(pool.lane("high"))
        assert first.address == second.address
        assert first.data != second.data
