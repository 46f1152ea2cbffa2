"""Go pattern: a library that takes a `go func` from its caller. Here c-blosc2 compresses on the threads of a pool.

See: the same data compressed by one thread, by threads of c-blosc2's own and by the pool's; the chunks have the same
size and decompress to the same bytes. Needs c-blosc2: `pip install blosc2`, which ships the library.
"""

import ctypes.util
import time
from importlib.util import find_spec
from pathlib import Path

import workerpool as wp

package = find_spec("blosc2")
paths = list(Path(package.origin).parent.glob("lib*/libblosc2.*")) if package else []
blosc = ctypes.CDLL(str(paths[0]) if paths else ctypes.util.find_library("blosc2"))
blosc.blosc2_set_threads_callback.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
DATA = b"".join((number * number % 1000003).to_bytes(8, "little") for number in range(1_000_000))


def compress(threads: int, callback: wp.ThreadsCallback | None = None) -> tuple[int, bool, float]:
    blosc.blosc2_destroy()
    blosc.blosc2_set_threads_callback(*((callback.address, callback.data) if callback else (None, None)))
    blosc.blosc2_init()
    blosc.blosc2_set_nthreads(threads)
    chunk, again = ctypes.create_string_buffer(len(DATA) + 64), ctypes.create_string_buffer(len(DATA))
    begin = time.perf_counter()
    size = blosc.blosc2_compress(9, 1, 8, DATA, len(DATA), chunk, len(chunk))
    seconds = time.perf_counter() - begin
    blosc.blosc2_decompress(chunk, size, again, len(DATA))
    return size, again.raw == DATA, seconds


def main() -> None:
    with wp.WorkerPool(2) as pool:
        callback = wp.ThreadsCallback(pool)  # To be kept as long as the library may call it.
        for name, found in [("one", compress(1)), ("its own", compress(3)), ("the pool's", compress(3, callback))]:
            print(f"{name}: {found[0]} of {len(DATA)} bytes, the same again: {found[1]}, {found[2] * 1000:.0f} ms")
        compress(1)  # Without the pool again.


if __name__ == "__main__":
    main()
