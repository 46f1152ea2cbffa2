"""A worker is a thread like any other to the code it runs: signals, niceness, processors, stack."""

from __future__ import annotations

import sys

import pytest

from conftest import RunScenario
from support import FREE_THREADED

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="niceness and affinity of single threads")

POOLS = ["ThreadPoolExecutor", "WorkerPool"]


# ---- Signals ----


@pytest.mark.parametrize("pool", POOLS)
def test_processes_of_a_job_end_at_sigterm(run_scenario: RunScenario, pool: str) -> None:
    done = run_scenario(
        """
        import multiprocessing, signal, subprocess, sys, time, workerpool as wp

        SELF = "import os, signal; os.kill(os.getpid(), signal.SIGTERM); print('survived')"
        ALARM = "import signal, time; signal.alarm(1); time.sleep(20); print('survived')"

        def start(method):
            process = multiprocessing.get_context(method).Process(target=time.sleep, args=(60,))
            process.start()
            return process

        def ended_by(code):
            return subprocess.run([sys.executable, "-c", code]).returncode

        if __name__ == "__main__":
            with getattr(wp, sys.argv[1])(2) as pool:
                child = pool.submit(subprocess.Popen, ["sleep", "60"]).result()
                child.terminate()
                assert child.wait(10) == -signal.SIGTERM
                assert pool.submit(ended_by, SELF).result() == -signal.SIGTERM
                assert pool.submit(ended_by, ALARM).result() == -signal.SIGALRM
                for method in "fork", "spawn":
                    process = pool.submit(start, method).result()
                    process.terminate()
                    process.join(10)
                    assert process.exitcode == -signal.SIGTERM, (method, process.exitcode)
            print("ended")
        """,
        60,
        options=("-X", "dev"),
        args=(pool,),
    )
    assert done.stdout == "ended\n"


def test_a_job_starts_the_fork_server(run_scenario: RunScenario) -> None:
    """It learns of the ends of its children by SIGCHLD."""
    done = run_scenario(
        """
        import concurrent.futures, multiprocessing, workerpool as wp

        def square(x):
            return x * x

        def job():
            context = multiprocessing.get_context("forkserver")
            process = context.Process(target=square, args=(2,))
            process.start()
            process.join(20)
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                return process.exitcode, list(pool.map(square, range(4)))

        if __name__ == "__main__":
            with wp.ThreadPoolExecutor(1) as pool:
                print(pool.submit(job).result(40))
        """,
        60,
        options=("-X", "dev"),
    )
    assert done.stdout == "(0, [0, 1, 4, 9])\n"


def test_mask_is_that_of_the_maker(run_scenario: RunScenario) -> None:
    """Whoever submits, and whatever a job has done to its own."""
    run_scenario(
        """
        import signal, threading, workerpool as wp

        def mask():
            return signal.pthread_sigmask(signal.SIG_BLOCK, [])

        def change():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])

        def submit_blocked():
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            seen.append(pool.submit(mask).result())

        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
        pool = wp.WorkerPool(4)
        seen = []
        thread = threading.Thread(target=submit_blocked)
        thread.start()
        thread.join()
        assert seen == [{signal.SIGUSR2}], seen

        pool.submit(change).result()
        barrier = threading.Barrier(4)

        def look():
            barrier.wait(10)
            return mask()

        masks = [future.result() for future in [pool.submit(look) for _ in range(4)]]
        assert sorted(map(len, masks)) in ([1, 1, 1, 2], [1, 1, 1, 1]), masks
        """
    )


@pytest.mark.parametrize("wait", ["result", "drain", "map", "shutdown", "results", "submit"])
def test_ctrl_c_that_reaches_a_worker(run_scenario: RunScenario, wait: str) -> None:
    """The system may give it to any thread that does not block it; who waits in the main thread hears of it."""
    run_scenario(
        """
        import signal, sys, threading, time, workerpool as wp

        leave = threading.Event()
        worker = []

        def job():
            worker.append(threading.get_ident())
            leave.wait(20)

        def interrupt():
            while not worker or not about_to_wait.is_set():
                time.sleep(0.01)
            time.sleep(0.1)
            sent.append(time.monotonic())
            signal.pthread_kill(worker[0], signal.SIGINT)

        about_to_wait = threading.Event()
        sent = []
        pool = wp.WorkerPool(1, queue_size=1)
        results = pool.results(1)
        wait = sys.argv[1]
        sender = threading.Thread(target=interrupt)
        sender.start()
        future = pool.submit(job)
        while not worker:
            time.sleep(0.01)
        try:
            about_to_wait.set()
            if wait == "result":
                future.result()
            elif wait == "drain":
                pool.drain()
            elif wait == "map":
                list(pool.map(lambda _: None, [1]))
            elif wait == "shutdown":
                pool.shutdown()
            elif wait == "results":
                results.submit(int)
                next(iter(results))
            else:
                for _ in range(3):
                    pool.submit(int)
        except KeyboardInterrupt:
            late = time.monotonic() - sent[0]
            print("interrupted")
        leave.set()
        sender.join()
        assert late < 5, late
        """,
        args=(wait,),
    )


