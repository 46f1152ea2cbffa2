"""Runs CPython's own tests of ThreadPoolExecutor with workerpool's in the place of the standard one.

    python standard_suite.py CLASS [TEST ...]   run these tests, or all of the class that LEFT_OUT does not name
    python standard_suite.py                    print the names of the classes that test a thread pool

The tests are those of the `test` package of the Python that runs this: one file up to 3.11, then a package. Nothing of
it is changed or copied. The executor is exchanged in `concurrent.futures` before the tests are imported, and
again in each process that a test starts. The exit status is 0 if all passed, 77 if this Python has no such tests.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import os
import sys
import unittest
from types import ModuleType
from typing import Any

import workerpool

NOT_THERE = 77
MODULES = ("test_thread_pool", "test_shutdown", "test_wait", "test_as_completed", "test_init")

# The classes that test a thread pool, in every Python from 3.11 on.
CLASSES = (
    "ThreadPoolAsCompletedTest",
    "ThreadPoolExecutorTest",
    "ThreadPoolFailingInitializerTest",
    "ThreadPoolInitializerTest",
    "ThreadPoolShutdownTest",
    "ThreadPoolWaitTests",
)

# Tests that read what is private to the original, with what they read and the test of workerpool's that shows the same.
COUNT = "counts the private attribute _threads while workers, which here start each other, are still on their way"
# Two more expect that a job has begun because submit has returned. Nothing promises that, and where a thread starts in
# more time than it takes to submit all jobs, all of them are cancelled.
BEGUN = "expects a job to have begun when shutdown(cancel_futures=True) is called, though nothing waited for it to"
LEFT_OUT = {
    "ThreadPoolExecutorTest.test_idle_thread_reuse": f"{COUNT}. Here: test_executor.py, test_threads_start_*",
    "ThreadPoolExecutorTest.test_saturation": f"{COUNT}. Here: test_executor.py, test_saturation",
    "ThreadPoolShutdownTest.test_cancel_futures": f"{BEGUN}. Here: test_shutdown.py, test_shutdown_cancels_*",
    "ThreadPoolShutdownTest.test_threads_terminate": f"{COUNT}. Here: test_shutdown.py, test_idle_pools_leave_*",
}
if sys.version_info < (3, 13):  # CPython's issue 116682 mended the test in 3.13.
    LEFT_OUT["ThreadPoolShutdownTest.test_cancel_futures_wait_false"] = f"{BEGUN}, which later versions do not"

EXCHANGE = (
    "import concurrent.futures, workerpool; concurrent.futures.ThreadPoolExecutor = workerpool.ThreadPoolExecutor"
)


def exchange() -> None:
    """Puts workerpool's executor in the place of the standard one, here and in the processes that tests start."""
    concurrent.futures.ThreadPoolExecutor = workerpool.ThreadPoolExecutor  # type: ignore[misc]
    from test.support import script_helper

    original = script_helper.assert_python_ok
    # They run isolated, so what is on this path has to be named to them.
    prelude = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}; {EXCHANGE}\n"

    def assert_python_ok(*args: str, **options: Any) -> Any:
        code = args.index("-c") + 1
        return original(*args[:code], prelude + args[code], *args[code + 1 :], **options)

    script_helper.assert_python_ok = assert_python_ok


def suite_modules() -> list[ModuleType]:
    """The modules of the tests; none where this Python came without them."""
    try:
        suite = importlib.import_module("test.test_concurrent_futures")
    except ModuleNotFoundError:
        return []
    if not hasattr(suite, "__path__"):
        return [suite]
    return [importlib.import_module(f"test.test_concurrent_futures.{name}") for name in MODULES]


def thread_pool_classes(modules: list[ModuleType]) -> dict[str, type[unittest.TestCase]]:
    return {
        name: found
        for module in modules
        for name, found in vars(module).items()
        if isinstance(found, type) and issubclass(found, unittest.TestCase) and name.startswith("ThreadPool")
    }


def run(tests: unittest.TestSuite, modules: list[ModuleType]) -> bool:
    """Between what each module does before its tests and after them."""
    for module in modules:
        module.setUpModule() if hasattr(module, "setUpModule") else None
    try:
        return unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(tests).wasSuccessful()
    finally:
        unittest.doModuleCleanups()


def main(class_name: str = "", *names: str) -> int:
    exchange()
    modules = suite_modules()
    if not modules:
        print("this Python came without test.test_concurrent_futures")
        return NOT_THERE
    classes = thread_pool_classes(modules)
    if not class_name:
        print(*sorted(classes), sep="\n")
        return 0
    found = classes[class_name]
    assert found.executor_type is workerpool.ThreadPoolExecutor  # type: ignore[attr-defined]
    chosen = names or unittest.defaultTestLoader.getTestCaseNames(found)
    tests = unittest.TestSuite(found(name) for name in chosen if names or f"{class_name}.{name}" not in LEFT_OUT)
    return 0 if run(tests, [sys.modules[found.__module__]]) else 1


if __name__ == "__main__":
    # The folder of this file would hide nothing, but the tests' own processes need not look into it.
    sys.path[:] = [p for p in sys.path if os.path.abspath(p) != os.path.dirname(os.path.abspath(__file__))]
    sys.exit(main(*sys.argv[1:]))
