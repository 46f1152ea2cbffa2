"""Counts what a job costs on the hot paths: instructions under callgrind, system calls under strace.

python benchmarks/cost/count.py [--only PATTERN] [--functions N] [--json FILE] ...; `make cost` runs it.

Unlike times, such counts hardly depend on the machine or on what else it does, so tests/test_cost.py sets bounds to them.
They are no measure of speed: an instruction may take a fraction of a nanosecond or, where it misses the caches, a hundred.

Counted is everything that all threads of the process do between the first submission and the last result, in workerpool,
the interpreter and the C library, without start and warm-up. Instructions are those outside of the kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
C_FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-pthread", f"-I{CSRC / 'core'}", f"-I{CSRC / 'include'}"]
TIME_LIMIT = 300  # Seconds, for each program.
PYTHON, CORE = "python", "core"


class CannotCount(RuntimeError):
    """Something failed; the message says what."""


@dataclass(frozen=True)
class HotPath:
    """What is counted: by which program, and how many jobs under callgrind and under strace (0: not at all)."""

    name: str
    what: str
    program: str
    jobs: int
    traced_jobs: int

    def matches(self, patterns: Sequence[str]) -> bool:
        return not patterns or any(pattern in self.name or fnmatch(self.name, pattern) for pattern in patterns)


# So many jobs that a part that does not grow with them hardly counts. An event loop wakes a worker for each job or for many,
# by chance, so the system calls of awaited jobs are not counted.
HOT_PATHS = [
    HotPath("map-c", "map of a C function, double (double)", PYTHON, 20_000, 100_000),
    HotPath("map-py", "map of a Python function that adds one", PYTHON, 20_000, 100_000),
    HotPath("submit-c", "submit, then result, C function, all in flight", PYTHON, 4000, 100_000),
    HotPath("submit-py", "submit, then result, Python function that does nothing", PYTHON, 4000, 100_000),
    HotPath("round-trip-c", "submit(...).result() one at a time, C function", PYTHON, 4000, 0),
    HotPath("await-c", "await pool.run(...), all gathered, C function", PYTHON, 2000, 0),
    HotPath("await-py", "await pool.run(...), all gathered, Python function", PYTHON, 2000, 0),
    HotPath("stage", "C: wp_stage_put by one thread, wp_stage_get by another", CORE, 50_000, 100_000),
    HotPath("stage-put", "C: wp_stage_put, nobody reads the results", CORE, 50_000, 100_000),
    HotPath("function-jobs", "C: wp_function_job and wp_pool_submit_wait", CORE, 20_000, 100_000),
]


@dataclass
class Count:
    """What one repetition of a path came to."""

    jobs: int
    total: float = 0  # Instructions or system calls of each job.
    own: float = 0  # Of these, in workerpool's own code.
    parts: dict[str, float] = field(default_factory=dict)  # By function, or by name of the system call.


Counts = dict[str, list[Count]]

# ---- What is needed ----


def runs(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def lacks_compiler() -> str | None:
    """Say what is missing to build the programs."""
    if shutil.which(compiler()[0]) is None:
        return f"the C compiler '{compiler()[0]}' was not found; apt install gcc"
    if not runs(*compiler(), "-E", "-include", "valgrind/callgrind.h", "-x", "c", os.devnull):
        return "the header valgrind/callgrind.h was not found; apt install valgrind"
    return None


def lacks_callgrind() -> str | None:
    """Say why instructions cannot be counted here, or None."""
    if shutil.which("valgrind") is None:
        return "valgrind was not found; apt install valgrind"
    if not runs("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "true"):
        return "valgrind does not work here"
    return lacks_compiler()


def lacks_strace() -> str | None:
    """Say why system calls cannot be counted here, or None."""
    if shutil.which("strace") is None:
        return "strace was not found; apt install strace"
    if not runs("strace", "-f", "-qq", "-o", os.devnull, "true"):
        return "strace does not work here: processes may not be traced"
    return lacks_compiler()


# ---- Running the programs ----


def compile_c(output: Path, *arguments: str | Path) -> Path:
    command = [*compiler(), *C_FLAGS, "-o", str(output), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode != 0:
        raise CannotCount(f"building {output.name} failed:\n{done.stderr}")
    return output


def environment() -> dict[str, str]:
    """The same environment for all, whatever the shell's is. Without randomness of hashes, because it changes how long a
    search in a dictionary is."""
    package = find_spec("workerpool")
    if package is None or package.origin is None:
        raise CannotCount("workerpool is not installed here")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(Path(package.origin).parent.parent),
    }


def run(command: Sequence[str], folder: Path) -> None:
    """Run what counts, in a folder of its own, where it leaves what it found."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    if done.returncode != 0:
        raise CannotCount(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")


class Programs:
    """The programs of the paths, built in a folder when they are first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def command(self, program: str) -> list[str]:
        marks = HERE / "marks.c"
        if program == PYTHON:
            library = self._built("marks.so", "-shared", "-fPIC", marks)
            # Without site: what is installed beside workerpool is none of its cost.
            return [sys.executable, "-S", "-s", str(HERE / "paths.py"), str(library)]
        return [str(self._built("core", HERE / "paths.c", marks, *sorted(CSRC.glob("core/*.c")), "-lm"))]

    def _built(self, name: str, *arguments: str | Path) -> Path:
        output = self._folder / name
        return output if output.exists() else compile_c(output, *arguments)


# ---- Instructions ----


def read_names(lines: Iterator[str], key: str, names: dict[str, str], line: str) -> str:
    raise NotImplementedError


def main() -> int:
    return 0