def test_signals_of_the_process_while_workers_wait_and_work(run_scenario: RunScenario) -> None:
    run_scenario(
        """
        import signal, threading, time, workerpool as wp

        caught = []
        signal.signal(signal.SIGALRM, lambda *_: caught.append(threading.current_thread()))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        with wp.WorkerPool(3) as pool:
            end = time.monotonic() + 1
            while time.monotonic() < end:
                assert sum(pool.map(int, range(200))) == sum(range(200))
                time.sleep(0.002)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert caught and set(caught) == {threading.main_thread()}
        """
    )


# ---- What a job does to its own thread ----


@linux_only
@pytest.mark.parametrize("pool", POOLS)
def test_niceness_and_affinity_stay_with_the_worker(run_scenario: RunScenario, pool: str) -> None:
    done = run_scenario(
        """
        import os, sys, threading, workerpool as wp

        def of_thread():
            return os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), len(os.sched_getaffinity(0))

        def change():
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

        def look():
            barrier.wait(10)
            return of_thread()

        barrier = threading.Barrier(8)
        own = of_thread()
        with getattr(wp, sys.argv[1])(8) as pool:
            pool.submit(change).result()
            seen = [future.result() for future in [pool.submit(look) for _ in range(8)]]
        changed = [facts for facts in seen if facts != own]
        print(changed == [(10, 1)] or (os.geteuid() != 0 and changed))
        """,
        args=(pool,),
    )
    assert done.stdout == "True\n"


# ---- Stacks ----

# Each call of `max` takes some of the C stack, so this needs about 60 MB.
DEEP = """
import sys, threading, workerpool as wp

sys.setrecursionlimit(10**6)

def deep(n):
    return 0 if n == 0 else 1 + max(map(deep, [n - 1]))

"""


@pytest.mark.skipif((3, 12) <= sys.version_info < (3, 14), reason="there is a fixed limit to the recursion in C")
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_stack_size_of_threading(run_scenario: RunScenario, pool: str, when: str) -> None:
    """As it is when the worker starts: it may be set after the pool was made."""
    done = run_scenario(
        DEEP
        + f"""
if {when!r} == "before":
    threading.stack_size(512 << 20)
with wp.{pool}(2) as pool:
    threading.stack_size(512 << 20)
    print(pool.submit(deep, 60000).result())
""",
        60,
        options=(),
    )
    assert done.stdout == "60000\n"


@linux_only
def test_stack_sizes_that_workers_have(run_scenario: RunScenario) -> None:
    """Seen in their mappings: the drop-in's are as threading's, and never too small for Python or attendants."""
    run_scenario(
        """
        import ctypes, json, re, threading, time, workerpool as wp

        libc = ctypes.CDLL(None)

        def stack():
            attributes = ctypes.create_string_buffer(256)
            size = ctypes.c_size_t()
            libc.pthread_self.restype = ctypes.c_void_p
            libc.pthread_getattr_np(ctypes.c_void_p(libc.pthread_self()), attributes)
            libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))
            libc.pthread_attr_destroy(attributes)
            return size.value

        def stack_in(pool):
            with pool:
                return pool.submit(stack).result()

        KIB, MIB = 1 << 10, 1 << 20
        assert stack_in(wp.WorkerPool(1)) >= 8 * MIB
        assert stack_in(wp.ThreadPoolExecutor(1)) >= 8 * MIB
        assert MIB <= stack_in(wp.WorkerPool(1, stack_size=MIB)) < 2 * MIB
        threading.stack_size(20 * MIB)
        assert 20 * MIB <= stack_in(wp.ThreadPoolExecutor(1)) < 21 * MIB
        assert 20 * MIB <= stack_in(wp.WorkerPool(1)) < 21 * MIB
        assert MIB <= stack_in(wp.WorkerPool(1, stack_size=MIB)) < 2 * MIB
        assert MIB <= stack_in(wp.WorkerPool(1, stack_size=MIB + 1)) < 2 * MIB
        threading.stack_size(64 * KIB)
        assert 128 * KIB <= stack_in(wp.ThreadPoolExecutor(1)) < MIB

        # Callbacks that the attendant runs, of a pool with the smallest stacks.
        usleep = wp.native("libc.so.6:usleep", "int (unsigned int)")
        with wp.WorkerPool(2, stack_size=wp._core._least_stack_size()) as pool:
            told = []

            def callback(future):
                re.compile("(a|b)*c[a-z]+" + str(time.time()))
                told.append(json.dumps({"a": [{"b": stack()}]}))

            for _ in range(20):
                pool.submit(usleep, 1000).add_done_callback(callback)
        assert len(told) == 20
        """
    )


