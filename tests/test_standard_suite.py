"""CPython's own tests of ThreadPoolExecutor, on workerpool's. What is left out, and why, is in standard_suite.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import scenario_environment
from standard_suite import CLASSES, LEFT_OUT, NOT_THERE

RUNNER = Path(__file__).with_name("standard_suite.py")
# Seconds for one class; the longest takes 20, nearly all of it asleep.
LIMIT = 100


def run(*args: str) -> str:
    done = subprocess.run(
        [sys.executable, str(RUNNER), *args],
        env=scenario_environment({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if done.returncode == NOT_THERE:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize("name", CLASSES)
def test_class(name: str) -> None:
    left_out = [test.removeprefix(f"{name}.") for test in LEFT_OUT if test.startswith(f"{name}.")]
    out = run(name)
    assert "\nOK" in out
    assert not [test for test in left_out if f"\n{test} (" in out]


def test_no_class_is_forgotten() -> None:
    assert run().split() == list(CLASSES)
