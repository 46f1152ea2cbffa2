"""What the demo calculates: zlib's own C functions, and one Python function for hashlib."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from .. import NativeFunction, native
from .files import Content

LIBRARY = "libz.dylib" if sys.platform == "darwin" else "libz.so.1"


class DemoError(Exception):
    """The demo cannot run; the message is one line for its user."""


class Zlib:
    """crc32 of zlib twice, as a ctypes function and as a NativeFunction of the same address; and its version."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(LIBRARY)
        except OSError:
            raise DemoError(f"{LIBRARY} was not found; on Debian and Ubuntu: apt install zlib1g") from None
        self.crc32: Any = library.crc32
        self.crc32.restype = ctypes.c_ulong
        self.crc32.argtypes = [ctypes.c_ulong, ctypes.c_char_p, ctypes.c_uint]
        self.native_crc32: NativeFunction = native(
            library.crc32, "unsigned long (unsigned long, const void *, unsigned int)"
        )
        self._combine: NativeFunction = native(
            library.crc32_combine, "unsigned long (unsigned long, unsigned long, long)"
        )
        library.zlibVersion.restype = ctypes.c_char_p
        self.version: str = library.zlibVersion().decode()

    def combine(self, crc: int, blocks: Sequence[bytes], crcs: Sequence[int]) -> int:
        """Return the CRC of what crc stands for with the blocks after it; crcs are those of the blocks alone."""
        for block, crc_of_block in zip(blocks, crcs, strict=True):
            crc = self._combine(crc, crc_of_block, len(block))
        return crc


def sha256(hasher: Any, blocks: Iterable[bytes]) -> bytes:
    """Add a part of a file to the hash of what came before it. This is the demo's Python job."""
    for block in blocks:
        hasher.update(block)
    digest: bytes = hasher.digest()
    return digest


class Sums:
    """The checksums of files, put together from those of their parts as batch after batch is done."""

    def __init__(self, zlib: Zlib) -> None:
        self.crc32: dict[int, int] = {}
        self.sha256: dict[int, bytes] = {}
        self._zlib = zlib
        self._hashers: dict[int, Any] = {}

    def hashers(self, contents: Iterable[Content]) -> list[Any]:
        """Return one hash object for each part, that of the file's earlier parts if there were any."""
        files = [content.part.file for content in contents]
        self._hashers = {file: self._hashers.get(file) or hashlib.sha256() for file in files}
        return list(self._hashers.values())

    def add(self, contents: Iterable[Content], crcs: Iterable[int], digests: Iterable[bytes]) -> None:
        """Take the results of one batch: a CRC for each block and a digest for each part."""
        rest = iter(crcs)
        for content, digest in zip(contents, digests, strict=True):
            file = content.part.file
            of_blocks = [next(rest) for _ in content.blocks]
            self.crc32[file] = self._zlib.combine(self.crc32.get(file, 0), content.blocks, of_blocks)
            self.sha256[file] = digest