@linux_only
def test_stack_of_ulimit(run_scenario: RunScenario) -> None:
    """The standard library's threads have it."""
    done = run_scenario(
        """
        import os, resource, sys, threading, workerpool as wp

        HARD = resource.getrlimit(resource.RLIMIT_STACK)[1]
        SIZE = 64 << 20
        if HARD != resource.RLIM_INFINITY and HARD < SIZE:
            print("OK")
            sys.exit()
        if len(sys.argv) == 1:
            resource.setrlimit(resource.RLIMIT_STACK, (SIZE, HARD))
            os.execv(sys.executable, [sys.executable, __file__, "again"])

        def mapped():
            with open("/proc/self/statm") as file:
                return int(file.read().split()[0]) * resource.getpagesize()

        with wp.ThreadPoolExecutor(1) as pool:
            before = mapped()
            pool.submit(int).result()
            print("OK" if mapped() - before >= SIZE else mapped() - before)
        """
    )
    assert done.stdout == "OK\n"


# ---- Many workers ----


@pytest.mark.parametrize("job", ["python", "native"])
def test_thousands_of_workers(run_scenario: RunScenario, job: str) -> None:
    """Each start costs the same, however many workers there are, and they do not all wait for the GIL at one time."""
    done = run_scenario(
        """
        import sys, threading, time, workerpool as wp

        N = 3000
        leave = threading.Event()
        begun = threading.Semaphore(0)
        threading.stack_size(256 << 10)

        def can_start(n):
            threads = [threading.Thread(target=leave.wait) for _ in range(n)]
            try:
                for thread in threads:
                    thread.start()
            except RuntimeError:
                return False
            finally:
                leave.set()
                for thread in threads:
                    if thread.ident is not None:
                        thread.join()
                leave.clear()
            return True

        def hold():
            begun.release()
            leave.wait()

        if not can_start(N):
            print("too few threads")
            sys.exit()
        with wp.WorkerPool(N, queue_size=None) as pool:
            if sys.argv[1] == "native":
                sleep = wp.native("libc.so.6:sleep", "unsigned (unsigned)")
                futures = [pool.submit(sleep, 15) for _ in range(N)]
                while pool.stats().workers < N:
                    time.sleep(0.01)
            else:
                futures = [pool.submit(hold) for _ in range(N)]
                for _ in range(N):
                    begun.acquire()
            leave.set()
            assert pool._max_workers == pool.stats().workers == N
        print("all there")
        """,
        35,
        args=(job,),
    )
    assert done.stdout in ("all there\n", "too few threads\n")


@pytest.mark.skipif(FREE_THREADED, reason="without a GIL nobody counts on a worker: it may run finalizers")
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("job", ["threading.get_ident", "lambda: time.sleep(0.001)", "native"])
def test_one_job_at_a_time_starts_one_worker(run_scenario: RunScenario, pool: str, job: str) -> None:
    """As in the standard library: a worker that has just done a job, and is about to look for more, is counted on."""
    done = run_scenario(
        f"""
        import sys, threading, time, workerpool as wp

        if {job!r} == "native":
            usleep = wp.native("libc.so.6:usleep", "int (unsigned int)")
            work = (usleep, 1000)
        else:
            work = ({job if job != "native" else None},)
        workers = []
        for _ in range(50):
            with wp.{pool}(8) as pool:
                for _ in range(10):
                    pool.submit(*work).result()
                workers.append(pool.stats().workers)
        print(workers.count(1) >= 45 or workers)
        """
    )
    assert done.stdout == "True\n"


@pytest.mark.skipif(FREE_THREADED, reason="without a GIL an object's finalizer may run on the thread that made it")
def test_worker_that_is_counted_on_runs_foreign_code_first(run_scenario: RunScenario) -> None:
    """A callback, a finalizer of a result or of an argument needs the next job: another worker is started for it."""
    run_scenario(
        """
        import threading, time, workerpool as wp

        class Needy:
            def __init__(self, event):
                self.event = event

            def __del__(self):
                assert self.event.wait(10)

        def needy_callback(event):
            return lambda future: event.wait(10) or lost.append(event)

        def unused(argument):
            pass

        lost = []
        for round in range(100):
            pool = wp.WorkerPool(2)
            for kind in "callback", "result", "argument":
                event = threading.Event()
                seen = threading.Event()
                if kind == "callback":
                    future = pool.submit(time.sleep, 0.0005)
                    future.add_done_callback(needy_callback(event))
                    future.result()
                elif kind == "result":
                    pool.submit(lambda: (seen.set(), Needy(event))[1])
                    seen.wait()
                else:
                    pool.submit(unused, Needy(event))
                pool.submit(event.set).result(10)
            pool.shutdown()
        assert not lost
        """,
        60,
    )
