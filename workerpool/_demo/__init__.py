"""`python -m workerpool demo`: the main job on real files, in four acts. See run()."""

from __future__ import annotations

import concurrent.futures
import os
import platform
import statistics
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

from .. import CancelToken, WorkerPool, __version__
from .bulk import Bulk, cancel_a_batch
from .checksums import DemoError, Sums, Zlib
from .files import Folder, batches, list_folder
from .screen import Row, Screen, count, duration, make_screen, printable, size
from .ways import Timing, Way, compare, differences, three_ways

QUEUE_SIZE = 2048  # More than a batch has jobs.
NOT_STANDARD_LIBRARY = frozenset({"site-packages", "dist-packages"})
NAMES_SHOWN = 5
OK, WRONG, CANNOT_RUN = 0, 1, 2


def run(path: str | None, *, workers: int | None = None, plain: bool = False) -> int:
    """Run the demo on a folder, or on the standard library, and return its exit status."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    try:
        zlib = Zlib()
        return _Demo(_open_folder(path), zlib, workers, make_screen(plain)).run()
    except DemoError as error:
        print(f"workerpool demo: {error}", file=sys.stderr)
        return CANNOT_RUN


def _open_folder(path: str | None) -> Folder:
    if path is None:
        folder = list_folder(sysconfig.get_path("stdlib"), leave_out=NOT_STANDARD_LIBRARY)
    elif not os.path.isdir(path):
        what = "is not a folder" if os.path.exists(path) else "does not exist"
        raise DemoError(f"{printable(path)} {what}")
    else:
        folder = list_folder(path)
    if not folder.files:
        why = "; ".join(f"{printable(name)}: {reason}" for name, reason in folder.unreadable.items())
        raise DemoError(f"there are no files to read in {printable(folder.path)}" + (f" ({why})" if why else ""))
    return folder


@contextmanager
def _pool(workers: int | None) -> Iterator[WorkerPool]:
    """A pool that does not finish what waits when something went wrong, such as Ctrl-C."""
    pool = WorkerPool(workers, queue_size=QUEUE_SIZE, thread_name_prefix="demo")
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


class _Demo:
    def __init__(self, folder: Folder, zlib: Zlib, workers: int | None, screen: Screen) -> None:
        self.folder = folder
        self.zlib = zlib
        self.screen = screen
        self.plan = list(batches(folder.files))
        self.workers = workers

    def run(self) -> int:
        with _pool(self.workers) as pool:
            self.introduce(pool)
            bulk = self.read_everything(pool)
            self.show_waits(bulk)
            self.show_cancelling(pool, bulk)
        ways, expected = self.compare_ways()
        self.show_ways(ways)
        self.name_unreadable()
        return self.check(expected, [bulk.sums, *(way.sums for way in ways)])

    def introduce(self, pool: WorkerPool) -> None:
        self.workers = pool.stats().max_workers
        where = f"{platform.python_implementation()} {platform.python_version()}, zlib {self.zlib.version}"
        self.screen.line(f"workerpool {__version__}, {where}, {count(self.workers, 'worker')}")
        self.screen.line(
            f"{printable(self.folder.path)}: {count(len(self.folder.files), 'file')}, {size(self.folder.size)}"
        )

    # ---- The acts ----

    def read_everything(self, pool: WorkerPool) -> Bulk:
        self.screen.title("1. crc32 of each block of 64 KiB (native), sha256 of each file (Python)")
        bulk = Bulk(pool, self.folder, Sums(self.zlib), self.zlib.native_crc32)
        start = perf_counter()
        with self.screen.progress(self.folder.size) as advance:
            bulk.run(self.plan, advance)
        seconds = perf_counter() - start
        if not bulk.python_jobs:
            path, reason = next(iter(self.folder.unreadable.items()))
            raise DemoError(f"none of the files can be read; the first is {printable(path)}: {reason}")
        done = f"{count(bulk.native_jobs)} native and {count(bulk.python_jobs)} Python jobs"
        self.screen.line(f"  {done} in {duration(seconds)}, with reading")
        return bulk

    def show_waits(self, bulk: Bulk) -> None:
        self.screen.title("2. Urgent jobs through the lane 'high', in the middle of that bulk")
        if not bulk.urgent:
            self.screen.line("  none: none of the batches in the middle could be read")
            return
        rows = [
            ("normal", "the bulk they came behind", *_waits(bulk.behind)),
            ("high", "urgent", *_waits(bulk.urgent)),
        ]
        self.screen.table(("lane", "jobs", "number", "median wait", "longest wait"), rows)

    def show_cancelling(self, pool: WorkerPool, bulk: Bulk) -> None:
        self.screen.title("3. A batch that is cancelled by one CancelToken")
        end = cancel_a_batch(pool, CancelToken(), self.zlib.native_crc32, bulk.sample)
        for line in (
            f"{count(end.jobs, 'job')}, each the crc32 of 1 MiB; cancelled after {count(end.before)} had ended:",
            f"{count(end.cancelled)} were cancelled before they began, {count(end.done)} were done;",
            f"the last of them ended {duration(end.seconds)} after cancel()",
        ):
            self.screen.line(f"  {line}")

    def compare_ways(self) -> tuple[list[Way], dict[int, int]]:
        self.screen.title("4. The same work three ways")
        with (
            _pool(self.workers) as pool,
            concurrent.futures.ThreadPoolExecutor(self.workers) as executor,
            self.screen.progress(self.folder.size) as advance,
        ):
            ways = three_ways(self.zlib, executor, pool)
            expected = compare(ways, self.folder, self.plan, advance)
        return ways, expected

    # ---- How it ends ----

    def show_ways(self, ways: Sequence[Way]) -> None:
        stages = [
            ("read", [way.reading for way in ways]),
            ("crc32", [way.native for way in ways]),
            ("sha256", [way.python for way in ways]),
            ("all", [_sum(way) for way in ways]),
        ]
        rows: list[Row] = []
        for stage, timings in stages:
            rows += [(), *_stage_rows(stage, [way.name for way in ways], timings)]
        self.screen.table(("work", "way", "jobs", "total", "per job", "ratio"), rows[1:])
        for line in (
            "Measured: each way reads a batch of at most 8 MiB (jobs: its files), then gives",
            "the blocks and then the files to map(), or loops over them. The C function, the",
            "Python function, the arguments and the number of workers are the same. The ways",
            "take turns batch by batch; act 1 has filled the file cache before.",
            "ratio: total time, divided by that of workerpool.",
        ):
            self.screen.line(f"  {line}")

    def name_unreadable(self) -> None:
        self._name_files("could not be read, and are left out", self.folder.unreadable)

    def check(self, expected: dict[int, int], all_sums: Sequence[Sums]) -> int:
        wrong, changed = differences(self.folder, expected, all_sums)
        self._name_files("changed while they were read, and are not compared", dict.fromkeys(changed, "changed"))
        if wrong:
            self._name_files("HAVE DIFFERENT CHECKSUMS", dict.fromkeys(wrong, "different"))
            return WRONG
        compared = len([file for file in self.folder.files if file.path not in self.folder.unreadable]) - len(changed)
        self.screen.title(f"Check passed: {count(compared, 'file')} with the same crc32 and sha256 in act 1 and all")
        self.screen.line("three ways, and the same crc32 as from zlib.crc32() of Python.")
        return OK

    def _name_files(self, what: str, files: dict[str, str]) -> None:
        if not files:
            return
        self.screen.title(f"{count(len(files), 'file')} {what}:")
        for path, reason in list(files.items())[:NAMES_SHOWN]:
            self.screen.line(f"  {printable(path)}: {reason}")
        if len(files) > NAMES_SHOWN:
            self.screen.line(f"  and {count(len(files) - NAMES_SHOWN)} more")


def _waits(waits: Sequence[float]) -> tuple[str, str, str]:
    return count(len(waits)), duration(statistics.median(waits)), duration(max(waits))


def _sum(way: Way) -> Timing:
    total = Timing()
    for timing in (way.native, way.python):
        total.add(timing.jobs, timing.seconds)
    total.seconds += way.reading.seconds
    return total


def _stage_rows(stage: str, names: Sequence[str], timings: Sequence[Timing]) -> list[Row]:
    """The rows of one stage; the last way is workerpool."""
    own = timings[-1].seconds
    return [
        (
            "" if number else stage,
            name,
            count(timing.jobs),
            duration(timing.seconds),
            duration(timing.per_job),
            f"{timing.seconds / own:.2f} x" if own else "",
        )
        for number, (name, timing) in enumerate(zip(names, timings, strict=True))
    ]
