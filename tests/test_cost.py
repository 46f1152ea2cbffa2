"""What a job costs, in instructions and system calls: a guard for the speed of the hot paths that needs no clock.

Times depend on the machine and on what else it does; these counts hardly do. benchmarks/cost/count.py takes them and
says what is counted; `make cost` shows them. A bound is only raised for a change that is worth its cost, and says so.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import FREE_THREADED

COUNT = Path(__file__).parent.parent / "benchmarks" / "cost" / "count.py"
# Instructions a job in workerpool's own code, as `make cost` printed them (gcc 12, -O2, x86-64), and what they may be.
OWN_INSTRUCTIONS = {
    "map-c": 132,
    "map-py": 135,
    "submit-c": 1280,
    "submit-py": 1120,
    "round-trip-c": 1849,
    "await-c": 1510,
    "stage": 305,
    "stage-many": 138,
    "stage-put": 225,
    "function-jobs": 630,
}
MARGIN = 1.4
# System calls a job: far above what was counted, far below the one or two of a job that wakes a thread.
MOST_SYSTEM_CALLS = 0.15

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(FREE_THREADED, reason="threads spin for locks, so that counts depend on the scheduler"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions were counted on x86-64"),
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed"),
]


@pytest.mark.parametrize("path", sorted(OWN_INSTRUCTIONS))
def test_instructions_and_system_calls(path: str, tmp_path: Path) -> None:
    found = tmp_path / "cost.json"
    command = [sys.executable, str(COUNT), "--only", path, "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(found.read_text())
    if path not in counts["instructions"]:
        pytest.skip(f"not counted here: {counts['missing']}")
    own = min(counts["instructions"][path]["own"])
    assert 0.3 * OWN_INSTRUCTIONS[path] < own < MARGIN * OWN_INSTRUCTIONS[path]
    if path in counts["system-calls"]:
        assert min(counts["system-calls"][path]["total"]) < MOST_SYSTEM_CALLS
