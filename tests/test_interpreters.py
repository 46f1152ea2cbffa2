"""Sub-interpreters that make, use and leave pools, with a GIL of their own too: `Py_mod_multiple_interpreters`."""

from __future__ import annotations

import sys

import pytest

from conftest import RunScenario
from support import Helpers

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters have a GIL of their own from 3.12 on")

# `run(code, own_gil)` runs code in a new interpreter, which has the path and the arguments of this one. What is printed
# there is written without buffering, since several may.
COMMON = """
import os, sys, textwrap, threading, time, workerpool as wp

try:
    import _interpreters
    def create(own_gil): return _interpreters.create("isolated" if own_gil else "legacy")
except ImportError:
    import _xxsubinterpreters as _interpreters
    def create(own_gil): return _interpreters.create(isolated=own_gil)

# By their addresses, because 3.12 does not let ctypes, which finds functions by name, into isolated interpreters.
identity = wp.native(sys.argv[1] + ":id_long", "long (long)")
sleep = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")
PRELUDE = f'''
import sys
sys.path[:] = {sys.path!r}
import os, threading, time, workerpool as wp
from workerpool import _core
native = _core.NativeFunction({identity.address}, "long (long)", "id_long")
sleep = _core.NativeFunction({sleep.address}, "int64_t (int64_t)", "sleep_ns")
def use(pool):
    assert pool.submit(int, 5).result(10) == 5
    assert pool.submit(native, 6).result(10) == 6
    assert list(pool.map(int, range(100))) == list(range(100))
    assert list(pool.map(native, range(1000))) == list(range(1000))
    with pool.results() as results:
        for i in range(20):
            results.submit(native, i)
        results.close()
        assert sorted(r.value for r in results) == list(range(20))
    assert pool.options(run_timeout=10, token=wp.CancelToken(timeout=10)).submit(native, 7).result(10) == 7
    called = threading.Event()
    pool.submit(sleep, 1000).add_done_callback(lambda f: called.set())
    assert called.wait(10)
'''

def run(code, own_gil=True):
    interpreter = create(own_gil)
    try:
        failure = _interpreters.run_string(interpreter, PRELUDE + textwrap.dedent(code))
        assert failure is None, failure
    finally:
        _interpreters.destroy(interpreter)

def use(pool):
    exec(PRELUDE + "use(pool)", {"pool": pool})
"""

OWN_GIL = pytest.mark.parametrize("own_gil", [True, False], ids=["own GIL", "shared GIL"])


@pytest.fixture
def run(run_scenario: RunScenario, helpers: Helpers) -> RunScenario:
    def with_common(code: str, **options: object) -> object:
        import textwrap

        return run_scenario(COMMON + textwrap.dedent(code), args=[helpers.path], timeout=50, **options)

    return with_common  # type: ignore[return-value]


@OWN_GIL
def test_make_use_and_shut_down(run: RunScenario, own_gil: bool) -> None:
    done = run(
        f"""
        for _ in range(5):
            run("with wp.WorkerPool(2) as pool: use(pool)", {own_gil})
        with wp.WorkerPool(2) as pool:
            use(pool)
        """
    )
    assert done.stderr == ""


@OWN_GIL
@pytest.mark.parametrize(
    "leave",
    [
        "pass",
        "del pool",
        "pool.shutdown(wait=False)",
        "futures = [pool.submit(time.sleep, 0.01) for _ in range(10)]",
        "futures = [pool.submit(sleep, 1_000_000) for _ in range(50)]",
        "iterator = pool.map(native, range(100_000)); next(iterator)",
        "results = pool.results(); results.submit(int); results.submit(native, 1)",
        "pool.submit(native, 1).add_done_callback(print)",
        "pool.options(queue_timeout=100, token=wp.CancelToken(timeout=100)).submit(time.sleep, 0.01)",
    ],
)
def test_interpreter_ends_with_a_pool_in_every_state(run: RunScenario, own_gil: bool, leave: str) -> None:
    """What was submitted is done first, as at the end of the process."""
    run(
        f"""
        def threads():
            return len(os.listdir("/proc/self/task"))

        for _ in range(3):
            run('''pool = wp.WorkerPool(2); use(pool); {leave}''', {own_gil})
        assert not os.path.exists("/proc/self/task") or threads() == 1, threads()
        """
    )


@OWN_GIL
def test_jobs_of_an_interpreter_run_before_it_ends(run: RunScenario, own_gil: bool) -> None:
    done = run(
        f"""
        run('''
            pool = wp.WorkerPool(1)
            for _ in range(200):
                pool.submit(os.write, 1, b".")
        ''', {own_gil})
        """
    )
    assert done.stdout == "." * 200


@OWN_GIL
def test_many_interpreters_at_a_time(run: RunScenario, own_gil: bool) -> None:
    done = run(
        f"""
        failures = []

        def life():
            try:
                for _ in range(3):
                    run("pool = wp.WorkerPool(2); [use(pool) for _ in range(3)]", {own_gil})
            except BaseException as error:
                failures.append(error)

        with wp.WorkerPool(2) as pool:
            threads = [threading.Thread(target=life) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(5):
                use(pool)
            for thread in threads:
                thread.join()
        print(failures)
        """
    )
    assert done.stdout == "[]\n"


def test_a_gil_of_ones_own_is_not_waited_for(run: RunScenario) -> None:
    """Python jobs of an isolated interpreter run while this one keeps its GIL."""
    done = run(
        """
        import tempfile
        file = tempfile.TemporaryFile(buffering=0)
        size = lambda: os.fstat(file.fileno()).st_size
        thread = threading.Thread(target=run, args=(f'''
            pool = wp.WorkerPool(1)
            while os.fstat({file.fileno()}).st_size < 1_000_000:
                pool.submit(os.write, {file.fileno()}, b".").result()
        ''',))
        thread.start()
        while size() == 0:
            time.sleep(0.001)
        sys.setswitchinterval(100)  # Nobody is let in while this thread counts.
        before = size()
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
        print(size() - before > 100)
        sys.setswitchinterval(0.005)
        os.ftruncate(file.fileno(), 2_000_000)
        thread.join()
        """
    )
    assert done.stdout == "True\n"


def test_pool_object_of_another_interpreter_stays_there(run: RunScenario) -> None:
    """Each interpreter has its own module: its types are others, so a pool cannot be handed over by mistake."""
    done = run(
        """
        run(f"os.write(1, str(id(wp.WorkerPool) != {id(wp.WorkerPool)}).encode())")
        """
    )
    assert done.stdout == "True"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="the executor of interpreters came with 3.14")
def test_inside_the_executor_of_interpreters(run: RunScenario) -> None:
    """The standard one: each of its workers is an interpreter, and makes a pool there; a pool here feeds them."""
    done = run(
        """
        from concurrent.futures import InterpreterPoolExecutor

        def work(path, n):
            import sys
            sys.path[:] = path
            import workerpool
            with workerpool.WorkerPool(2) as pool:
                return sum(pool.map(int, range(n)))

        with InterpreterPoolExecutor(2) as interpreters, wp.WorkerPool(2) as pool:
            futures = list(pool.map(lambda n: interpreters.submit(work, sys.path, n).result(30), [10, 100, 1000]))
            use(pool)
        print(futures)
        """
    )
    assert done.stdout == "[45, 4950, 499500]\n"
