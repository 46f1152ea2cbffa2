"""Go pattern: cgo, `C.crc32(...)` called from goroutines. Here C runs on the workers without the interpreter.

See: zlib's own crc32 over many chunks with `map`, the CRCs of the chunks put together with crc32_combine, and the same
value as from zlib.crc32() over everything.
"""

import sys
import zlib
from itertools import repeat

import workerpool as wp

LIBRARY = "libz.dylib" if sys.platform == "darwin" else "libz.so.1"
CHUNK = 64 * 1024


def main() -> None:
    crc32 = wp.native(f"{LIBRARY}:crc32", "unsigned long (unsigned long, const void *, unsigned int)")
    combine = wp.native(f"{LIBRARY}:crc32_combine", "unsigned long (unsigned long, unsigned long, long)")
    data = memoryview(bytes(range(256)) * 20_000)
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    lengths = [len(chunk) for chunk in chunks]
    total = 0
    with wp.WorkerPool() as pool:
        for crc, length in zip(pool.map(crc32, repeat(0), chunks, lengths), lengths, strict=True):
            total = combine(total, crc, length)  # A native function can be called directly as well.
    print(f"{len(chunks)} chunks of {len(data)} bytes: crc32 {total:08x}")
    print(f"the same as zlib.crc32(): {total == zlib.crc32(data)}")


if __name__ == "__main__":
    main()
