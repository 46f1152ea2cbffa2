"""The helper that other tests trust to turn a hang into a failure."""

from __future__ import annotations

import sys

import pytest
from conftest import RunScenario


def failure_of(run_scenario: RunScenario, code: str, **options: object) -> str:
    with pytest.raises(pytest.fail.Exception) as caught:
        run_scenario(code, **options)
    return str(caught.value)


def test_output_and_environment(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import os, sys
        print(sys.flags.dev_mode, os.environ["SCENARIO"], "HOME" in os.environ, sys.argv[1], input())
        print("to stderr", file=sys.stderr)
        """,
        env={"SCENARIO": "one", "HOME": None},
        args=["two"],
        stdin="three",
    )
    assert done.stdout == "True one False two three\n"
    assert done.stderr == "to stderr\n"


def test_exit_status(run_scenario: RunScenario) -> None:
    assert run_scenario("raise SystemExit(3)", check=False).returncode == 3
    assert "status 3" in failure_of(run_scenario, "raise SystemExit(3)")


def test_warnings_are_errors(run_scenario: RunScenario) -> None:
    done = run_scenario("import warnings; warnings.warn('careless')", check=False)
    assert done.returncode == 1
    assert "UserWarning: careless" in done.stderr


def test_hang_shows_output_and_the_stacks_of_all_threads(run_scenario: RunScenario) -> None:
    message = failure_of(
        run_scenario,
        """
        import sys, threading, time

        def sleep_in_thread():
            time.sleep(60)

        print("before", flush=True)
        print("careful", file=sys.stderr)
        threading.Thread(target=sleep_in_thread).start()
        threading.Event().wait()
        """,
        timeout=2,
    )
    assert "did not end within 2 s" in message
    assert "before" in message
    assert "careful" in message
    assert "in sleep_in_thread" in message
    assert "in wait" in message


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_process_left_behind_is_a_hang(run_scenario: RunScenario) -> None:
    message = failure_of(
        run_scenario,
        """
        import os, time

        if os.fork() == 0:
            time.sleep(60)
        """,
        timeout=2,
    )
    assert "left a process behind within 2 s" in message


def test_the_package_is_the_one_under_test(run_scenario: RunScenario) -> None:
    import workerpool

    done = run_scenario("import workerpool; print(workerpool.__file__)")
    assert done.stdout.strip() == workerpool.__file__
