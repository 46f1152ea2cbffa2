"""Toolchain: ctypes. A log is compressed block by block with zlib's compress2, a function with declared argtypes.

See: each job writes to a buffer of its own, and to an integer how much; what is decompressed again is the log. Give a
log file, or one is made with a line for each file of the standard library.
"""

import ctypes
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from timeit import repeat as timed

import workerpool as wp

BLOCK, ROOM = 4096, 4096 + 100

compress = ctypes.CDLL("libz.dylib" if sys.platform == "darwin" else "libz.so.1").compress2
pointer = ctypes.POINTER(ctypes.c_ulong)
compress.argtypes = [ctypes.c_void_p, pointer, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_int]

if len(sys.argv) > 1:
    log = Path(sys.argv[1]).read_bytes()
else:
    files = sorted(Path(ctypes.__file__).parents[1].rglob("*.py"))
    log = b"".join(f"INFO read {path}: {path.stat().st_size} bytes\n".encode() for path in files)
blocks = [log[at : at + BLOCK] for at in range(0, len(log), BLOCK)]


def compressed(executor, function):
    outputs = [ctypes.create_string_buffer(ROOM) for _ in blocks]
    sizes = [ctypes.c_ulong(ROOM) for _ in blocks]
    list(executor.map(function, outputs, sizes, blocks, map(len, blocks), repeat(1)))
    return [output[: size.value] for output, size in zip(outputs, sizes, strict=True)]


with wp.WorkerPool() as pool, ThreadPoolExecutor() as executor:
    native = wp.native(compress, raises="nonzero")
    ours, theirs = compressed(pool, native), compressed(executor, compress)
    print(f"{len(log)} bytes to {sum(map(len, ours))} in {len(blocks)} blocks")
    print(f"the same log again: {b''.join(map(zlib.decompress, ours)) == log and ours == theirs}")
    our_time = 1000 * min(timed(lambda: compressed(pool, native), number=1))
    their_time = 1000 * min(timed(lambda: compressed(executor, compress), number=1))
    print(f"workerpool {our_time:.1f} ms, ThreadPoolExecutor {their_time:.1f} ms")
