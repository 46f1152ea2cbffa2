"""Memory, threads and descriptors that cannot be had, limits of the process, clocks that jump, signals without end.

Each call that can fail fails once, in turn: see go_through() in HEAD, and tests/native/faults.c. The same for the core
alone is in csrc/tests/test_faults.c, its clocks in test_clocks.c, its signals in test_interrupts.c.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import RunScenario
from support import Helpers

Run = Callable[..., str]

HEAD = """
import array, asyncio, ctypes, gc, os, signal, sys, threading, time
from concurrent.futures import CancelledError
import workerpool as wp
from workerpool import _core

FAULTS, HELPERS = sys.argv[1:3]
CALLS, PYTHON, WITHIN = 1, 2, 4
# From 3.12 on the interpreter itself does not survive a lack of memory where it makes a generator.
MEMORY = PYTHON if sys.version_info < (3, 12) else WITHIN
faults = ctypes.PyDLL(FAULTS)
faults.faults_arm.argtypes = (ctypes.c_int, ctypes.c_long, ctypes.c_long)
faults.faults_arm.restype = None
faults.faults_hook_python.restype = ctypes.c_bool
faults.faults_disarm.restype = faults.faults_held.restype = ctypes.c_long
faults.faults_watch.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
faults.faults_jump.argtypes = (ctypes.c_long,)

with open("/proc/self/maps") as maps:
    ranges = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(os.path.realpath(_core.__file__))]
faults.faults_watch(int(ranges[0][0], 16), int(ranges[-1][1], 16))

add_to = wp.native(HELPERS + ":add_to", "void (int64_t *, int64_t)")
sum_bytes = wp.native(HELPERS + ":sum_bytes", "uint64_t (const void *, size_t)")
scaled = wp.native(HELPERS + ":add_scaled", "double (double, void *)")

rows = array.array("d", range(64))
pair = array.array("d", [1.0, 2.0])

def check_sums(pool):
    # Every job that was accepted has ended once. For a pool at rest.
    stats = pool.stats()
    assert stats.unfinished == 0, stats
    for lane in stats.lanes.values():
        ended = lane.done + lane.failed + lane.cancelled + lane.expired + lane.timed_out + lane.lost
        assert lane.submitted == ended and lane.lost == 0, lane

def disarm():
    # A fault may hit this very call.
    while True:
        try:
            return faults.faults_disarm()
        except MemoryError:
            pass

def go_through(kind, action, check, allowed, together=1, most=3000):
    '''Calls action() again and again: first the first call of this kind fails (and so many `together`), then the
    second, until it is over before its fault comes. Each time it succeeds or raises one of the allowed exceptions, and
    then check() holds. Returns how many faults there were, and after how many of them it raised.'''
    number = 0
    fired = 1
    errors = 0
    while fired:
        number += 1
        assert number < most, "there is no end of faults"
        error = None
        faults.faults_arm(kind, number, number + together - 1)
        try:
            action()
        except allowed as caught:
            error = caught
        fired = disarm()
        # The interpreter's own way to say that it could not begin a call.
        assert type(error) is not SystemError or str(error) == "error return without exception set", repr(error)
        try:
            assert fired or error is None, f"raised without a fault: {error!r}"
            check()
        except BaseException as problem:
            problem.add_note(f"{action.__name__}, fault {number}, which raised {error!r}")
            raise
        errors += error is not None
        error = None
    return number - 1, errors
"""


@pytest.fixture(scope="session")
def faults_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """tests/native/faults.c as a shared library."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if not sys.platform.startswith("linux") or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        pytest.skip("calls are led elsewhere by means of glibc's")
    if os.environ.get("WORKERPOOL_SANITIZED"):
        pytest.skip("the sanitizer leads the same calls elsewhere")
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = Path(__file__).parent / "native" / "faults.c"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*compiler, *flags, str(source), "-o", str(library), "-ldl"], check=True, timeout=60)
    return str(library)


@pytest.fixture
def run(run_scenario: RunScenario, faults_path: str, helpers: Helpers) -> Run:
    """run(code, timeout=30, **options): a scenario after HEAD, with the library of faults loaded; its output."""

    def scenario(code: str, timeout: float = 30, **options: object) -> str:
        done = run_scenario(
            HEAD + textwrap.dedent(code),
            timeout,
            env={"LD_PRELOAD": faults_path},
            args=[faults_path, helpers.path],
            **options,
        )
        return done.stdout

    return scenario


