"""Each example runs, and shows what its first lines promise."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path

import pytest

from conftest import SLOWER, scenario_environment

EXAMPLES = Path(__file__).parent.parent / "examples"
SECONDS = 30
# What asyncio says in development mode where a step took longer than 100 ms: that the machine had other things to do.
SLOW_STEP = re.compile(r"Executing <.*> took \d+\.\d+ seconds\n")


def run(name: str, *arguments: str) -> list[str]:
    """Runs an example with all warnings as errors, and returns the lines that it wrote."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS * SLOWER,
        check=False,
        env=scenario_environment({}),
    )
    assert (done.returncode, SLOW_STEP.sub("", done.stderr)) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


def milliseconds(lines: Sequence[str]) -> list[int]:
    return [int(re.search(r"(\d+) ms", line)[1]) for line in lines]


def test_every_example_is_tested() -> None:
    names = {path.name for path in EXAMPLES.glob("*.py")}
    tested = set(re.findall(r'run\(\s*"(\w+\.py)"', Path(__file__).read_text(encoding="utf-8")))
    assert names == tested


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_example_is_short_and_names_its_pattern(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(('"""Go pattern: ', '"""Toolchain: '))
    assert len(text.splitlines()) <= 45


def test_jobs_and_results() -> None:
    *jobs, total = run("01_jobs_and_results.py")
    assert sorted(jobs) == [f"job {number}: {number + 1} squared is {(number + 1) ** 2}" for number in range(9)]
    assert total == "sum of 9 results: 285"


def test_number_of_workers() -> None:
    lines = run("02_number_of_workers.py", "1", "5")
    assert [line.split(" in ")[0].strip() for line in lines] == ["1 workers: 20 jobs", "5 workers: 20 jobs"]
    one, five = milliseconds(lines)
    assert one >= 200
    assert five >= 40
    assert five < one


def test_which_worker() -> None:
    lines = run("03_which_worker.py")
    found = [re.fullmatch(r"worker (\d) did (\d+) jobs: \[(.*)\]", line) for line in lines]
    assert [match[1] for match in found] == ["0", "1", "2"]
    assert [match[2] for match in found] == ["4", "4", "4"], "three at a time, and no worker twice at one time"
    assert sorted(int(job) for match in found for job in match[3].split(",")) == list(range(12))


def test_thousand_jobs() -> None:
    assert run("04_thousand_jobs.py") == [
        "1000 results in order; each job done exactly once: True",
        "at most 5 threads: True; at most 5 jobs at a time: True",
    ]


def test_errors() -> None:
    assert run("05_errors.py") == [
        "'10': 10",
        "'twenty': ValueError(\"invalid literal for int() with base 10: 'twenty'\")",
        "'30': 30",
        "'': ValueError(\"invalid literal for int() with base 10: ''\")",
        "'50': 50",
        "raised here, failed in parse(): return int(text)",
    ]


def test_cancel_on_first_error() -> None:
    assert run("06_cancel_on_first_error.py") == [
        "first error: job 3 is broken; all others are cancelled",
        "1 failed, 0 done, 99 cancelled, of 100",
    ]


def test_time_limit() -> None:
    assert run("07_time_limit.py") == [
        "quick: 1 steps done",
        "waiting: JobExpired, it never began",
        "slow: JobTimeout, stopped itself early: True",
    ]


def test_priority() -> None:
    assert run("08_priority.py") == [
        "order: high 1, high 2, normal 1, normal 2, normal 3, low 1, low 2, low 3",
    ]


def test_back_pressure() -> None:
    same = ["  caller_runs: it ran in MainThread", "  discard: cancelled is True", "  block: SubmitTimeout after 10 ms"]
    assert run("09_back_pressure.py") == [
        "queue_size=2: 2 jobs wait, then QueueFull",
        *same,
        "queue_size=0: 0 jobs wait, then QueueFull",
        *same,
    ]


def test_graceful_shutdown() -> None:
    lines = run("10_graceful_shutdown.py")
    assert lines[:2] == ["drained: True, 10 jobs done", "Ctrl-C: the wait ended, the job still runs: True"]
    assert re.fullmatch(r"shutdown: .*\bstill run\b.*: worker 0: .*", lines[2])
    assert lines[3:] == ["5 of 5 waiting jobs were cancelled", "ended: True"]


def test_native_function() -> None:
    assert run("11_native_function.py") == [
        "79 chunks of 5120000 bytes: crc32 a134919c",
        "the same as zlib.crc32(): True",
    ]


def test_asyncio() -> None:
    assert run("12_asyncio.py") == [
        *(f"job {number} on pool" for number in range(4)),
        "meanwhile the event loop went on: True",
        "job 4 on default",
    ]


def test_numba_cancel() -> None:
    pytest.importorskip("numba")
    short, long = run("18_numba_cancel.py")
    assert short == "short: 1000"
    seconds = re.fullmatch(r"long: cancelled is True after (\d+\.\d+) s", long)
    assert 0.05 <= float(seconds[1]) < SECONDS


def test_progress_from_c() -> None:
    assert run("19_progress_from_c.py") == [
        "progress: True in between, 100% at the end",
        "the other: NativeError('step 3 is broken') at 30%",
    ]


def test_blosc2_threads() -> None:
    if find_spec("blosc2") is None and find_library("blosc2") is None:
        pytest.skip("there is no c-blosc2")
    lines = run("20_blosc2_threads.py")
    found = [re.fullmatch(r"(.+): (\d+) of 8000000 bytes, the same again: True, \d+ ms", line) for line in lines]
    assert [match[1] for match in found] == ["one", "its own", "the pool's"]
    assert len({match[2] for match in found}) == 1


# ---- Toolchains: what they compute, and that they say how fast they were. Which was faster is for benchmarks. ----


def run_toolchain(lines: list[str]) -> list[str]:
    if lines[0].startswith("skipped: "):
        pytest.skip(lines[0])
    assert re.fullmatch(r"workerpool \d+\.\d ms, ThreadPoolExecutor \d+\.\d ms", lines[-1])
    return lines[:-1]


def test_numba_monte_carlo() -> None:
    (line,) = run_toolchain(run("13_numba_monte_carlo.py"))
    found = re.fullmatch(r"(\d\.\d{3}); the same: True", line)
    # By Black and Scholes it is 6.705; the paths are the same every time.
    assert found
    assert abs(float(found[1]) - 6.705) < 0.1


def test_cffi_sha256(tmp_path: Path) -> None:
    (line,) = run_toolchain(run("14_cffi_sha256.py"))
    assert re.fullmatch(r"\d+ files of \d+ bytes; the same as hashlib: True", line)
    (tmp_path / "one.py").write_text("print()")
    (line,) = run_toolchain(run("14_cffi_sha256.py", str(tmp_path)))
    assert line == "1 files of 7 bytes; the same as hashlib: True"


@pytest.mark.slow
def test_cython_array() -> None:
    assert run_toolchain(run("15_cython_array.py")) == ["10000 rows; the same as NumPy: True"]


def test_ctypes_zlib(tmp_path: Path) -> None:
    sizes, same = run_toolchain(run("16_ctypes_zlib.py"))
    assert re.fullmatch(r"\d+ bytes to \d+ in \d+ blocks", sizes)
    assert same == "the same log again: True"
    log = tmp_path / "small.log"
    log.write_text("INFO something happened\n" * 1000)
    sizes, same = run_toolchain(run("16_ctypes_zlib.py", str(log)))
    assert sizes.startswith("24000 bytes to ")
    assert same == "the same log again: True"


def test_array() -> None:
    assert run("17_array.py") == [
        "two arrays: True",
        "an array and a number: True",
        "the same in place: True",
        "cancelled: usleep() was stopped",
    ]
