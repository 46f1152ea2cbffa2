"""Runs the Python tests with the extension under sanitizers, and judges what these report.

    python tests/sanitize.py address [--quick] [arguments for pytest]
    python tests/sanitize.py thread [--quick] [arguments for pytest]

The interpreter that runs this runs the tests. `address` means AddressSanitizer with its leak check, and
UndefinedBehaviorSanitizer; any interpreter will do, with the sanitizer's library loaded before it. `thread` means
ThreadSanitizer, and an interpreter that was built with it: in one that was not, the GIL and all of CPython's locks
would be unknown to it, and everything a race.

WHAT IS BUILT. The extension, in a folder of its own beside the usual one. The C functions that the tests call and the
extension modules that they build are compiled with the same sanitizers, through CFLAGS. The compiler itself runs without.

WHAT FAILS. The sanitizers write to files, one for each process, so that no test that expects an empty stderr fails over
what is not ours, and no report is lost because nobody looked at the stderr of some child. Each file is judged:
errors of AddressSanitizer and of UndefinedBehaviorSanitizer fail wherever they are. A leak fails if a stack of it has a
frame of ours, that is of the extension or of the tests' own C functions. There is no list of leaks to be overlooked: a
pattern for one of CPython's functions would overlook ours beneath it as well. A race fails, except at the places
in CPython that tests/sanitizers/thread.supp names.

WHAT IS NOT SEEN. LeakSanitizer's stacks follow frame pointers, which the interpreter and most libraries do not keep.
The caller of malloc is always right. Above CPython's allocator functions ours is found only mostly; objects that the
extension leaks are found by comparing reference counts (tests/refcounts.py).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SUPPRESSIONS = Path(__file__).parent / "sanitizers"

# What is left out with either, and why.
LEFT_OUT = {
    "tests/test_cost.py": "counts instructions under valgrind, which cannot run what was built with a sanitizer",
    "tests/test_benchmarks.py": "runs whole benchmarks; what they call, other tests call too",
    "tests/test_build.py": "builds the package in other ways, always without the sanitizer",
    "tests/test_demo.py": "checksums thousands of files in front of terminals; what it calls, other tests call too",
}
LEFT_OUT_OF = {
    "address": {
        "tests/test_map.py::test_memory_stays_flat_over_a_million_native_jobs": "what is freed is kept for a while",
        "tests/test_standard_suite.py": "CPython's own tests, some with time limits that cannot be changed from here",
    },
    "thread": {},
}
# What --quick runs: most of the code in a few minutes.
QUICK = {
    "address": [],
    "thread": [],
}

# One time limit for each test, in seconds; pyproject.toml has the usual one.
TIME_LIMIT = 400
# A file in which the path of a frame is between parentheses: "#1 0x55 in f file.c:3" or "#1 0x55 in f (lib.so+0x3)".
LIBRARY_OF_OURS = re.compile(r"/workerpool/_core\.[^/]*\.so|/pytest-of-[^/]*/.*\.so")
SOURCE_OF_OURS = re.compile(r"\b(csrc|tests)/[\w/]+\.[ch]\b")


@dataclass(frozen=True)
class Finding:
    """One report of a sanitizer."""

    kind: str
    text: str

    @property
    def frames(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if re.match(r"\s*#\d+ ", line)]

    @property
    def is_ours(self) -> bool:
        return any(LIBRARY_OF_OURS.search(frame) or SOURCE_OF_OURS.search(frame) for frame in self.frames)

    @property
    def fails(self) -> bool:
        return self.kind != "leak" or self.is_ours

    @property
    def culprit(self) -> str:
        """The library, or else the function, that had the leaked memory from malloc."""
        frame = self.frames[1] if len(self.frames) > 1 else "(unknown)"
        path = re.search(r"\(?([^\s()]+?)(\+0x[0-9a-f]+\)|:\d+)", frame)
        return Path(path.group(1)).name if path else frame


STARTS = {
    "leak": re.compile(r"^(Direct|Indirect) leak of "),
    "memory error": re.compile(r"^==\d+==\s*ERROR: AddressSanitizer"),
    "undefined behaviour": re.compile(r"^.*: runtime error: "),
    "race": re.compile(r"^WARNING: ThreadSanitizer: "),
    "failure of the sanitizer": re.compile(r"^(==\d+==\s*)?(AddressSanitizer|LeakSanitizer|ThreadSanitizer|FATAL).*(CHECK failed|DEADLYSIGNAL|fatal|FATAL)"),
}


def findings_in(text: str) -> list[Finding]:
    """The reports in what a process has written. One ends where the next begins."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        kind = next((kind for kind, start in STARTS.items() if start.match(line)), None)
        if kind is not None:
            found.append((kind, []))
        if found:
            found[-1][1].append(line)
    return [Finding(kind, "\n".join(lines)) for kind, lines in found]