# ---- The extension's own calls ----

# What a pool does from its beginning to its end, and that it kept its promises. `state` says how far that came.
WHOLE_LIFE = """
ALLOWED = (MemoryError, RuntimeError)
state = {}

def whole_life():
    state["ran"] = ran = (ctypes.c_int64 * 1)()
    state["accepted"] = accepted = []
    state["pool"] = pool = wp.WorkerPool(3, queue_size=50)
    token = wp.CancelToken(timeout=60)
    view = pool.options(token=wp.CancelToken(parent=token), queue_timeout=30, run_timeout=30, label="a")
    for i in range(20):
        for where in (pool, view):
            accepted.append(where.submit(add_to, ran, 1))
    state["five"] = five = pool.submit(int, 5)
    state["sum"] = total = pool.submit(sum_bytes, b"abc", 3)
    state["called"] = called = []
    for future in (five, total):
        future.add_done_callback(called.append)
        state["expected"] = state.get("expected", 0) + 1
    assert list(pool.map(sum_bytes, [b"a", b"b", b"c"], [1, 1, 1])) == [97, 98, 99]
    with pool.results(maxsize=4) as results:
        for i in range(4):
            results.submit(int, i)
        results.close()
        assert sorted(result.value for result in results) == [0, 1, 2, 3]
    assert pool.map_array(scaled, rows, pair)[3] == 7.0
    pool.resize(1)
    pool.resize(4)
    assert pool.drain(20)
    pool.shutdown()

def check():
    for future in state.get("accepted", ()):
        future.result(10)
    if "five" in state:
        assert state["five"].result(10) == 5
    if "sum" in state:
        assert state["sum"].result(10) == 294
    if "pool" in state:
        state["pool"].shutdown(timeout=20)
        assert state["ran"][0] == len(state["accepted"]), (state["ran"][0], len(state["accepted"]))
        assert len(state.get("called", ())) == state.get("expected", 0)
        check_sums(state["pool"])
    state.clear()
    gc.collect()
"""


def test_calls_of_a_whole_life(run: Run) -> None:
    """Memory and threads for all that a pool does: one call fails, then two in a row, then all from one on."""
    out = run(
        WHOLE_LIFE
        + """
for together in (1, 2, 1 << 40):
    whole_life()
    check()
    held = faults.faults_held()
    calls, errors = go_through(CALLS, whole_life, check, ALLOWED, together)
    whole_life()
    check()
    assert faults.faults_held() == held, (together, faults.faults_held(), held)
    print(calls >= 10, errors >= 10)
"""
    )
    assert out == "True True\n" * 3


def test_calls_of_a_loop(run: Run) -> None:
    """asyncio: the descriptor and the memory of a loop's bridge."""
    out = run(
        """
        async def main():
            assert await pool.run(int, 5) == 5
            assert await asyncio.gather(*(pool.run(sum_bytes, b"a", 1) for _ in range(10))) == [97] * 10

        def one_loop():
            with asyncio.Runner() as runner:
                runner.run(main())

        def check():
            assert pool.drain(10)
            check_sums(pool)
            one_loop()

        with wp.WorkerPool(2) as pool:
            one_loop()
            print(go_through(CALLS, one_loop, check, (MemoryError, OSError))[1] > 0)
        """
    )
    assert out == "True\n"


def test_time_limit_of_a_job_that_its_submitter_runs(run: Run) -> None:
    """Nobody could watch it without a thread, and the job would run for ever: it is refused."""
    out = run(
        """
        poll = wp.native(HELPERS + ":poll_job", "int (int64_t *, int64_t, wp_job *)")
        begun = (ctypes.c_int64 * 1)()
        sleep_ns = wp.native(HELPERS + ":sleep_ns", "int64_t (int64_t)")
        with wp.WorkerPool(1, queue_size=1, on_full="caller_runs") as pool:
            busy = [pool.submit(sleep_ns, 500_000_000) for _ in range(2)]
            faults.faults_arm(CALLS, 1, 1 << 40)
            try:
                pool.options(run_timeout=0.02).submit(poll, begun, 20_000_000_000)
            except (MemoryError, RuntimeError) as error:
                print(type(error).__name__, begun[0])
            disarm()
            job = pool.options(run_timeout=0.02).submit(poll, begun, 20_000_000_000)
            print(type(job.exception(10)).__name__)
            [future.result(10) for future in busy]
            pool.drain(10)
            check_sums(pool)
        """
    )
    assert out in {"RuntimeError 0\nJobTimeout\n", "MemoryError 0\nJobTimeout\n"}


