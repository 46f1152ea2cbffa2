"""Whoever waits for a whole pool from within it is told so, on whatever thread.

That may be a worker, a side thread, or one that runs a job because it waits for it, has submitted it or takes part in
it. In a child that it forks there is nobody to wait for.
"""

from __future__ import annotations

import pytest

from conftest import RunScenario
from support import FREE_THREADED, Helpers

# `act()` is what is tried on each kind of thread; what came of it is in `said`. Native jobs call into Python, so that
# can try it on a thread that runs them for the pool.
COMMON = """
import array, ctypes, logging, os, sys, threading, time, warnings, workerpool as wp

warnings.simplefilter("ignore", DeprecationWarning)  # Of forks, which are made on purpose.
logging.disable()
said = []
act = None

def call(number):
    if number == 7:
        try:
            said.append(act())
        except RuntimeError as error:
            said.append(f"refused: {error}")
    return number

kept = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(call)
native = wp.native(ctypes.cast(kept, ctypes.c_void_p).value, "int (int)")
sleep = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")

def learn_that_it_is_short():
    with wp.WorkerPool(1) as pool:
        for _ in range(50):
            pool.submit(native, 1).result()
        assert list(pool.map(native, range(8, 600))) == list(range(8, 600))

class Held:
    "The pool's only worker has a job, so that others run what they wait for; where they do not, it leaves in time."

    def __init__(self, pool):
        self.leave, begun = threading.Event(), threading.Event()
        pool.submit(lambda: begun.set() or self.leave.wait(5))
        assert begun.wait(10)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.leave.set()

def worker(pool):
    pool.submit(call, 7).result(10)

def waiter(pool):
    with Held(pool):
        pool.submit(native, 7).result()

def reader(pool):
    with Held(pool), pool.results(10) as results:
        results.submit(native, 7)
        results.get()

def map_consumer(pool):
    with Held(pool):
        list(pool.map(native, [7, 1, 2]))

def map_array(pool):
    numbers = array.array("i", range(4000))
    pool.map_array(native, numbers, out=array.array("i", numbers))

def map_array_of_several(pool):
    pool.resize(3)
    map_array(pool)

def submitter(pool):
    with Held(pool):
        while pool.stats().lanes["normal"].waiting < 50:
            pool.submit(int)
        pool.options(on_full="caller_runs").submit(call, 7)

# A worker that has native jobs to do leaves callbacks to the attendant.
def attendant(pool):
    jobs = [pool.submit(sleep, 2_000_000) for _ in range(40)]
    jobs[0].add_done_callback(lambda future: call(7))
    while not said:
        time.sleep(0.01)

KINDS = [worker, waiter, reader, map_consumer, map_array, map_array_of_several, submitter, attendant]

def on_each_kind_of_thread(action):
    global act
    for kind in KINDS:
        learn_that_it_is_short()  # The action may have taken long.
        said.clear()
        pool = wp.WorkerPool(1, queue_size=50, lanes=("normal",))
        act = lambda: action(pool)
        try:
            kind(pool)
        except RuntimeError:
            pass  # The pool is closed, or this is a child.
        yield kind.__name__, said[0], pool
"""


@pytest.mark.parametrize("call", ["pool.shutdown()", "pool.drain()", "pool.options(label='x').shutdown()"])
def test_waiting_for_the_pool_from_within(run_scenario: RunScenario, helpers: Helpers, call: str) -> None:
    done = run_scenario(
        COMMON
        + f"""
for name, what, pool in on_each_kind_of_thread(lambda pool: {call}):
    assert what.startswith("refused: ") and "would wait for the job" in what, (name, what)
    pool.shutdown()
print("ended")
""",
        args=[helpers.path],
    )
    assert done.stdout == "ended\n"


def test_what_does_not_wait_is_done_from_within(run_scenario: RunScenario, helpers: Helpers) -> None:
    done = run_scenario(
        COMMON
        + """
def action(pool):
    pool.resize(2)
    pool.shutdown(wait=False)
    return "done"

for name, what, pool in on_each_kind_of_thread(action):
    assert what == "done", (name, what)
    pool.shutdown()
print("ended")
""",
        args=[helpers.path],
    )
    assert done.stdout == "ended\n"


# In each the child, too, ends: `go_on` returns to whatever the thread was doing.
CHILDREN = {
    "returns": "go_on()",
    "shuts down": "pool.submit(int).result(); pool.drain(); pool.shutdown(); os._exit(0)",
    "maps": "pool.resize(3); assert sum(pool.map(abs, range(100))) == 4950; os._exit(0)",
}


