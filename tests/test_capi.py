"""The C API for other extensions, as a module in C uses it that was built against the installed package."""

from __future__ import annotations

import array
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import clients
import workerpool as wp
from conftest import RunScenario
from support import FREE_THREADED, LONG, occupied, wait_until

pytestmark = [pytest.mark.build, pytest.mark.timeout(180)]

# enum wp_result and enum wp_state.
OK, FULL, CLOSED, BROKEN, STOPPED, LATE, INTERRUPTED, NO_MEMORY, NO_THREAD, FINISHED, ERROR, INVALID = range(12)
DONE, FAILED, TIMED_OUT, CANCELLED = 3, 4, 5, 6


@pytest.fixture(scope="session")
def client_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clients.build("client.c", tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="session")
def client(client_folder: Path) -> Any:
    return clients.load(client_folder, "client")


@pytest.fixture(params=["borrowed", "own"])
def pool(client: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A pool of two workers and three lanes: of Python, or made in C."""
    if request.param == "borrowed":
        with wp.WorkerPool(2, queue_size=100) as pool:
            yield client.borrow(pool)
    else:
        own = client.make_pool(2, 3, 100)
        yield own
        client.end_pool(own)


def in_client(folder: Path, code: str) -> str:
    """Code for a scenario that imports the client."""
    return f"import sys\nsys.path.insert(0, {str(folder)!r})\n{code}"


# ---- The table and the headers ----


def test_table(client: Any) -> None:
    table = client.table()
    assert table["abi_version"] == 1
    assert table["size"] == table["known"]
    assert type(wp._core._C_API).__name__ == "PyCapsule"


def test_clock(client: Any) -> None:
    now, soon, never = client.times()
    assert 1e9 <= soon - now < 2e9
    assert never == 2**64 - 1


@pytest.mark.parametrize(
    ("command", "header"),
    [
        ("cc -x c -std=c99 -pedantic-errors", "workerpool.h"),
        ("cc -x c -std=c11 -Wconversion", "workerpool.h"),
        ("c++ -x c++ -std=c++11 -pedantic-errors", "workerpool.h"),
        ("cc -x c -std=c11", "workerpool_api.h"),
        ("c++ -x c++ -std=c++17", "workerpool_api.h"),
    ],
)
def test_header_compiles_alone(command: str, header: str, tmp_path: Path) -> None:
    compiler, *flags = command.split()
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler}")
    source = tmp_path / "source"
    source.write_text(f"#include <{header}>\nint use(void);\nint use(void) {{ return (int)WP_NEVER; }}\n")
    folders = [f"-I{wp.get_include()}"]
    if header == "workerpool_api.h":
        folders += [f"-isystem{sysconfig.get_path(name)}" for name in ("include", "platinclude")]
    else:
        assert "Python.h" not in (Path(wp.get_include()) / header).read_text()
    done = subprocess.run(
        [compiler, *flags, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", *folders, str(source)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_was_built_once_still_fits(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no cc")
    folders = [wp.get_include(), sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    source = str(clients.SOURCES / "abi.c")
    command = [compiler, "-std=c11", "-fsyntax-only", *(f"-I{folder}" for folder in folders), source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("abi_version", "size", "advice"),
    [(1, 40, "install a newer workerpool"), (2, 4000, "build the module again")],
)
def test_another_version_is_refused(
    client_folder: Path, run_scenario: RunScenario, abi_version: int, size: int, advice: str
) -> None:
    code = f"""
import ctypes, workerpool
new = ctypes.pythonapi.PyCapsule_New
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
table = (ctypes.c_uint32 * 1000)({abi_version}, {size})
name = b"workerpool._core._C_API"
real = workerpool._core._C_API
workerpool._core._C_API = new(ctypes.addressof(table), name, None)
try:
    import client
except ImportError as error:
    print(error)
"""
    done = run_scenario(in_client(client_folder, code))
    assert "workerpool's C API" in done.stdout
    assert done.stdout.strip().endswith(advice)


def test_results_as_exceptions(client: Any) -> None:
    assert client.exception_of(OK) is None
    assert client.exception_of(INTERRUPTED) is None  # There was no signal.
    expected = {
        FULL: wp.QueueFull,
        CLOSED: RuntimeError,
        BROKEN: wp.BrokenPool,
        STOPPED: CancelledError,
        LATE: TimeoutError,
        NO_MEMORY: MemoryError,
        NO_THREAD: RuntimeError,
        FINISHED: wp.Error,
        ERROR: wp.Error,
        INVALID: ValueError,
    }
    for result, exception in expected.items():
        with pytest.raises(exception):
            client.exception_of(result)


# ---- Borrowing ----


def test_borrow_a_pool_and_its_views(client: Any) -> None:
    with wp.WorkerPool(3) as pool:
        assert client.describe(client.borrow(pool)) == {"max_workers": 3, "lanes": 3, "lane": 1, "token": False}
        assert client.describe(client.borrow(pool.lane("high")))["lane"] == 0
        view = pool.options(lane="low", token=wp.CancelToken())
        assert client.describe(client.borrow(view)) == {"max_workers": 3, "lanes": 3, "lane": 2, "token": True}
    with wp.ThreadPoolExecutor(1) as executor:
        assert client.squares(client.borrow(executor), 3, 0) == [0, 1, 4]


def test_what_cannot_be_borrowed(client: Any) -> None:
    for wrong in [None, 5, "pool", wp.WorkerPool]:
        with pytest.raises(TypeError, match="a WorkerPool or a view of one is needed"):
            client.borrow(wrong)
    with pytest.raises(RuntimeError, match="__init__"):
        client.borrow(wp.WorkerPool.__new__(wp.WorkerPool))
    with wp.WorkerPool(1) as pool:
        view = pool.lane("high")
        view.shutdown(wait=False)
        with pytest.raises(RuntimeError, match="after shutdown"):
            client.borrow(view)
        with pytest.raises(TypeError, match="CancelToken"):
            client.stop_one(client.borrow(pool), "token", pool)


def test_borrowed_pool_outlives_its_owner(client: Any) -> None:
    pool = wp.WorkerPool(1)
    borrowed = client.borrow(pool)
    assert client.squares(borrowed, 3, 0) == [0, 1, 4]
    pool.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        client.squares(borrowed, 3, 0)
    del pool
    assert client.describe(borrowed)["max_workers"] == 1
    assert client.double_all(borrowed, array.array("d", [1, 2, 3]), 1) == 12


# ---- Pools of our own ----


def test_own_pool(client: Any) -> None:
    pool = client.make_pool()
    assert client.describe(pool) == {
        "max_workers": wp._core.processors(),
        "lanes": 1,
        "lane": 0,
        "token": False,
    }
    assert client.count(pool, 50) == 50
    client.end_pool(pool)
    with pytest.raises(RuntimeError, match="after shutdown"):
        client.count(pool, 1)
    named = client.make_pool(1, 2, 5, "in C")
    assert client.squares(named, 20, 1)[-1] == 361


def test_exit_waits_for_a_pool_of_our_own(client_folder: Path, run_scenario: RunScenario) -> None:
    code = """
import client, os
client.leave_behind(client.make_pool(2), 20)
kept = client.make_pool(1)
client.leave_behind(kept, 5)
os.write(1, b"end of main\\n")  # At once, or what the jobs print comes into it.
"""
    lines = run_scenario(in_client(client_folder, code)).stdout.splitlines()
    assert sorted(lines) == sorted(["end of main", *(f"job {i} done" for i in range(1, 26))])


# ---- Jobs ----


def test_jobs_and_handles(client: Any, pool: Any) -> None:
    assert client.squares(pool, 300, 2) == [i * i for i in range(300)]
    assert client.squares(pool, 0, 0) == []


def test_jobs_without_handles(client: Any, pool: Any) -> None:
    assert client.count(pool, 200) == 200


@pytest.mark.parametrize("how", ["handle", "token", "time limit"])
def test_a_running_job_is_stopped(client: Any, pool: Any, how: str) -> None:
    token = wp.CancelToken() if how == "token" else None
    state, status, message = client.stop_one(pool, how, token)
    assert state == (TIMED_OUT if how == "time limit" else FAILED)
    assert status == 7
    assert message == ("the time was over" if how == "time limit" else "was asked to stop")
    assert token is None or token.cancelled


@pytest.mark.thread_unsafe(reason="the job needs a worker before its token's time is over")
def test_a_token_of_python_stops_jobs_of_c(client: Any, pool: Any) -> None:
    token = wp.CancelToken(timeout=0.05)
    state, status, _ = client.stop_one(pool, "a token that cancels itself", token)
    assert (state, status) == (FAILED, 7)
    with pytest.raises(CancelledError):
        client.stop_one(pool, "cancelled", token)


def test_tokens_of_our_own(client: Any, pool: Any) -> None:
    assert 1 <= client.token_tree(pool) <= 2  # Two workers; the third job was withdrawn.


def test_children_that_are_waited_for(client: Any, run_scenario: RunScenario, client_folder: Path) -> None:
    code = """
import client, workerpool as wp
for workers in (1, 2, 3):
    with wp.WorkerPool(workers, queue_size=1) as pool:
        assert client.fibonacci(client.borrow(pool), 12) == 144
    own = client.make_pool(workers, 1, 1)
    assert client.fibonacci(own, 12) == 144
"""
    run_scenario(in_client(client_folder, code), timeout=30)


def test_jobs_of_c_and_python_side_by_side(client: Any) -> None:
    with wp.WorkerPool(2) as pool:
        borrowed = client.borrow(pool)
        futures = [pool.submit(pow, 2, i) for i in range(200)]
        assert client.squares(borrowed, 200, 1)[-1] == 199**2
        assert client.fibonacci(borrowed, 10) == 55
        assert [future.result(LONG) for future in futures] == [2**i for i in range(200)]
        # Jobs in Python that wait for jobs in C of their own pool.
        nested = [pool.submit(client.squares, borrowed, 20, 1) for _ in range(8)]
        assert {future.result(LONG)[-1] for future in nested} == {361}
        stats = pool.stats().lanes["normal"]
    assert (stats.waiting, stats.lost) == (0, 0)


def test_shutdown_cancels_jobs_of_c_that_wait(client: Any) -> None:
    pool = wp.WorkerPool(1)
    borrowed = client.borrow(pool)
    with occupied(pool):
        counts: list[int] = []
        thread = threading.Thread(target=lambda: counts.append(client.count(borrowed, 10)))
        thread.start()
        wait_until(lambda: pool.stats().lanes["normal"].waiting == 10)
        pool.shutdown(wait=False, cancel_futures=True)
    thread.join(LONG)
    pool.shutdown()
    assert counts == [0]


# ---- Parallel ranges ----


@pytest.mark.parametrize("n", [0, 1, 7, 1000, 100_000])
@pytest.mark.parametrize("grain", [0, 1, 64])
def test_parallel_range(client: Any, pool: Any, n: int, grain: int) -> None:
    numbers = array.array("d", range(n))
    assert client.double_all(pool, numbers, grain) == n * (n - 1)
    assert numbers == array.array("d", range(0, 2 * n, 2))


def test_parallel_range_that_fails(client: Any, pool: Any) -> None:
    begin, end, status = client.double_all(pool, array.array("d", range(1000)), 10, 555)
    assert (begin, end, status) == (550, 560, 9)


def test_parallel_range_that_is_cancelled(client: Any, pool: Any) -> None:
    numbers = array.array("d", [1.0]) * 100_000
    with pytest.raises(CancelledError):
        client.double_all(pool, numbers, 10, -1, 5000)
    assert 5000 < numbers.count(2.0) < 6000


def test_parallel_range_needs_no_room_and_no_worker(client: Any) -> None:
    with wp.WorkerPool(1, queue_size=1) as pool, occupied(pool):
        pool.submit(int)
        assert client.double_all(client.borrow(pool), array.array("d", [1.0]) * 1000, 1) == 2000


# ---- Stages ----


@pytest.mark.parametrize("capacity", [1, 10, 1000])
def test_stage(client: Any, pool: Any, capacity: int) -> None:
    n = 3000
    assert client.stage_sum(pool, n, capacity) == (-n * (n + 1) // 2, n * (n + 1) // 2)


def test_stage_that_is_cancelled(client: Any) -> None:
    with wp.WorkerPool(1) as pool:
        assert client.stage_cancel(client.borrow(pool)) == (FULL, LATE, 1, 4, CLOSED)


# ---- The backend for others ----


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_others_jobs(client: Any, pool: Any, n: int) -> None:
    assert client.others_jobs(pool, n) == n


# ---- What is refused ----


def test_wrong_use(client: Any, pool: Any) -> None:
    results = client.wrong_use(pool)
    assert results.pop("waits for itself") == 0
    assert set(results.values()) == {INVALID}


# ---- The documentation ----


def test_example_of_the_documentation(tmp_path: Path) -> None:
    clients.build_example("c", "squares", tmp_path)
    squares = clients.load(tmp_path, "squares")
    numbers = array.array("d", range(1000))
    with wp.WorkerPool(2) as pool:
        assert squares.sum_of_squares(pool.lane("high"), numbers) == sum(i * i for i in range(1000))
        token = wp.CancelToken()
        token.cancel()
        with pytest.raises(CancelledError):
            squares.sum_of_squares(pool.options(token=token), numbers)
    with pytest.raises(TypeError, match="a WorkerPool or a view"):
        squares.sum_of_squares(None, numbers)


def test_job_of_the_documentation_compiles(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no cc")
    source = tmp_path / "scan.c"
    source.write_text(clients.example("c", 0))
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{wp.get_include()}"]
    done = subprocess.run([compiler, *flags, str(source)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# ---- Threads and interpreters ----


def test_many_threads(client: Any, pool: Any) -> None:
    failed: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(10):
                assert client.squares(pool, 30, 0)[-1] == 841
                assert client.double_all(pool, array.array("d", [1.0]) * 500, 0) == 1000
                assert client.stage_sum(pool, 50, 10) == (-1275, 1275)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert failed == []


@pytest.mark.skipif(not FREE_THREADED, reason="there is a GIL")
def test_the_gil_stays_off(client: Any) -> None:
    assert not sys._is_gil_enabled()  # type: ignore[attr-defined]


def test_another_interpreter(client_folder: Path, run_scenario: RunScenario) -> None:
    code = f"""
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import client, threading, workerpool as wp

USE = '''
import os, sys
sys.path[:0] = {sys.path!r}
sys.path.insert(0, {str(client_folder)!r})
import client, workerpool as wp
with wp.WorkerPool(2) as pool:
    for _ in range(20):
        assert client.squares(client.borrow(pool), 30, 1)[7] == 49
own = client.make_pool(2)
client.leave_behind(own, 3)
# At once: a print beside another interpreter's is mixed with it.
os.write(1, b"state %d\\\\n" % client.table()["state"])
'''

both_are_there = threading.Barrier(2)
problems = []

def use_another():
    there = interpreters.create()
    problems.append(interpreters.run_string(there, USE))
    both_are_there.wait(20)
    interpreters.destroy(there)  # Not by another thread: until 3.12 the interpreter would wait for this one.

threads = [threading.Thread(target=use_another) for _ in range(2)]
for thread in threads:
    thread.start()
with wp.WorkerPool(2) as pool:
    for _ in range(20):
        assert client.squares(client.borrow(pool), 30, 1)[7] == 49
for thread in threads:
    thread.join()
assert problems == [None, None], problems
print("state", client.table()["state"])
"""
    lines = run_scenario(in_client(client_folder, code), timeout=40).stdout.splitlines()
    states = {line for line in lines if line.startswith("state")}
    assert len(states) == 3, f"each interpreter has a table of its own: {lines}"
    assert sum(line.endswith("done") for line in lines) == 6, f"and waits for its pools when it ends: {lines}"


def test_client_outlives_the_package(client_folder: Path, run_scenario: RunScenario) -> None:
    code = """
import gc, client
own = client.make_pool(2)
import workerpool
pool = workerpool.WorkerPool(1)
for name in [name for name in sys.modules if name.split(".")[0] == "workerpool"]:
    del sys.modules[name]
del workerpool
gc.collect()
assert client.squares(client.borrow(pool), 3, 0) == [0, 1, 4]
del pool
gc.collect()
assert client.squares(own, 10, 0)[-1] == 81
client.end_pool(own)
"""
    run_scenario(in_client(client_folder, code))


def test_forked_child_has_a_fresh_pool(client_folder: Path, run_scenario: RunScenario) -> None:
    code = """
import os, warnings, client, workerpool as wp
warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of a fork beside threads.
own = client.make_pool(2)
with wp.WorkerPool(2) as pool:
    borrowed = client.borrow(pool)
    assert client.count(own, 5) == client.count(borrowed, 5) == 5
    child = os.fork()
    if child == 0:
        assert client.count(own, 5) == client.count(borrowed, 5) == 5
        client.end_pool(own)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert client.count(own, 5) == client.count(borrowed, 5) == 5
"""
    run_scenario(in_client(client_folder, code))
