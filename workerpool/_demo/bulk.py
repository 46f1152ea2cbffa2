"""The bulk of the demo: all files through one pool, with urgent jobs in the middle; and a batch that is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from time import perf_counter
from typing import Any

from .. import CancelToken, NativeFunction, Results, WorkerPool
from .checksums import Sums, sha256
from .files import Content, Folder, Part, read

# Urgent jobs come with the batches of this part of the way, and there are so many with each.
MIDDLE = (0.25, 0.75)
URGENT_JOBS = 8

CANCELLED_JOBS = 1000
CANCELLED_JOB_BYTES = 1024 * 1024
# The batch is cancelled when so many of its jobs have ended.
CANCELLED_AFTER = 5


@dataclass
class _Submitted:
    """A batch whose jobs are under way: first those of the blocks, then those of the parts."""

    contents: list[Content]
    blocks: list[bytes]
    results: Results
    urgent: Results


class Bulk:
    """Checksums a folder with a pool. The next batch is read while the jobs of the one before it are done.

    urgent: how long the urgent jobs waited, in seconds; behind: the jobs of the batches that they came behind.
    """

    def __init__(self, pool: WorkerPool, folder: Folder, sums: Sums, crc32: NativeFunction) -> None:
        self.sums = sums
        self.native_jobs = 0
        self.python_jobs = 0
        self.urgent: list[float] = []
        self.behind: list[float] = []
        self.sample = b""  # One of the longest blocks.
        self._pool = pool
        self._folder = folder
        self._crc32 = crc32

    def run(self, plan: Sequence[Sequence[Part]], advance: Callable[[int], None]) -> None:
        before: _Submitted | None = None
        first, end = (int(len(plan) * part) for part in MIDDLE)
        middle = range(first, max(end, first + 1))
        for number, batch in enumerate(plan):
            contents = read(self._folder, batch)
            self._collect(before)
            before = self._submit(contents, with_urgent=number in middle)
            advance(sum(part.length for part in batch))
        self._collect(before)

    def _submit(self, contents: list[Content], with_urgent: bool) -> _Submitted:
        blocks = list(chain.from_iterable(content.blocks for content in contents))
        results = self._pool.results(maxsize=None)
        for block in blocks:
            results.submit(self._crc32, 0, block, len(block))
        urgent = self._submit_urgent(blocks if with_urgent else [])
        for content, hasher in zip(contents, self.sums.hashers(contents), strict=True):
            results.submit(sha256, hasher, content.blocks)
        results.close()
        return _Submitted(contents, blocks, results, urgent)

    def _submit_urgent(self, blocks: Sequence[bytes]) -> Results:
        """Checksums the last blocks once more, which wait in the other lane behind all the others."""
        urgent = self._pool.lane("high").results(maxsize=None)
        for block in blocks[-URGENT_JOBS:]:
            urgent.submit(self._crc32, 0, block, len(block))
        urgent.close()
        return urgent

    def _collect(self, submitted: _Submitted | None) -> None:
        if submitted is None:
            return
        urgent = list(submitted.urgent)
        number_of_blocks = len(submitted.blocks)
        values: list[Any] = [None] * (number_of_blocks + len(submitted.contents))
        for result in submitted.results:
            values[result.index] = result.unwrap()
            if urgent and result.index < number_of_blocks:
                self.behind.append(result.waited)
        self.urgent += [result.waited for result in urgent]
        self.native_jobs += number_of_blocks + len(urgent)
        self.python_jobs += len(submitted.contents)
        self.sample = max([self.sample, *submitted.blocks[:1]], key=len)
        self.sums.add(submitted.contents, values[:number_of_blocks], values[number_of_blocks:])


@dataclass(frozen=True)
class Cancelled:
    """How a cancelled batch ended. before: jobs that had ended before it was cancelled; seconds: from then on."""

    jobs: int
    before: int
    cancelled: int
    done: int
    seconds: float


def cancel_a_batch(pool: WorkerPool, token: CancelToken, crc32: NativeFunction, sample: bytes) -> Cancelled:
    """Submit many long jobs with a token, cancel it after the first few, and count how they ended."""
    data = (sample or b"\0") * (CANCELLED_JOB_BYTES // max(len(sample), 1) + 1)
    results = pool.options(token=token).results(maxsize=None)
    for _ in range(CANCELLED_JOBS):
        results.submit(crc32, 0, data, CANCELLED_JOB_BYTES)
    results.close()
    before = [results.get() for _ in range(CANCELLED_AFTER)]
    start = perf_counter()
    token.cancel()
    after = list(results)
    seconds = perf_counter() - start
    done = sum(result.ok for result in [*before, *after])
    return Cancelled(CANCELLED_JOBS, len(before), CANCELLED_JOBS - done, done, seconds)
