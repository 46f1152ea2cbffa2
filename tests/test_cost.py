"""What a job costs, in instructions and system calls: a guard for the speed of the hot paths that needs no clock.

Times depend on the machine and on what else it does; these counts hardly do. benchmarks/cost/count.py takes them and says
what is counted; `make cost` shows them. Before a figure here is changed, see "Costs" in CONTRIBUTING.md.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import scenario_environment
from support import FREE_THREADED

COUNT = Path(__file__).parent.parent / "benchmarks" / "cost" / "count.py"
# Another build has other counts: see setup.py for these.
SPECIAL_BUILDS = ["WORKERPOOL_SANITIZED", "WORKERPOOL_SANITIZE", "WORKERPOOL_DEBUG", "WORKERPOOL_PORTABLE_WAIT"]
SPECIAL = [name for name in SPECIAL_BUILDS if os.environ.get(name, "") not in {"", "0"}]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.build,
    pytest.mark.timeout(175),
    pytest.mark.skipif(
        FREE_THREADED,
        reason="without a GIL the interpreter's threads spin for locks, so that counts depend on the scheduler",
    ),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions were counted on x86-64"),
    pytest.mark.skipif(bool(SPECIAL), reason=f"another build: {', '.join(SPECIAL)}"),
]

# ---- Instructions ----
#
# Instructions a job: all, and those in workerpool's own code, outside of the interpreter and the C library. These are
# what `make cost` prints, the highest of ten runs, six of them beside two processes that kept both processors busy;
# built by gcc 12 at -O2, with CPython as its makefile builds it (a distribution's is up to a tenth cheaper). Measured
# anew by
#
#     make cost                                        # and with PYTHON=python3.13 VENV=.venv-313, and so on
#
INSTRUCTIONS: dict[tuple[int, int], dict[str, tuple[int, int]]] = {}
# The core alone, all instructions.
CORE_INSTRUCTIONS: dict[str, int] = {}
# How far a count may be above the figure.
MARGIN = 1.15
# Less than so much of the figure, and either nothing was counted or the figure is out of date.
TOO_LITTLE = 0.6
PYTHON_PATHS = sorted(INSTRUCTIONS[3, 11])
CORE_PATHS = sorted(CORE_INSTRUCTIONS)

# ---- System calls ----
#
# The most system calls a job: far above what was counted on a busy machine, and far below the one or two of a job that
# wakes a thread, or of one in a few that does.
SYSTEM_CALLS: dict[str, float] = {}


def count(kind: str, repeats: int) -> dict[str, Any]:
    """What count.py finds, by path: the lists `total` and `own`, with a number for each repetition."""
    done = subprocess.run(
        [sys.executable, str(COUNT), "--kind", kind, "--repeats", str(repeats), "--json", "-"],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env=scenario_environment({}),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    if kind in found["missing"]:
        pytest.skip(found["missing"][kind])
    counts: dict[str, Any] = found[kind]
    return counts


@pytest.fixture(scope="module")
def instructions() -> dict[str, Any]:
    return count("instructions", 3)


@pytest.fixture(scope="module")
def system_calls() -> dict[str, Any]:
    return count("system-calls", 5)