# ---- The interpreter's memory ----

# One thing at a time, each with all of its allocations, by whichever thread. In the end every job that was accepted has
# run once, or has failed for want of memory, and no other has run.
ACTIONS = """
ran = bytearray(1)
numbers = (ctypes.c_int64 * 1)()
told = bytearray(1)
kept = []
texts = [b"a", b"b", b"c"]
ones = [1, 1, 1]

def job():
    ran[0] += 1

def tell(future):
    told[0] += 1

def submit():
    kept.append(None)
    kept[0] = pool.submit(job)

def submit_native():
    kept.append(None)
    kept[0] = pool.submit(add_to, numbers, 1)

def submit_with_options():
    kept.append(None)
    token = wp.CancelToken(timeout=100, parent=root)
    kept[0] = pool.options(token=token, queue_timeout=50, run_timeout=50, label="some").submit(job)

def submit_to_lane():
    kept.append(None)
    kept[0] = pool.lane("high").submit(job)

def results_of_future():
    assert pool.submit(int, 2000).result(10) == 2000
    assert pool.submit(sum_bytes, b"abc", 3).result(10) == 294
    assert type(pool.submit(int, "x").exception(10)) in (ValueError, MemoryError)

def callbacks():
    future = pool.submit(job)
    future.add_done_callback(tell)
    future.result(10)

def native_callbacks():
    future = pool.submit(sum_bytes, b"abc", 3)
    future.add_done_callback(tell)
    assert future.result(10) == 294

def mapped():
    assert list(pool.map(sum_bytes, texts, ones)) == [97, 98, 99]
    assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    assert sorted(pool.map(abs, [-1, -2, -3], in_order=False)) == [1, 2, 3]

def mapped_array():
    out = pool.map_array(scaled, rows, pair)
    assert out[3] == 7.0

def results():
    with pool.results(maxsize=2) as queue:
        queue.submit(int, 1)
        queue.submit(sum_bytes, b"a", 1)
        queue.close()
        assert sorted(result.unwrap() for result in queue) == [1, 97]

def tokens():
    token = wp.CancelToken(timeout=100, parent=root)
    child = wp.CancelToken(parent=token)
    token.cancel()
    assert child.cancelled

def natives():
    function = wp.native(HELPERS + ":sum_bytes", "uint64_t (const void *data, size_t count)")
    assert function(b"abc", 3) == 294
    pool.submit(function, b"abc", 3).result(10)

def wrong_signature():
    try:
        wp.native(HELPERS + ":sum_bytes", "uint64_t (const void *data, size_t")
    except wp.SignatureError:
        pass

def life():
    other = wp.WorkerPool(2, lanes=("a", wp.Lane("b", capacity=3)), thread_name_prefix="x", queue_size=10)
    try:
        other.submit(job).result(10)
        other.submit(add_to, numbers, 1).result(10)
        other.resize(4)
        other.drain(10)
    finally:
        other.shutdown()

def looks():
    pool.resize(3)
    pool.resize(2)
    pool.stats()
    repr(pool), repr(add_to), repr(root)
    pool.drain(10)

def cancels():
    with wp.WorkerPool(1) as other:
        futures = [other.submit(time.sleep, 0.0005) for _ in range(4)]
        for future in futures:
            future.cancel()
        for future in futures:
            future.request_cancel()

def told_by_new_workers():
    other = wp.WorkerPool(1)
    try:
        future = other.submit(sleep_ns, 3_000_000)
        future.add_done_callback(tell)
        future.result(10)
    finally:
        other.shutdown()

def check():
    for future in kept:
        if future is None:
            assert ran[0] == 0 and numbers[0] == 0, "a submit that raised ran"
        else:
            error = future.exception(10)
            assert error is None or (type(error) is MemoryError and ran[0] + numbers[0] == 0), error
            assert error is not None or ran[0] + numbers[0] == 1
    kept.clear()
    assert pool.drain(10)
    ran[0] = told[0] = numbers[0] = 0
    assert pool.submit(int, 7).result(10) == 7
    assert pool.submit(sum_bytes, b"b", 1).result(10) == 98
    assert pool.drain(10)
    check_sums(pool)

sleep_ns = wp.native(HELPERS + ":sleep_ns", "int64_t (int64_t)")
pool = wp.WorkerPool(2)
root = wp.CancelToken()
"""

