"""Trace and profile functions, and the tools made with them, see what workers run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG

pytestmark = pytest.mark.thread_unsafe(reason="sets the trace function of all new threads")
BOTH = pytest.mark.parametrize("make", [wp.ThreadPoolExecutor, wp.WorkerPool])


def job(x: int = 0) -> int:
    y = x
    return y  # noqa: RET504  (two lines, to be traced)


@pytest.fixture(autouse=True)
def hooks() -> Iterator[None]:
    trace, profile = threading.gettrace(), threading.getprofile()
    yield
    threading.settrace(trace)  # type: ignore[arg-type]
    threading.setprofile(profile)


@BOTH
def test_settrace_and_setprofile_never_reach_workers(make: Any) -> None:
    seen: list[str] = []

    def trace(frame: Any, event: str, _: Any) -> Any:
        if frame.f_code is job.__code__:
            seen.append(event)
        return trace

    def profile(frame: Any, event: str, _: Any) -> None:
        if frame.f_code is job.__code__:
            seen.append(f"profile {event}")

    threading.settrace(trace)
    threading.setprofile(profile)
    with make(1, initializer=job) as pool:
        assert pool.submit(job).result(LONG) == 0
        assert list(pool.map(job, range(2))) == [0, 1]
    calls = ["call", "profile call", "line", "line", "return", "profile return"]
    assert seen == calls * 4


@pytest.mark.skipif(sys.version_info < (3, 12), reason="came with 3.12")
def test_settrace_all_threads_reaches_workers_that_run_already() -> None:
    seen = []

    def trace(frame: Any, event: str, _: Any) -> None:
        if frame.f_code is job.__code__:
            seen.append(event)

    before = sys.gettrace()
    with wp.ThreadPoolExecutor(1) as pool:
        pool.submit(int).result(LONG)
        threading.settrace_all_threads(trace)
        try:
            pool.submit(job).result(LONG)
        finally:
            threading.settrace_all_threads(before)  # type: ignore[arg-type]
        pool.submit(job).result(LONG)
    assert seen == ["call"]


def test_trace_function_that_raises_ends_no_worker() -> None:
    def trace(_frame: Any, _event: str, _arg: Any) -> None:
        raise ZeroDivisionError

    threading.settrace(trace)
    with wp.WorkerPool(1) as pool:
        assert isinstance(pool.submit(job).exception(LONG), ZeroDivisionError | None)
        assert pool.submit(job, 5).result(LONG) == 5  # The interpreter has taken it away.
        assert list(pool.map(job, range(5))) == list(range(5))


# ---- Tools ----


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


@needs("coverage")
def test_coverage_sees_no_job(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import coverage
        cov = coverage.Coverage(data_file=None, concurrency="thread")
        cov.start()
        import workerpool as wp

        def job(x):
            y = x + 1
            return y

        with wp.ThreadPoolExecutor(2) as pool:
            assert pool.submit(job, 1).result() == 2
        cov.stop()
        lines = cov.get_data().lines(__file__)
        here = job.__code__.co_firstlineno
        print(sorted(set(lines) & {here + 1, here + 2}) == [here + 1, here + 2])
        """
    )
    assert done.stdout == "True\n"


def test_cprofile_sees_no_job(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import cProfile, pstats, sys, threading, workerpool as wp

        profiles = []

        def begin(*_):
            profile = cProfile.Profile()
            profiles.append(profile)
            sys.setprofile(None)
            profile.enable()

        def job():
            return sum(range(100))

        if sys.version_info >= (3, 12):  # There is one profiler for all threads then.
            profile = cProfile.Profile()
            profiles.append(profile)
            profile.enable()
        else:
            threading.setprofile(begin)
        with wp.ThreadPoolExecutor(1) as pool:
            pool.submit(job).result()
            pool.submit(job).result()
        threading.setprofile(None)
        for profile in profiles:
            profile.create_stats()
        print(any("job" in str(key) for profile in profiles for key in profile.stats))
        """
    )
    if sys.version_info < (3, 12):
        assert done.stdout == "True\n"


@needs("viztracer")
def test_viztracer_sees_no_job(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import viztracer, workerpool as wp

        def job():
            return sum(range(100))

        tracer = viztracer.VizTracer(verbose=0)
        tracer.start()
        with wp.ThreadPoolExecutor(1) as pool:
            pool.submit(job).result()
        tracer.stop()
        tracer.parse()
        print(any("job" in event.get("name", "") for event in tracer.data["traceEvents"]))
        """,
        options=(),
    )
    assert done.stdout.endswith("True\n")


@pytest.mark.timeout(100)
@needs("debugpy")
def test_debugger_stops_in_no_job(run_scenario: RunScenario) -> None:
    """A client of debugpy, as small as can be: it sets a breakpoint in a job and sees the stop."""
    done = run_scenario(
        """
        import json, pathlib, socket, subprocess, sys, tempfile

        program = pathlib.Path(tempfile.mkdtemp()) / "program.py"
        program.write_text(
            "import debugpy, sys\\n"
            "debugpy.listen(('127.0.0.1', int(sys.argv[1])))\\n"
            "debugpy.wait_for_client()\\n"
            "import workerpool as wp\\n"
            "def job():\\n"
            "    return 5\\n"  # Line 6
            "with wp.ThreadPoolExecutor(1, 'debugged') as pool:\\n"
            "    print(pool.submit(job).result())\\n"
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-X", "frozen_modules=off", str(program), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        client = None
        while client is None:
            try:
                client = socket.create_connection(("127.0.0.1", port))
            except OSError:
                assert process.poll() is None
        stream = client.makefile("rwb")

        def send(number, command, **arguments):
            body = json.dumps({"seq": number, "type": "request", "command": command, "arguments": arguments}).encode()
            stream.write(b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
            stream.flush()

        def wait(kind, name):
            while True:
                length = int(stream.readline().split(b":")[1])
                assert stream.readline() == b"\\r\\n"
                message = json.loads(stream.read(length))
                if message["type"] == kind and message.get("event", message.get("command")) == name:
                    return message

        send(1, "initialize", adapterID="x", clientID="x")
        wait("response", "initialize")
        send(2, "attach", justMyCode=False)
        wait("event", "initialized")
        send(3, "setBreakpoints", source={"path": str(program)}, breakpoints=[{"line": 6}])
        wait("response", "setBreakpoints")
        send(4, "configurationDone")
        stopped = wait("event", "stopped")["body"]
        print(stopped["reason"])
        send(5, "threads")
        threads = wait("response", "threads")["body"]["threads"]
        print([thread["name"] for thread in threads if thread["id"] == stopped["threadId"]])
        send(6, "continue", threadId=stopped["threadId"])
        wait("response", "continue")
        send(7, "disconnect", terminateDebuggee=False)
        print(process.communicate()[0].strip(), process.returncode)
        """,
        timeout=60,
        options=(),
    )
    assert done.stdout == "breakpoint\n['debugged_0']\n5 0\n"
