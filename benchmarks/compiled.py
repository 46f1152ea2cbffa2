"""The cases with compiled peers, and the compiled peers of the cases that Python has by itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from programs import Programs

from workerpool._bench.arrays import FUNCTIONS, make_arrays
from workerpool._bench.bench import Bench, Catalogue
from workerpool._bench.functions import double_function

CORE = "workerpool's core"
GO = "Go, two channels"
OPENMP = "OpenMP loop"


def add_cases(catalogue: Catalogue, programs: Programs) -> None:
    """Add them to the cases of Python."""
    cases = _Compiled(programs)
    catalogue.extend("map-c")(cases.map_c)
    for name in FUNCTIONS:
        catalogue.extend(f"array-{name}")(cases.array(name))
    for bound, factor in ((1000, 2.0), (100, 1.0)):
        catalogue.case(
            f"core-{bound}",
            f"the C core alone: jobs and results bounded at {bound}, one producer, one consumer",
            jobs=1_000_000,
            quick_jobs=50_000,
        )(cases.bounded(bound, factor))
    catalogue.case(
        "core-empty", "the C core alone: empty jobs from one thread, then a wait", jobs=1_000_000, quick_jobs=50_000
    )(cases.empty)
    catalogue.case(
        "core-workers", "the C core alone: empty jobs, more workers than processors", jobs=1_000_000, quick_jobs=50_000
    )(cases.many_workers)
    catalogue.case(
        "core-tail",
        "the C core alone: how long 1 µs jobs wait among a hundredth of 10 ms, in bursts of 64, 8 workers",
        jobs=20_000,
        quick_jobs=2000,
        figure="p99_us",
    )(cases.tail)
    catalogue.case(
        "core-spaced",
        "the C core alone: requests spaced by 0 to 60 µs, beside a pool that sleeps at once",
        jobs=2000,
        quick_jobs=200,
        rounds=9,
        figure="cpu_ns",
    )(cases.spaced)


class _Compiled:
    """The parts of cases that run programs."""

    def __init__(self, programs: Programs) -> None:
        self._add = programs.add
        self._path = programs.path
        self._why_not = programs.why_not

    def map_c(self, bench: Bench) -> None:
        self._add(bench, GO, "go-pools", "channels", bound=1000)
        bench.at_least(1.5, over=GO)

    def array(self, name: str) -> Callable[[Bench], None]:
        """The loop of peers/openmp_loop.c over the same function, called from here."""

        def part(bench: Bench) -> None:
            library = self._path("libopenmp-loop.so")
            bench.at_least(0.95, over=OPENMP)
            if library is None:
                bench.leave_out(OPENMP, self._why_not("libopenmp-loop.so"))
                return
            loop = ctypes.CDLL(str(library)).openmp_loop
            pointer = ctypes.c_void_p
            loop.restype, loop.argtypes = None, [pointer, pointer, pointer, ctypes.c_size_t, ctypes.c_int]
            function = ctypes.cast(double_function(name).plain, pointer)
            values, out = make_arrays(bench)

            def run() -> None:
                addresses = values.buffer_info()[0], out.buffer_info()[0]
                loop(function, *addresses, len(values), bench.workers)

            bench.add(OPENMP, run)

        return part

    def bounded(self, bound: int, factor: float) -> Callable[[Bench], None]:
        def part(bench: Bench) -> None:
            self._add(bench, CORE, "core", "channels", bound=bound)
            batched = f"{CORE}, 16 at a time"
            self._add(bench, batched, "core", "channels-16", bound=bound)
            # Go's two channels together hold twice as many.
            self._add(bench, f"{CORE}, {2 * bound} results", "core", "channels-2", bound=bound)
            self._add(bench, GO, "go-pools", "channels", bound=bound)
            self._add(bench, "Go, ants", "go-pools", "ants", bound=bound)
            self._add(bench, "Go, pond", "go-pools", "pond", bound=bound)
            self._add(bench, "Rust, crossbeam channels", "rust-pools", "channels", bound=bound)
            bench.at_least(factor, of=CORE, over=GO)
            bench.at_least(factor, of=batched, over=GO)

        return part

    def empty(self, bench: Bench) -> None:
        self._add(bench, CORE, "core", "empty")
        self._add(bench, f"{CORE}, 1024 may wait", "core", "empty", bound=1024)
        for name, program in PEERS_OF_EMPTY_JOBS:
            threads = {"UV_THREADPOOL_SIZE": str(bench.workers), "OMP_NUM_THREADS": str(bench.workers)}
            self._add(bench, name, program, "empty", environment=threads)
            bench.at_least(1, of=CORE, over=name)
        self._add(bench, "mutex and condition variable", "condvar", "empty")
        self._add(bench, "Rust, rayon scope", "rust-pools", "rayon")
        self._add(bench, "Rust, crossbeam channel, 1024 may wait", "rust-pools", "empty", bound=1024)
        self._add(bench, "Go, one channel, 1024 may wait", "go-pools", "empty", bound=1024)

    def many_workers(self, bench: Bench) -> None:
        for bound, note in ((0, ""), (1024, ", 1024 may wait")):
            bench.new_group()
            few = f"{CORE}, 2 workers{note}"
            self._add(bench, few, "core", "empty", workers=2, bound=bound)
            for workers in (16, 64):
                many = f"{CORE}, {workers} workers{note}"
                self._add(bench, many, "core", "empty", workers=workers, bound=bound)
                bench.at_least(0.8, of=many, over=few)
                bench.at_most(60, of=many, figure="cpu_ns")

    def tail(self, bench: Bench) -> None:
        self._add(bench, CORE, "core", "tail", workers=8, bound=64)
        self._add(bench, f"{CORE}, batches of one", "core", "tail-1", workers=8, bound=64)
        bench.at_least(1, of=CORE, over=f"{CORE}, batches of one", figure="p99_us")

    def spaced(self, bench: Bench) -> None:
        """As futures are waited for, and by a worker: there the claim is for one processor, see README.md."""
        for us in (0, 5, 10, 20, 30, 45, 60):
            for where in ("", ", one processor"):
                bench.new_group()
                ours, asleep = f"{CORE}{where} ({us} µs)", f"mutex and condition variable{where} ({us} µs)"
                by_worker = f"{CORE}, by a worker{where} ({us} µs)"
                pause, pinned = us * 1000, bool(where)
                if not pinned:
                    self._add(bench, ours, "core", "spaced", bound=pause)
                self._add(bench, by_worker, "core", "spaced-worker", bound=pause, pinned=pinned)
                self._add(bench, asleep, "condvar", "spaced", bound=pause, pinned=pinned)
                bench.at_least(1 / 1.05, of=by_worker if pinned else ours, over=asleep, figure="cpu_ns")


PEERS_OF_EMPTY_JOBS = (
    ("oneTBB task_group", "tbb"),
    ("OpenMP tasks", "openmp"),
    ("libuv uv_queue_work", "uv"),
    ("GLib GThreadPool", "glib"),
)