GROUPS = {
    "submit": "submit, submit_native, submit_with_options, submit_to_lane",
    "outcomes": "results_of_future, callbacks, native_callbacks, told_by_new_workers",
    "many": "mapped, mapped_array, results",
    "objects": "tokens, natives, wrong_signature",
    "pools": "life, looks, cancels",
}


@pytest.mark.parametrize("group", GROUPS)
def test_memory_of_the_interpreter(run: Run, group: str) -> None:
    out = run(
        "assert faults.faults_hook_python()\n"
        + ACTIONS
        + f"""
sys.unraisablehook = lambda _: None # A callback that there was no memory to call.
for together in (1, 2, 5):
    for action in ({GROUPS[group]}):
        action()
        check()
        calls, errors = go_through(MEMORY, action, check, (MemoryError, SystemError), together)
        assert errors > 0, action.__name__
pool.shutdown(timeout=20)
print("ok")
""",
        options=("-X", "faulthandler"),
    )
    assert out == "ok\n"


@pytest.mark.parametrize("kind", ["CALLS", "WITHIN"])
@pytest.mark.parametrize("wait", ["wait(futures, 0.001)", "next(as_completed(futures, 0.001))"])
def test_wait_for_futures_without_memory_leaves_no_lock_taken(run: Run, kind: str, wait: str) -> None:
    """The standard library takes the locks of all of them one by one, as if that could not fail. What it allocates
    itself while it has them is its own affair."""
    out = run(
        f"""
        from concurrent.futures import wait, as_completed
        assert faults.faults_hook_python()

        def action():
            for _ in range(4):
                futures.append(pool.submit(gate.wait))
            try:
                {wait}
            except TimeoutError:
                pass

        def check():
            gate.set()
            assert pool.drain(10)
            for future in futures:
                assert isinstance(future.exception(10), MemoryError | None)
                future._condition.acquire()
                future._condition.release()
            futures.clear()
            gate.clear()

        futures = []
        gate = threading.Event()
        pool = wp.WorkerPool(2)
        action()  # CPython itself does not survive a lack of memory for a thread's first context.
        check()
        go_through({kind}, action, check, (MemoryError, SystemError, RuntimeError))
        pool.shutdown(timeout=20)
        print("ok")
        """,
        options=("-X", "faulthandler"),
    )
    assert out == "ok\n"


def test_workers_without_a_thread_state(run: Run) -> None:
    """A future with a callback is told of its end however often a worker got no thread state for that."""
    out = run(
        """
        assert faults.faults_hook_python()
        sleep_ns = wp.native(HELPERS + ":sleep_ns", "int64_t (int64_t)")
        for together in (1, 2, 3, 10, 50):
            for job in (lambda: pool.submit(sleep_ns, 50_000_000), lambda: pool.submit(time.sleep, 0)):
                with wp.WorkerPool(1) as pool:
                    called = []
                    future = pool.submit(sleep_ns, 50_000_000)
                    future.add_done_callback(called.append)
                    faults.faults_arm(MEMORY, 1, together)
                    time.sleep(0.2)
                    disarm()
                    future.result(10)
                assert called == [future]
        print("ok")
        """,
        options=("-X", "faulthandler"),
    )
    assert out == "ok\n"


def test_results_without_memory_to_show_them_are_not_lost(run: Run) -> None:
    out = run(
        """
        assert faults.faults_hook_python()
        with wp.WorkerPool(2) as pool, pool.results(maxsize=50) as results:
            seen = []
            errors = 0
            submitted = 0
            for round in range(40):
                faults.faults_arm(MEMORY, 1 + round % 12, 1 + round % 12)
                try:
                    results.submit(sum_bytes, b"a", 1)
                    submitted += 1
                except MemoryError:
                    errors += 1
                disarm()
            for round in range(400):
                faults.faults_arm(MEMORY, 1 + round % 8, 1 + round % 8)
                try:
                    result = results.get(timeout=0.2) if len(seen) < submitted else None
                except MemoryError:
                    errors += 1
                    result = None
                disarm()
                if result is not None:
                    seen.append(result.index)
            assert len(seen) == submitted, (len(seen), submitted)
            assert sorted(seen) == list(range(submitted)), seen
            print(errors > 5)
        """,
        options=("-X", "faulthandler"),
    )
    assert out == "True\n"


