"""Toolchain: cffi. SHA-256 of a folder's files by OpenSSL's libcrypto, called through a cffi function pointer.

See: the digests are those of hashlib. cffi does not keep `const`, so the signature says it once more; only then are
read-only buffers such as bytes taken. Give a folder, or the standard library's own files are hashed.
"""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from pathlib import Path
from timeit import repeat as timed

import workerpool as wp

try:
    import cffi
except ImportError:
    print("skipped: cffi is not installed")
    sys.exit()
if (library := find_library("crypto")) is None:
    print("skipped: libcrypto is not installed")
    sys.exit()

ffi = cffi.FFI()
ffi.cdef("unsigned char *SHA256(const unsigned char *data, size_t size, unsigned char *digest);")
lib = ffi.dlopen(library)
sha256 = wp.native(lib.SHA256, "void *(const unsigned char *, size_t, unsigned char *)", raises="null")

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(hashlib.__file__).parent)
files = [path.read_bytes() for path in sorted(folder.rglob("*.py"))[:1000]]
sizes = list(map(len, files))
ours, theirs = ([bytearray(32) for _ in files] for _ in range(2))

with wp.WorkerPool() as pool, ThreadPoolExecutor() as executor:
    our_time = 1000 * min(timed(lambda: list(pool.map(sha256, files, sizes, ours)), number=1))
    buffers = list(map(ffi.from_buffer, theirs))
    their_time = 1000 * min(timed(lambda: list(executor.map(lib.SHA256, files, sizes, buffers)), number=1))
right = [hashlib.sha256(data).digest() for data in files] == ours == theirs
print(f"{len(files)} files of {sum(sizes)} bytes; the same as hashlib: {right}")
print(f"workerpool {our_time:.1f} ms, ThreadPoolExecutor {their_time:.1f} ms")