@pytest.mark.skipif(FREE_THREADED, reason="CPython does not survive a fork while another thread stops the world")
@pytest.mark.parametrize("what", CHILDREN)
def test_fork_from_within(run_scenario: RunScenario, helpers: Helpers, what: str) -> None:
    done = run_scenario(
        COMMON
        + f"""
import signal

class GoOn(Exception):
    pass

def go_on():
    raise GoOn

def action(pool):
    child = os.fork()
    if child == 0:
        try:
            {CHILDREN[what]}
        except GoOn:
            return "child"
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    for _ in range(1000):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "the child hangs"

for name, what, pool in on_each_kind_of_thread(action):
    if what == "child":
        os._exit(0)
    assert what == 0, (name, what)
    pool.shutdown()
print("ended")
""",
        args=[helpers.path],
        timeout=60,
    )
    assert done.stdout == "ended\n"


def test_callback_that_shuts_the_pool_down_does_not_keep_the_program(
    run_scenario: RunScenario, helpers: Helpers
) -> None:
    done = run_scenario(
        """
        import sys, workerpool as wp

        sleep = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
        pool = wp.WorkerPool(1, queue_size=None)
        pool.submit(sleep, 2_000_000).add_done_callback(lambda future: pool.shutdown())
        try:
            for _ in range(30):
                pool.submit(sleep, 3_000_000)
        except RuntimeError:
            pass  # It was closed meanwhile.
        """,
        args=[helpers.path],
    )
    assert "would wait for the job" in done.stderr


@pytest.mark.parametrize("call", ["shutdown", "drain"])
def test_pools_that_wait_for_each_other(run_scenario: RunScenario, helpers: Helpers, call: str) -> None:
    """Each pool's job waits for the other pool: whoever comes second is refused, and all go on."""
    done = run_scenario(
        f"""
        import threading, workerpool as wp

        pools = [wp.WorkerPool(1) for _ in range(3)]
        together = threading.Barrier(3)

        def wait_for(pool):
            together.wait(10)
            try:
                pool.{call}()
            except RuntimeError as error:
                return str(error)
            return "waited"

        futures = [pool.submit(wait_for, pools[(at + 1) % 3]) for at, pool in enumerate(pools)]
        came = [future.result(20) for future in futures]
        assert any("would wait for ever" in text for text in came), came
        for pool in pools:
            pool.shutdown()
        print("ended")
        """
    )
    assert done.stdout == "ended\n"


def test_circle_of_pools_with_a_limit_is_waited_for(run_scenario: RunScenario) -> None:
    """Of two pools whose jobs wait for each other one waits with a limit: that one's wait ends by it, and all go on."""
    done = run_scenario(
        """
        import threading, time, workerpool as wp

        def wait_for(call):
            together.wait(10)
            try:
                return call()
            except (RuntimeError, TimeoutError) as error:
                return type(error).__name__

        for first in ("limited", "endless"):
            for limited, came in ((lambda: one.drain(1), False), (lambda: one.shutdown(timeout=1), "TimeoutError")):
                one, other = wp.WorkerPool(1), wp.WorkerPool(1)
                together = threading.Barrier(2)

                def later(call):
                    time.sleep(0.3)
                    return call()

                limit = (lambda: limited()) if first == "limited" else (lambda: later(limited))
                endless = (lambda: later(other.drain)) if first == "limited" else other.drain
                futures = one.submit(wait_for, endless), other.submit(wait_for, limit)
                assert [future.result(20) for future in futures] == [True, came], first
                one.shutdown()
                other.shutdown()
        print("ended")
        """
    )
    assert done.stdout == "ended\n"


def test_callbacks_that_shut_down_one_of_several_pools(run_scenario: RunScenario, helpers: Helpers) -> None:
    """A thread of any pool may tell of a native job's end, so callbacks of two pools may be told crosswise."""
    done = run_scenario(
        """
        import logging, sys, time, workerpool as wp

        logging.disable()
        sleep = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")

        def submit(pool, count, **options):
            futures = []
            try:
                for _ in range(count):
                    futures.append(pool.submit(sleep, 100_000))
            except RuntimeError:
                pass  # It was shut down meanwhile.
            return futures

        end = time.monotonic() + 4
        while time.monotonic() < end:
            pools = [wp.WorkerPool(1, queue_size=None) for _ in range(3)]
            for pool in pools:
                for future in submit(pool, 3):
                    future.add_done_callback(lambda future, pool=pool: pool.shutdown())
                submit(pool, 3)
            for pool in pools:
                pool.shutdown()
        print("ended")
        """,
        args=[helpers.path],
    )
    assert done.stdout == "ended\n"
