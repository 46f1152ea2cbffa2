"""What all tests share: scenarios that run in a process of their own, and the markers."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

from support import Helpers

MARKERS = {
    "keeps": "leaves something behind that the collector cannot find, for the reason given; see refcounts.py",
    "build": "needs a C compiler and setuptools",
    "slow": 'takes more than a few seconds; leave out with -m "not slow"',
    "stress": "repeats a race many times; finds rare faults rather than clear ones",
    "thread_unsafe": "cannot run in several threads of one process at a time, for the given reason",
}

# Fixtures that take a test out of the parallel run. What happens in another process is run beside itself for nothing,
# and with a time limit.
THREAD_UNSAFE_FIXTURES = {
    "caplog": "collects the log of the whole process",
    "gate": "of test_lifetime.py: one gate holds one job",
    "own_library": "of test_lifetime.py: looks at what the process has loaded",
    "run_scenario": "runs in a process of its own",
}

# Fixtures that several test files share, and that are too many for this one.
pytest_plugins = ["refcounts", "toolchain_fixtures"]

# How long a process that hangs may take to print the stacks of its threads.
DUMP_SECONDS = 5

# The sanitizers that the extension was built with, as in WORKERPOOL_SANITIZE; tests/sanitize.py sets this.
SANITIZED = os.environ.get("WORKERPOOL_SANITIZED", "")
# Under them everything takes longer, most of all the start of a process.
SLOWER = 4 if SANITIZED else 1

RunScenario = Callable[..., subprocess.CompletedProcess[str]]


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For pytest-run-parallel (make parallel-test), which reads the marker; without it this changes nothing."""
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in THREAD_UNSAFE_FIXTURES:
                item.add_marker(pytest.mark.thread_unsafe(reason=THREAD_UNSAFE_FIXTURES[fixture]))


def scenario_environment(overrides: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment, with the package that the tests see; None takes a variable out."""
    environment = dict(os.environ)
    package = find_spec("workerpool")
    if package is not None and package.origin is not None:
        folders = [str(Path(package.origin).parent.parent), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
    for name, value in overrides.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def stop_with_stacks(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ends a process that hangs, and all that it started, and returns what they wrote.

    Development mode turns the fault handler on, so that SIGABRT prints the stacks of all threads.
    """
    os.killpg(process.pid, signal.SIGABRT)
    try:
        return process.communicate(timeout=DUMP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


def fail(problem: str, code: str, stdout: str, stderr: str) -> NoReturn:
    """Fails the test in one line; pytest shows beside it what was printed."""
    print(f"--- scenario\n{code}--- stdout\n{stdout}\n--- stderr\n{stderr}")
    pytest.fail(problem, pytrace=False)


@pytest.fixture
def run_scenario(tmp_path: Path) -> RunScenario:
    """A function that runs Python code in a process of its own and fails the test if it hangs.

    run_scenario(code, timeout=20, *, check=True, options=("-X", "dev", "-W", "error"), env=None, args=(),
    stdin=None) returns a CompletedProcess with the output as text.

    The process ends when it and everything it started has ended; what still runs then, a forked child too,
    counts as a hang. With `check` an exit status other than 0 fails the test as well. `env` adds to the
    environment, and takes out a variable whose value is None. The code is dedented and written to a file, so
    that processes it spawns can import it again.
    """
    count = 0

    def run(
        code: str,
        timeout: float = 20,
        *,
        check: bool = True,
        options: Sequence[str] = ("-X", "dev", "-W", "error"),
        env: Mapping[str, str | None] | None = None,
        args: Sequence[str] = (),
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        nonlocal count
        count += 1
        timeout *= SLOWER
        code = textwrap.dedent(code).strip() + "\n"
        script = tmp_path / f"scenario_{count}.py"
        script.write_text(code, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, *options, str(script), *args],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=scenario_environment(env or {}),
            start_new_session=True,
        )
        problem = None
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            ended = "ended, and left a process behind" if process.poll() is not None else "did not end"
            problem = f"the scenario {ended} within {timeout} s"
            stdout, stderr = stop_with_stacks(process)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        if problem is None and check and process.returncode != 0:
            problem = f"the scenario ended with status {process.returncode}"
        if problem is not None:
            fail(problem, code, stdout, stderr)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


# ---- C functions to call ----


@pytest.fixture(scope="session")
def helpers_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """tests/native/helpers.c as a shared library."""
    root = Path(__file__).parent.parent
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("native") / "helpers.so"
    source = root / "tests" / "native" / "helpers.c"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{root / 'csrc' / 'include'}"]
    flags += shlex.split(os.environ.get("WORKERPOOL_TEST_CFLAGS", ""))
    subprocess.run([*compiler, *flags, str(source), "-o", str(library)], check=True, timeout=60)
    return str(library)


@pytest.fixture(scope="session")
def helpers(helpers_path: str) -> Helpers:
    return Helpers(helpers_path)