# ---- Limits of the process ----


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads count as processes on Linux")
def test_limit_of_processes(run_scenario: RunScenario) -> None:
    """RLIMIT_NPROC. Root has no limit, so the scenario is another user's."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be a user that has no other processes")
    done = run_scenario(
        """
        import os, resource, threading, time, workerpool as wp

        def limit(n):
            resource.setrlimit(resource.RLIMIT_NPROC, (n, resource.getrlimit(resource.RLIMIT_NPROC)[1]))

        user = 60_000 + os.getpid() % 5000
        try:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        except OSError:
            print("not allowed")
            os._exit(0)

        pool = wp.WorkerPool(64, queue_size=None)
        limit(1)
        for _ in range(3):
            try:
                pool.submit(int)
            except RuntimeError as error:
                print(error)
        limit(4)
        futures = [pool.submit(time.sleep, 0.002) for _ in range(200)]
        for future in futures:
            future.result(10)
        print(1 <= pool.stats().workers <= 3, pool.stats().max_workers)
        limit(40)
        together = threading.Barrier(8)
        futures = [pool.submit(together.wait, 10) for _ in range(8)]
        time.sleep(0.15)
        futures += [pool.submit(int, 1) for _ in range(8)]
        for future in futures:
            future.result(10)
        print(pool.stats().workers >= 8)
        pool.shutdown()
        """,
        options=("-W", "error"),
    )
    if done.stdout == "not allowed\n":
        pytest.skip("root may not become another user here")
    assert done.stdout == "can't start new thread\n" * 3 + "True 64\nTrue\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of address space is Linux's")
def test_limit_of_memory(run_scenario: RunScenario) -> None:
    """RLIMIT_AS: where there is room for a few of the 64 stacks there are a few workers, and all jobs are done."""
    if os.environ.get("WORKERPOOL_SANITIZED"):
        pytest.skip("the sanitizer takes most of the address space")
    done = run_scenario(
        """
        import resource, time, workerpool as wp

        def limit(more):
            with open("/proc/self/statm") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + more, -1))

        pool = wp.WorkerPool(64, queue_size=None, stack_size=64 << 20)
        limit(400 << 20)
        futures = [pool.submit(time.sleep, 0.002) for _ in range(300)]
        for future in futures:
            future.result(10)
        print(1 <= pool.stats().workers < 8, list(pool.map(abs, range(100))) == list(range(100)))
        pool.shutdown()
        stats = pool.stats()
        print(stats.unfinished, stats.lanes["normal"].done)
        """,
        options=("-W", "error"),
    )
    assert done.stdout == "True True\n0 400\n"


# ---- Clocks ----


def test_wall_clock_that_jumps(run: Run) -> None:
    """Every limit is one of the monotonic clock: it comes neither early nor a day late."""
    out = run(
        """
        jumping = True

        def jump():
            while jumping:
                for seconds in (86400, -86400, 0):
                    faults.faults_jump(seconds)
                    time.sleep(0.003)

        def lasts(error, function, *args):
            begin = time.monotonic()
            try:
                function(*args)
            except error:
                pass
            else:
                raise AssertionError(function)
            elapsed = time.monotonic() - begin
            assert 0.099 <= elapsed < 10, (function, elapsed)

        before = time.time()
        faults.faults_jump(86400)
        assert time.time() - before > 86000, "the clock does not jump"
        jumper = threading.Thread(target=jump)
        jumper.start()
        poll = wp.native(HELPERS + ":poll_job", "int (int64_t *, int64_t, wp_job *)")
        begun = (ctypes.c_int64 * 1)()
        leave = threading.Event()
        pool = wp.WorkerPool(2, queue_size=1)
        try:
            lasts(wp.JobTimeout, pool.options(run_timeout=0.1).submit(poll, begun, 20_000_000_000).result)
            busy = pool.submit(leave.wait, 30), pool.submit(leave.wait, 30)
            lasts(wp.JobExpired, pool.options(queue_timeout=0.1).submit(int).result)
            lasts(CancelledError, pool.options(token=wp.CancelToken(timeout=0.1)).submit(int).result)
            waiting = pool.submit(int, 5)
            lasts(wp.SubmitTimeout, pool.options(submit_timeout=0.1).submit, int)
            lasts(TimeoutError, waiting.result, 0.1)
            lasts(TimeoutError, lambda: next(pool.lane("high").map(int, [1], timeout=0.1)))
            lasts(TimeoutError, pool.results().get, 0.1)
            lasts(ZeroDivisionError, lambda: pool.drain(0.1) or 1 / 0)
        finally:
            leave.set()
            jumping = False
        jumper.join()
        print(waiting.result(10))
        pool.shutdown()
        """
    )
    assert out == "5\n"


@pytest.mark.slow
def test_process_that_was_stopped(run: Run) -> None:
    """SIGSTOP with limits pending: those that came meanwhile are told once, and all else goes on."""
    out = run(
        """
        import subprocess

        poll = wp.native(HELPERS + ":poll_job", "int (int64_t *, int64_t, wp_job *)")
        begun = (ctypes.c_int64 * 1)()
        leave = threading.Event()
        outcomes = []
        with wp.WorkerPool(2, queue_size=None) as pool:
            futures = [pool.options(run_timeout=1.0).submit(poll, begun, 20_000_000_000), pool.submit(leave.wait, 30)]
            futures += [pool.options(queue_timeout=0.8 + i / 1000).submit(int) for i in range(100)]
            futures += [pool.options(queue_timeout=60, run_timeout=60).submit(int) for _ in range(100)]
            for future in futures:
                future.add_done_callback(lambda future: outcomes.append(type(future.exception()).__name__))
            time.sleep(0.1)
            waited = 0.0
            stopper = subprocess.Popen(["sh", "-c", f"kill -STOP {os.getpid()}; sleep 1.5; kill -CONT {os.getpid()}"])
            begin = time.monotonic()
            try:
                futures[1].result(0.5)
            except TimeoutError:
                waited = time.monotonic() - begin
            stopper.wait()
            leave.set()
            assert pool.drain(20)
        print(waited >= 0.5, [outcomes.count(name) for name in ("JobTimeout", "JobExpired", "NoneType")], len(outcomes))
        check_sums(pool)
        """
    )
    assert out == "True [1, 100, 101] 202\n"


# ---- Signals ----


def test_signals_without_end(run: Run) -> None:
    """A timer interrupts the main thread every millisecond: its handler runs, waits keep their time."""
    out = run(
        """
        seen = 0

        def handle(number, frame):
            global seen
            seen += 1

        def lasts(function, *args):
            begin = time.monotonic()
            try:
                assert not function(*args)
            except TimeoutError:
                pass
            elapsed = time.monotonic() - begin
            assert 0.099 <= elapsed < 10, (function, elapsed)

        sleep_ns = wp.native(HELPERS + ":sleep_ns", "int64_t (int64_t)")
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        with wp.WorkerPool(2, queue_size=2) as pool:
            for job, argument in ((time.sleep, 0.0005), (sleep_ns, 500_000)):
                futures = [pool.submit(job, argument) for _ in range(100)]
                assert len([future.result() for future in futures]) == 100
                assert len(list(pool.map(job, [argument] * 200))) == 200
                assert pool.drain()
                with pool.results(maxsize=2) as results:
                    feeder = threading.Thread(target=lambda: [results.submit(job, argument) for _ in range(100)])
                    feeder.start()
                    assert sorted(results.get().index for _ in range(100)) == list(range(100))
                    feeder.join()
            leave = threading.Event()
            busy = [pool.submit(leave.wait, 30) for _ in range(4)]
            lasts(busy[0].result, 0.1)
            lasts(pool.options(submit_timeout=0.1).submit, int)
            lasts(pool.drain, 0.1)
            lasts(pool.results().get, 0.1)
            leave.set()
        signal.setitimer(signal.ITIMER_REAL, 0)
        check_sums(pool)
        print(pool.stats().lanes["normal"].done, seen > 100)
        """
    )
    assert out == "804 True\n"
