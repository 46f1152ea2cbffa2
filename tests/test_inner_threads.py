"""inner_threads: what OpenMP and BLAS libraries start inside jobs is limited, where it is promised and no further."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario

BuildLibrary = Callable[..., str]

# ---- Libraries that only count ----

# A number for the process or for each thread, and the functions to get and set it.
FAKE = """
#include <stdint.h>
{storage} {type} number = 8;
{type} {get}(void);
{type} {get}(void) {{ return number; }}
{result} {set}({type} n);
{result} {set}({type} n) {{ number = n; {give} }}
{more}
"""


def fake(
    getter: str, setter: str, *, each_thread: bool = False, wide: bool = False, result: str = "void", more: str = ""
) -> str:
    return FAKE.format(
        storage="static _Thread_local" if each_thread else "static",
        type="int64_t" if wide else "int",
        get=getter,
        set=setter,
        result=result,
        give="return 0;" if result == "int" else "",
        more=more,
    )


def fake_openblas(prefix: str = "", suffix: str = "", parallel: int = 1, more: str = "") -> str:
    asked = f"int {prefix}openblas_get_parallel{suffix}(void)"
    more += f"{asked};\n{asked} {{ return {parallel}; }}\n"
    return fake(f"{prefix}openblas_get_num_threads{suffix}", f"{prefix}openblas_set_num_threads{suffix}", more=more)


OPENMP = fake("omp_get_max_threads", "omp_set_num_threads", each_thread=True)
MKL = fake("MKL_Get_Max_Threads", "MKL_Set_Num_Threads_Local", each_thread=True, result="int")
BLIS = fake("bli_thread_get_num_threads", "bli_thread_set_num_threads", wide=True)

# By name: the file name, the source, and the function that gets the number.
EVERY: dict[str, tuple[str, str, str]] = {
    f"OpenBLAS {prefix}{suffix}": (
        f"lib{prefix}openblas{suffix}-fake.so.0",
        fake_openblas(prefix, suffix),
        f"{prefix}openblas_get_num_threads{suffix}",
    )
    for prefix in ("", "scipy_")
    for suffix in ("", "64_", "_64")
}
EVERY |= {
    "BLIS": ("libblis.so.4", BLIS, "bli_thread_get_num_threads"),
    "libblas": ("libblas.so.3", BLIS, "bli_thread_get_num_threads"),
    "libgomp": ("libgomp-a34b3233.so.1", OPENMP, "omp_get_max_threads"),
    "libomp": ("libomp.so.5", OPENMP, "omp_get_max_threads"),
    "libiomp5": ("libiomp5.so", OPENMP, "omp_get_max_threads"),
    "MKL": ("libmkl_rt.so.2", MKL, "MKL_Get_Max_Threads"),
}
OF_THE_PROCESS = [name for name, (_, source, _) in EVERY.items() if "_Thread_local" not in source]
OF_A_THREAD = [name for name in EVERY if name not in OF_THE_PROCESS]


@pytest.fixture
def build_library(tmp_path: Path) -> BuildLibrary:
    """build(file name, source, flags): a shared library, as a path."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no C compiler")

    def build(name: str, source: str, *flags: str) -> str:
        path = tmp_path / f"{name}.c"
        path.write_text(source)
        command = [*compiler, "-std=gnu11", "-O2", "-shared", "-fPIC", str(path), "-o", str(tmp_path / name), *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 and flags:
            pytest.skip(f"the compiler does not know {flags}: {done.stderr}")
        assert done.returncode == 0, done.stderr
        return str(tmp_path / name)

    return build


BEGIN = """
import ctypes, os, sys, threading, time
import workerpool as wp

path, name = sys.argv[1:3]
def load():
    global library
    library = ctypes.CDLL(path)
    library[name].restype = ctypes.c_int64 if "bli_" in name else ctypes.c_int
def number():
    return getattr(library, name)()
def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)
def numbers(pool, workers=2):
    barrier = threading.Barrier(workers)
    def ask():
        barrier.wait(20)
        return number()
    return [future.result(20) for future in [pool.submit(ask) for _ in range(workers)]]
"""

RunWith = Callable[[str, str], None]


@pytest.fixture
def run_with(run_scenario: RunScenario, build_library: BuildLibrary) -> RunWith:
    """run(name, code): runs code in a process that has the path of one of those libraries, in functions of BEGIN."""

    def run(name: str, code: str) -> None:
        file, source, getter = EVERY[name]
        path = build_library(file, source)
        run_scenario(BEGIN + code, timeout=40, args=[path, getter])

    return run


@pytest.mark.parametrize("name", OF_THE_PROCESS)
def test_number_of_the_process_is_set_and_put_back(run_with: RunWith, name: str) -> None:
    code = """
load()
assert number() == 8
with wp.WorkerPool(2, inner_threads=1) as pool:
    assert numbers(pool) == [1, 1]
    assert number() == 1
assert number() == 8
"""
    run_with(name, code)


@pytest.mark.parametrize("name", OF_A_THREAD)
def test_number_of_a_thread_is_set_on_workers_only(run_with: RunWith, name: str) -> None:
    code = """
load()
with wp.WorkerPool(2, inner_threads=3) as pool, wp.WorkerPool(1) as other:
    assert numbers(pool) == [3, 3]
    assert numbers(other, 1) == [8]
    assert number() == 8
assert number() == 8
"""
    run_with(name, code)


@pytest.mark.parametrize("name", ["OpenBLAS ", "BLIS", "libgomp", "MKL"])
def test_library_that_is_loaded_later(run_with: RunWith, name: str) -> None:
    code = """
with wp.WorkerPool(2, inner_threads=1) as pool:
    assert pool.submit(lambda: 5).result(20) == 5
    load()
    assert numbers(pool) == [1, 1]
"""
    run_with(name, code)


def test_library_that_a_job_loads(run_with: RunWith) -> None:
    code = """
with wp.WorkerPool(1, inner_threads=1) as pool:
    pool.submit(load).result(20)
    assert numbers(pool, 1) == [1]
assert number() == 8
"""
    run_with("OpenBLAS ", code)


def test_library_that_comes_while_only_native_jobs_run(run_with: RunWith) -> None:
    """Then it is found before a worker sleeps."""
    code = """
nothing = wp.native(":abs", "int (int)")
with wp.WorkerPool(1, inner_threads=1) as pool:
    pool.submit(nothing, 1).result(20)
    load()
    ask = wp.native(f"{path}:{name}", "int (void)")
    wait_until(lambda: pool.options().submit(ask).result(20) == 1)
assert number() == 8
"""
    run_with("OpenBLAS ", code)


def test_a_number_is_never_raised(run_with: RunWith) -> None:
    code = """
load()
with wp.WorkerPool(2, inner_threads=16) as pool:
    assert numbers(pool) == [8, 8]
    library.openblas_set_num_threads(2)
    with wp.WorkerPool(1, inner_threads=4) as other:
        assert numbers(other, 1) == [2]
    assert number() == 2
"""
    run_with("OpenBLAS ", code)


def test_several_pools_and_the_least_of_their_limits(run_with: RunWith) -> None:
    code = """
load()
wide = wp.WorkerPool(1, inner_threads=3)
narrow = wp.WorkerPool(1, inner_threads=1)
free = wp.WorkerPool(1)
assert numbers(wide, 1) == [3]
assert numbers(narrow, 1) == [1]
assert numbers(free, 1) == numbers(wide, 1) == [1]
narrow.shutdown()
assert number() == 3
again = wp.WorkerPool(1, inner_threads=2)
assert numbers(again, 1) == [2]
wide.shutdown()
assert number() == 2
again.shutdown()
assert number() == 8
free.shutdown()
"""
    run_with("OpenBLAS ", code)


def test_what_somebody_else_sets_meanwhile_stays(run_with: RunWith) -> None:
    code = """
load()
with wp.WorkerPool(1, inner_threads=1) as pool:
    assert numbers(pool, 1) == [1]
    library.openblas_set_num_threads(5)
    assert numbers(pool, 1) == [5]
assert number() == 5
"""
    run_with("OpenBLAS ", code)


def test_initializer_runs_after_it_and_may_change_it(run_with: RunWith) -> None:
    code = """
load()
seen = []
def initialize(wanted):
    seen.append(number())
    library.omp_set_num_threads(wanted)
with wp.WorkerPool(2, inner_threads=1, initializer=initialize, initargs=(2,)) as pool:
    assert numbers(pool) == [2, 2]
assert seen == [1, 1]
"""
    run_with("libgomp", code)


def test_failing_initializer_leaves_nothing_behind(run_with: RunWith) -> None:
    code = """
import logging
logging.disable()
load()
pool = wp.WorkerPool(1, inner_threads=1, initializer=lambda: 1 / 0)
try:
    pool.submit(number).result(20)
except wp.BrokenPool:
    pass
pool.shutdown()
assert number() == 8
"""
    run_with("OpenBLAS ", code)


def test_workers_that_leave_put_it_back(run_with: RunWith) -> None:
    code = """
load()
with wp.WorkerPool(2, inner_threads=1, idle_timeout=0.01) as pool:
    for _ in range(3):
        assert numbers(pool) == [1, 1]
        wait_until(lambda: number() == 8)
pool = wp.WorkerPool(2, inner_threads=1)
assert numbers(pool) == [1, 1]
pool.shutdown(wait=False)
wait_until(lambda: number() == 8)
pool = wp.WorkerPool(2, inner_threads=1)
assert numbers(pool) == [1, 1]
del pool
wait_until(lambda: number() == 8)
"""
    run_with("OpenBLAS ", code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_forked_child(run_with: RunWith) -> None:
    """The workers are not there, and a pool of the child's own does as it says."""
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
load()
with wp.WorkerPool(2, inner_threads=1) as pool:
    assert numbers(pool) == [1, 1]
    child = os.fork()
    if child == 0:
        assert numbers(pool) == [1, 1]
        pool.shutdown()
        assert number() == 8
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert number() == 1
assert number() == 8
"""
    run_with("OpenBLAS ", code)


def test_openblas_built_with_openmp_is_limited_on_workers_only(
    run_scenario: RunScenario, build_library: BuildLibrary
) -> None:
    """Its own number, of the process, is left alone: such a library asks OpenMP for each call."""
    path = build_library("libopenblas.so.0", fake_openblas(parallel=2) + OPENMP.replace("number", "openmp_number"))
    code = """
library = ctypes.CDLL(path)
both = lambda: (library.openblas_get_num_threads(), library.omp_get_max_threads())
with wp.WorkerPool(1, inner_threads=1) as pool:
    assert pool.submit(both).result(20) == (8, 1)
    assert both() == (8, 8)
"""
    run_scenario(BEGIN + code, args=[path, ""])


def test_libraries_of_other_names_are_not_asked(run_scenario: RunScenario, build_library: BuildLibrary) -> None:
    path = build_library("libsomething.so", fake_openblas())
    code = """
load()
with wp.WorkerPool(1, inner_threads=1) as pool:
    assert numbers(pool, 1) == [8]
"""
    run_scenario(BEGIN + code, args=[path, "openblas_get_num_threads"])


def test_library_that_is_unloaded_meanwhile(run_scenario: RunScenario, build_library: BuildLibrary) -> None:
    """It stays as long as its number is to be put back."""
    path = build_library("libopenblas.so.0", fake_openblas())
    code = """
import _ctypes
load()
with wp.WorkerPool(2, inner_threads=1) as pool:
    assert numbers(pool) == [1, 1]
    _ctypes.dlclose(library._handle)
    assert path in open("/proc/self/maps").read()
    pool.submit(lambda: None).result(20)
assert path not in open("/proc/self/maps").read()
with wp.WorkerPool(2, inner_threads=1) as pool:
    pool.submit(lambda: None).result(20)
"""
    if not Path("/proc/self/maps").exists():
        pytest.skip("there is no /proc/self/maps")
    run_scenario(BEGIN + code, args=[path, "openblas_get_num_threads"])


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("1", TypeError)])
def test_wrong_numbers(wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="inner_threads must be"):
        wp.WorkerPool(1, inner_threads=wrong)


def test_a_very_large_number_is_no_limit() -> None:
    with wp.WorkerPool(1, inner_threads=2**70) as pool:
        assert pool.submit(lambda: 5).result() == 5


# ---- Libraries that compute ----

# Which threads of this process were busy: those with more than a fifth of the processor time of the busiest. How long a
# thread waits for a processor does not matter to it.
BUSY = """
import os
def times():
    seconds = {}
    for thread in os.listdir("/proc/self/task"):
        try:
            fields = open(f"/proc/self/task/{thread}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        seconds[thread] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds
def busy_threads(work):
    before = times()
    work()
    spent = {thread: end - before.get(thread, 0) for thread, end in times().items()}
    assert max(spent.values()) >= 0.2, spent
    # A library's idle threads may spin for some hundredths of a second before they sleep.
    return sum(seconds > max(spent.values()) / 3 for seconds in spent.values())
"""
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc/self/task")


@pytest.mark.timeout(130)
@NEEDS_PROC
@pytest.mark.parametrize("inner_threads", [None, 1])
def test_two_blas_products_keep_two_threads_busy(run_scenario: RunScenario, inner_threads: int | None) -> None:
    for package in ("numpy", "threadpoolctl"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    code = (
        BUSY
        + """
import threading, time
import numpy, threadpoolctl
import workerpool as wp
blas = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
if not blas or blas[0]["internal_api"] not in {"openblas", "mkl"}:
    print("skip")
    raise SystemExit
threadpoolctl.threadpool_limits(4, "blas")  # As on a machine of four processors.
matrices = numpy.random.default_rng(0).random((2, 600, 600))
barrier = threading.Barrier(2)
def multiply(matrix):
    barrier.wait(20)
    begin = time.thread_time()
    while time.thread_time() - begin < 0.5:
        matrix @ matrix
    return [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
with wp.WorkerPool(2, inner_threads=INNER) as pool:
    results = []
    print(busy_threads(lambda: results.extend(pool.map(multiply, matrices, chunksize=1))))
assert all(numbers == [INNER or 4] * len(blas) for numbers in results), results
after = [library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
assert after == [4] * len(blas), after
""".replace("INNER", str(inner_threads))
    )
    printed = run_scenario(code, timeout=110, options=["-X", "dev"]).stdout.strip()
    if printed == "skip":
        pytest.skip("NumPy's BLAS is none that is known here")
    if inner_threads == 1:
        assert printed == "2"
    else:
        assert int(printed) > 2, "without a limit there must be something to limit"


OPENMP_WORK = """
#include <time.h>
double work(double seconds);
double
work(double seconds)
{
    double total = 0;
#pragma omp parallel reduction(+ : total)
    {
        struct timespec begin, now;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
        do {
            total += 1;
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        } while ((double)(now.tv_sec - begin.tv_sec) + (double)(now.tv_nsec - begin.tv_nsec) * 1e-9 < seconds);
    }
    return total;
}
"""


@NEEDS_PROC
@pytest.mark.parametrize(("inner_threads", "expected"), [(None, "4"), (1, "2"), (2, "4")])
def test_two_native_jobs_with_openmp(
    run_scenario: RunScenario, build_library: BuildLibrary, inner_threads: int | None, expected: str
) -> None:
    """Each worker has a team of its own: two workers with teams of two keep four threads busy."""
    path = build_library("work.so", OPENMP_WORK, "-fopenmp")
    code = (
        BUSY
        + f"""
import workerpool as wp
work = wp.native({path!r} + ":work", "double (double)")
with wp.WorkerPool(2, inner_threads={inner_threads}) as pool:
    print(busy_threads(lambda: [f.result(30) for f in [pool.submit(work, 0.3) for _ in range(2)]]))
"""
    )
    done = run_scenario(code, timeout=40, env={"OMP_NUM_THREADS": "2", "OMP_DYNAMIC": "false"})
    assert done.stdout.strip() == expected


@NEEDS_PROC
def test_two_native_jobs_with_a_blas_product(run_scenario: RunScenario) -> None:
    """NumPy's own library, called without Python, by workers that never ran any."""
    if sys.platform != "linux" or importlib.util.find_spec("threadpoolctl") is None:
        pytest.skip("threadpoolctl is not installed")
    pytest.importorskip("numpy")
    code = (
        BUSY
        + """
import numpy, threadpoolctl
import workerpool as wp
(path,) = [x["filepath"] for x in threadpoolctl.threadpool_info() if x["prefix"] == "libscipy_openblas"][:1] or [None]
if path is None or "64_" not in path:
    print("skip")
    raise SystemExit
threadpoolctl.threadpool_limits(4, "blas")
signature = ("void (int, int, int, int64_t, int64_t, int64_t, double, const double *, int64_t, const double *, "
             "int64_t, double, double *, int64_t)")
dgemm = wp.native(f"{path}:scipy_cblas_dgemm64_", signature)
n = 1200
a = numpy.random.default_rng(0).random((n, n))
results = [numpy.zeros((n, n)) for _ in range(2)]
def work():
    for _ in range(5):
        for future in [pool.submit(dgemm, 101, 111, 111, n, n, n, 1.0, a, n, a, n, 0.0, c, n) for c in results]:
            future.result(30)
with wp.WorkerPool(2, inner_threads=1) as pool:
    print(busy_threads(work))
assert all(numpy.allclose(c, a @ a) for c in results)
"""
    )
    printed = run_scenario(code, timeout=50, options=["-X", "dev"]).stdout.strip()
    if printed == "skip":
        pytest.skip("NumPy's BLAS is another")
    assert printed == "2"
