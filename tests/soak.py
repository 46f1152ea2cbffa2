"""Everything at once for a while: python soak.py SECONDS LIBRARY [SEED]. LIBRARY is tests/native/helpers.c, compiled.

Threads submit native and Python jobs to all lanes of one pool, map, read results, cancel, set time limits, resize and
look on; small pools come and go, and so do the workers of one that lets them retire at once; where there is a fork,
children are made and use the pool. Meanwhile memory, mappings, threads and file descriptors are counted. At the end
every job has ended once, the sums add up, and nothing has grown.

The seed repeats the choices, not the schedule. It is printed with the rest at the end.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workerpool as wp

LANES = ("high", "normal", "low")
# Of maps and results queues; "discard_oldest" elsewhere would discard their jobs as well.
OWN_LANE = "bulk"
OUTCOMES = ("done", "failed", "cancelled", "expired", "timed_out")
# Seconds after the end of the soak in which everything has to come to rest, before the stacks are shown.
PATIENCE = 60
# What memory may grow by, in bytes, from the first sample after the warm-up to the last. A leak of one byte a job would
# be more.
GROWTH = 12 << 20
# And the mappings of memory, of which a thread that has ended and was not joined keeps two.
MORE_MAPPINGS = 60
FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


@dataclass
class Sizes:
    """What must not grow."""

    memory: int
    mappings: int
    threads: int
    descriptors: int


def sizes() -> Sizes:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sizes(
        pages * os.sysconf("SC_PAGE_SIZE"),
        Path("/proc/self/maps").read_text().count("\n"),
        len(os.listdir("/proc/self/task")),
        len(os.listdir("/proc/self/fd")),
    )


def fail(number: int) -> None:
    raise ValueError(number)


def look_often(seconds: float) -> None:
    """A Python job that stops when it is asked to."""
    job = wp.current_job()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if job is not None:
            job.raise_if_cancelled()
        time.sleep(0.0005)


class Soak:
    def __init__(self, seconds: float, library: str, seed: int) -> None:
        self.seed = seed
        self.before = sizes()
        self.end = time.monotonic() + seconds
        self.identity = wp.native(f"{library}:id_long", "long (long)")
        self.spin = wp.native(f"{library}:spin_ns", "int64_t (int64_t)")
        self.nap = wp.native(f"{library}:sleep_ns", "int64_t (int64_t)")
        self.fill = wp.native(f"{library}:fill_bytes", "void (unsigned char *, int, size_t)")
        self.pool = wp.WorkerPool(4, queue_size=200, lanes=(*LANES, OWN_LANE), idle_timeout=0.05)
        self.restless = wp.WorkerPool(2, idle_timeout=0.0)
        self.submitted = 0  # Futures, results and units of maps; guarded by `lock`, as `ends` is.
        self.ends: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.problems: list[BaseException] = []
        self.children = 0
        self.pools = 0

    def add(self, outcomes: Counter[str]) -> None:
        with self.lock:
            self.submitted += outcomes.total()
            self.ends += outcomes

    # ---- Jobs with futures ----

    def call(self, rng: random.Random) -> tuple[Any, ...]:
        return rng.choice(
            [
                (self.identity, rng.randrange(1000)),
                (self.spin, rng.randrange(20_000)),
                (self.nap, rng.randrange(100_000)),
                (self.fill, bytearray(4096), 1, 4096),
                (int, 5),
                (bytes, 2000),
                (fail, 3),
                (look_often, rng.random() * 0.004),
            ]
        )

    def view(self, rng: random.Random, token: wp.CancelToken) -> Any:
        return self.pool.options(
            lane=rng.choice(LANES),
            token=rng.choice([token, token, wp.CancelToken(timeout=rng.random() * 0.05)]),
            queue_timeout=rng.choice([None, None, 0.001, 0.05]),
            run_timeout=rng.choice([None, None, 0.001]),
            submit_timeout=rng.choice([None, 0.001]),
            on_full=rng.choice(["block", "block", "raise", "discard", "discard_oldest", "caller_runs"]),
        )

    def submit_some(self, rng: random.Random) -> None:
        token = wp.CancelToken()
        futures = []
        for _ in range(rng.randrange(1, 60)):
            with contextlib.suppress(wp.QueueFull, CancelledError):
                futures.append(self.view(rng, token).submit(*self.call(rng)))
        for future in rng.sample(futures, len(futures) // 6):
            future.request_cancel() if rng.random() < 0.5 else future.cancel()
        if rng.random() < 0.1:
            token.cancel()
        self.add(Counter(self.outcome(future) for future in futures))

    @staticmethod
    def outcome(future: wp.Future[Any]) -> str:
        try:
            error = future.exception(PATIENCE)
        except CancelledError:
            return "cancelled"
        kinds = {type(None): "done", ValueError: "failed", wp.JobExpired: "expired", wp.JobTimeout: "timed_out"}
        return kinds[type(error)]

    # ---- Jobs without ----

    def map_some(self, rng: random.Random) -> None:
        n = rng.randrange(2000)
        native = rng.random() < 0.5
        results = self.pool.lane(OWN_LANE).map(
            self.identity if native else int, range(n), in_order=rng.random() < 0.5, buffersize=rng.choice([None, 10])
        )
        assert sum(results) == n * (n - 1) // 2
        self.add(Counter(done=n))

    def read_results(self, rng: random.Random) -> None:
        n = rng.randrange(100)
        with self.pool.lane(OWN_LANE).results(maxsize=20) as results:
            writer = threading.Thread(target=self.write_results, args=(results, n))
            writer.start()
            read = list(results)
            writer.join()
        assert sorted(r.index for r in read) == list(range(n))
        assert all(r.ok for r in read)
        self.add(Counter(done=n))

    def write_results(self, results: wp.Results, n: int) -> None:
        for i in range(n):
            results.submit(self.identity, i)
        results.close()

    # ---- The pool, and others ----

    def resize(self, rng: random.Random) -> None:
        self.pool.resize(rng.randrange(1, 7))
        time.sleep(0.02)

    def look_on(self, rng: random.Random) -> None:
        stats = self.pool.stats()
        assert 0 <= stats.busy <= stats.workers
        assert all(0 <= lane.waiting <= lane.submitted for lane in stats.lanes.values())
        time.sleep(rng.random() * 0.02)

    def make_a_pool(self, rng: random.Random) -> None:
        pool = wp.WorkerPool(rng.randrange(1, 4))
        for _ in range(rng.randrange(4)):
            pool.submit(*self.call(rng))
        if rng.random() < 0.5:
            pool.shutdown(wait=rng.random() < 0.5, cancel_futures=rng.random() < 0.5)
        self.pools += 1

    def let_workers_retire(self, rng: random.Random) -> None:
        assert self.restless.submit(int, 3).result(PATIENCE) == 3
        assert self.restless.submit(self.identity, 4).result(PATIENCE) == 4
        time.sleep(rng.random() * 0.002)

    def fork(self, rng: random.Random) -> None:
        """The child's pool is empty and works. Python cannot fork beside threads without a GIL, see test_fork.py."""
        time.sleep(0.1 + rng.random() * 0.1)
        if FREE_THREADED:
            return
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                signal.alarm(PATIENCE)  # Not the fault handler, whose own thread did not come along.
                good = self.pool.submit(int, 7).result(PATIENCE) == 7
                status = 0 if good and sum(self.pool.map(self.identity, range(100))) == 4950 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        self.children += 1

    # ---- The whole ----

    def repeat(self, act: Any, seed: int) -> None:
        rng = random.Random(seed)
        try:
            while time.monotonic() < self.end and not self.problems:
                act(rng)
        except BaseException as error:
            if not self.problems:
                print(f"seed {self.seed}: {act.__name__}: {error!r}", self.pool.stats(), sep="\n", file=sys.stderr)
                faulthandler.dump_traceback()
            self.problems.append(error)

    def run(self) -> None:
        warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
        acts = [self.submit_some] * 3 + [self.map_some, self.read_results, self.resize, self.look_on]
        acts += [self.make_a_pool, self.let_workers_retire, self.fork]
        threads = [threading.Thread(target=self.repeat, args=(a, self.seed + i)) for i, a in enumerate(acts)]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep((self.end - begin) / 4)  # By then everything has been as large as it gets.
        middle = sizes()
        for thread in threads:
            thread.join()
        if self.problems:
            raise self.problems[0]
        assert self.pool.drain(PATIENCE)
        self.pool.shutdown(timeout=PATIENCE)
        self.restless.shutdown(timeout=PATIENCE)
        self.check(middle)

    def check(self, middle: Sizes) -> None:
        lanes = self.pool.stats().lanes.values()
        counted = Counter({name: sum(getattr(lane, name) for lane in lanes) for name in OUTCOMES})
        assert sum(lane.submitted for lane in lanes) == counted.total()
        assert not any(lane.waiting or lane.lost for lane in lanes)
        # The pool does not count a job that was discarded or that the caller ran.
        assert all(counted[name] <= self.ends[name] for name in OUTCOMES), (counted, self.ends)
        deadline = time.monotonic() + PATIENCE
        while (last := sizes()).threads > self.before.threads and time.monotonic() < deadline:
            time.sleep(0.05)
        print(f"seed {self.seed}: {self.submitted} jobs, {self.pools} pools, {self.children} children")
        print(f"ends {dict(self.ends)}; memory {middle.memory >> 10} -> {last.memory >> 10} KiB")
        print(f"threads {middle.threads} -> {last.threads}, descriptors {middle.descriptors} -> {last.descriptors}")
        assert last.threads == self.before.threads
        print(f"mappings {middle.mappings} -> {last.mappings}")
        assert last.mappings - middle.mappings < MORE_MAPPINGS
        assert last.descriptors <= middle.descriptors
        assert last.memory - middle.memory < GROWTH


def main(seconds: float, library: str, seed: int) -> None:
    faulthandler.dump_traceback_later(seconds + 2 * PATIENCE, exit=True)
    Soak(seconds, library, seed).run()
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(2**32))
