"""The helper that other tests trust to turn a hang into a failure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import RunScenario

FailureOf = Callable[..., tuple[str, str]]


@pytest.fixture
def failure_of(run_scenario: RunScenario, capsys: pytest.CaptureFixture[str]) -> FailureOf:
    """A function that runs a scenario which has to fail, and returns the message and what was printed."""

    def fail(code: str, **options: object) -> tuple[str, str]:
        with pytest.raises(pytest.fail.Exception) as caught:
            run_scenario(code, **options)
        return str(caught.value), capsys.readouterr().out

    return fail


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


def test_exit_status(run_scenario: RunScenario, failure_of: FailureOf) -> None:
    assert run_scenario("raise SystemExit(3)", check=False).returncode == 3
    assert failure_of("raise SystemExit(3)")[0] == "the scenario ended with status 3"


def test_warnings_are_errors(run_scenario: RunScenario) -> None:
    done = run_scenario("import warnings; warnings.warn('careless')", check=False)
    assert done.returncode == 1
    assert "UserWarning: careless" in done.stderr


def test_hang_shows_output_and_the_stacks_of_all_threads(failure_of: FailureOf) -> None:
    message, output = failure_of(
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
    assert message == "the scenario did not end within 2 s"
    assert "--- stdout\nbefore\n" in output
    assert "--- stderr\ncareful\n" in output
    assert "in sleep_in_thread" in output
    assert "in wait" in output


def test_process_left_behind_is_a_hang(failure_of: FailureOf) -> None:
    message, _ = failure_of(
        """
        import os, time

        if os.fork() == 0:
            time.sleep(60)
        """,
        timeout=2,
    )
    assert message == "the scenario ended, and left a process behind within 2 s"


def test_the_package_is_the_one_under_test(run_scenario: RunScenario) -> None:
    import workerpool

    done = run_scenario("import workerpool; print(workerpool.__file__)")
    assert done.stdout.strip() == workerpool.__file__
