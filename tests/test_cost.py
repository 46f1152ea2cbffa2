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


def check(what: str, counted: float, figure: float) -> None:
    bound = figure * MARGIN
    assert counted <= bound, f"{what}: {counted:.0f} instructions a job, the bound is {bound:.0f}; see CONTRIBUTING.md"
    assert counted >= figure * TOO_LITTLE, f"{what}: only {counted:.0f} instructions a job; lower the figure {figure}"


def figures_of(path: str) -> tuple[int, int]:
    """Those of this version of CPython; of one that is not in the table, the highest of all."""
    version = sys.version_info[:2]
    known = [INSTRUCTIONS[version][path]] if version in INSTRUCTIONS else [each[path] for each in INSTRUCTIONS.values()]
    return max(total for total, _ in known), max(own for _, own in known)


@pytest.mark.parametrize("path", PYTHON_PATHS)
def test_instructions_from_python(instructions: dict[str, Any], path: str) -> None:
    total, own = figures_of(path)
    check(f"{path}, workerpool's own code", min(instructions[path]["own"]), own)
    check(path, min(instructions[path]["total"]), total)


@pytest.mark.parametrize("path", CORE_PATHS)
def test_instructions_in_c(instructions: dict[str, Any], path: str) -> None:
    check(path, min(instructions[path]["total"]), CORE_INSTRUCTIONS[path])


def test_every_path_has_a_figure(instructions: dict[str, Any]) -> None:
    assert sorted(instructions) == sorted(PYTHON_PATHS + CORE_PATHS)
    assert all(sorted(figures) == PYTHON_PATHS for figures in INSTRUCTIONS.values())


@pytest.mark.parametrize("path", sorted(SYSTEM_CALLS))
def test_system_calls(system_calls: dict[str, Any], path: str) -> None:
    calls = min(system_calls[path]["total"])
    assert 0 < calls <= SYSTEM_CALLS[path], f"{path}: {calls:.4f} system calls a job; see CONTRIBUTING.md"
