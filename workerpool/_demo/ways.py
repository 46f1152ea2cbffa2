"""The same work done three ways, and how long each takes for it.

All three read the same parts of files, and call the same C function with the same arguments and the same Python
function. They take turns, batch by batch, and another one is first each time, so that whatever else the machine does
hits all of them alike.
"""

from __future__ import annotations

import concurrent.futures
import zlib as python_zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from time import perf_counter
from typing import Any

from .. import WorkerPool
from .checksums import Sums, Zlib, sha256
from .files import Content, Folder, Part, read

# Calls a function with one item of each column, for all of them, and returns what it returned.
Map = Callable[..., Iterable[Any]]


@dataclass
class Timing:
    """How much of one kind of work was done, and how long it took."""

    jobs: int = 0
    seconds: float = 0.0

    def add(self, jobs: int, seconds: float) -> None:
        self.jobs += jobs
        self.seconds += seconds

    @property
    def per_job(self) -> float:
        return self.seconds / self.jobs if self.jobs else 0.0


@dataclass
class Way:
    """One way to do the work. The function crc32 is the C function in the form that this way takes."""

    name: str
    map: Map
    crc32: Any
    sums: Sums
    reading: Timing = field(default_factory=Timing)
    native: Timing = field(default_factory=Timing)
    python: Timing = field(default_factory=Timing)

    def do(self, folder: Folder, batch: Sequence[Part]) -> list[Content]:
        """Read a batch, checksum its blocks and hash its parts: three stages, one after the other, each timed."""
        start = perf_counter()
        contents = read(folder, batch)
        self.reading.add(len(contents), perf_counter() - start)

        blocks = list(chain.from_iterable(content.blocks for content in contents))
        lengths = list(map(len, blocks))
        start = perf_counter()
        crcs = list(self.map(self.crc32, repeat(0, len(blocks)), blocks, lengths))
        self.native.add(len(crcs), perf_counter() - start)

        hashers = self.sums.hashers(contents)
        blocks_of_parts = [content.blocks for content in contents]
        start = perf_counter()
        digests = list(self.map(sha256, hashers, blocks_of_parts))
        self.python.add(len(digests), perf_counter() - start)

        self.sums.add(contents, crcs, digests)
        return contents


def plain_loop(function: Callable[..., Any], *columns: Iterable[Any]) -> list[Any]:
    return [function(*row) for row in zip(*columns, strict=True)]


def three_ways(zlib: Zlib, executor: concurrent.futures.ThreadPoolExecutor, pool: WorkerPool) -> list[Way]:
    return [
        Way("plain loop", plain_loop, zlib.crc32, Sums(zlib)),
        Way("ThreadPoolExecutor", executor.map, zlib.crc32, Sums(zlib)),
        Way("workerpool", pool.map, zlib.native_crc32, Sums(zlib)),
    ]


def compare(
    ways: Sequence[Way], folder: Folder, plan: Sequence[Sequence[Part]], advance: Callable[[int], None]
) -> dict[int, int]:
    """Let each way do each batch. Return what zlib.crc32 of Python's own module says of each file, for the check."""
    expected: dict[int, int] = {}
    for number, batch in enumerate(plan):
        first = number % len(ways)
        contents: list[Content] = []
        for way in [*ways[first:], *ways[:first]]:
            contents = way.do(folder, batch)
        for content in contents:
            for block in content.blocks:
                expected[content.part.file] = python_zlib.crc32(block, expected.get(content.part.file, 0))
        advance(sum(part.length for part in batch))
    return expected


def differences(folder: Folder, expected: dict[int, int], all_sums: Sequence[Sums]) -> tuple[list[str], list[str]]:
    """Return the files whose checksums do not agree: those that did not change, and those that changed meanwhile."""
    wrong: list[str] = []
    changed: list[str] = []
    for number, file in enumerate(folder.files):
        if file.path in folder.unreadable:
            continue
        crcs = {expected.get(number), *(sums.crc32.get(number) for sums in all_sums)}
        digests = {sums.sha256.get(number) for sums in all_sums}
        if len(crcs) > 1 or len(digests) > 1:
            (changed if folder.has_changed(file) else wrong).append(file.path)
    return wrong, changed
