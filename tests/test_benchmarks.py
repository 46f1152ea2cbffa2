"""The benchmarks run, and say what they are asked for. Their figures are not tested here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import scenario_environment

FIRST = Path(__file__).parent.parent / "benchmarks" / "first.py"
CASES = [
    "map, C function",
    "submit + result, C function",
    "submit + result, Python function",
    "round trip, C function",
    "round trip, Python function",
    "map, Python function",
]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(FIRST), "--jobs", "300", "--rounds", "1", "--workers", "2", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env=scenario_environment({}),
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_table() -> None:
    lines = run().splitlines()
    assert "workers 2, jobs 300, rounds 1" in lines[0]
    assert [line[:34].strip() for line in lines[3:] if line[:34].strip()] == CASES
    assert sum(line.endswith(" 1.00x") for line in lines) >= len(CASES)


def test_json() -> None:
    found = json.loads(run("--json"))
    assert found["about"]["workers"] == 2
    assert list(found["ns_per_job"]) == CASES
    for times in found["ns_per_job"].values():
        assert {"workerpool", "ThreadPoolExecutor"} <= times.keys()
        assert all(time > 0 for time in times.values())
