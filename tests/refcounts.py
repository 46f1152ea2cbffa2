"""`pytest --refcounts`: each test is run again and again, and must leave nothing behind.

WHAT IS COMPARED. After each run, when the threads it started have gone and garbage has been collected: the sum of all
reference counts (sys.gettotalrefcount, only in a debug build of CPython), the blocks that Python's allocator has given
out, and the objects that the cyclic collector knows. In a debug build nothing that the extension does with an object
goes unseen: a reference too many makes the sum grow, one too few makes it shrink until the interpreter aborts. An
ordinary build sees leaked objects, and neither references to immortal or shared ones nor missing ones.

WHEN IS IT A LEAK. First runs fill caches, and now and then something is freed one run later. So a test passes as soon
as a window of runs has ended with no more than it began with, and it leaks if there was no such window: then it has
grown throughout. Memory that the C code has from malloc is not seen here; LeakSanitizer sees that (tests/sanitize.py).

Whole tests are run again, with their fixtures, but those of modules and sessions stay.
"""

from __future__ import annotations

import array
import gc
import os
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

# A window is so many runs; there are at most so many runs.
WINDOW = 3
MOST_RUNS = 12
# Seconds that the threads of a test may take to leave after it.
THREADS_LIMIT = 5
TASKS = Path("/proc/self/task")

# Fixtures whose tests are left out.
# A test that leaves something behind itself, or through CPython, has the mark `keeps` with the reason.
LEFT_OUT_FIXTURES = {
    "run_scenario": "what they do happens in another process",
    "tmp_path": "they build or write files, and other packages remember those",
}
LEFT_OUT_MARKS = {
    "slow": "too slow to be run again and again",
    "build": "too slow to be run again and again",
    "stress": "what they repeat many times, other tests do once",
}

# Without it the cache of attributes, which has 4096 places, keeps names that the C code made for a single look-up.
clear_caches = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
total_references = getattr(sys, "gettotalrefcount", lambda: 0)
NAMES = ("references", "allocated blocks", "objects known to the collector")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--refcounts", action="store_true", help="run each test again and again, and compare reference counts"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--refcounts"):
        config.pluginmanager.register(RefCounts(), "refcounts-repeater")


def why_left_out(item: pytest.Item) -> str | None:
    if getattr(getattr(item, "function", None), "is_hypothesis_test", False):
        return "hypothesis remembers what it has tried"
    for mark, reason in LEFT_OUT_MARKS.items():
        if item.get_closest_marker(mark) is not None:
            return reason
    for fixture, reason in LEFT_OUT_FIXTURES.items():
        if fixture in getattr(item, "fixturenames", ()):
            return reason
    mark = item.get_closest_marker("keeps")
    return None if mark is None else str(mark.args[0])


def threads() -> int:
    """The threads of this process, also those that Python does not know."""
    return len(os.listdir(TASKS)) if TASKS.exists() else 0


def settle(threads_before: int) -> None:
    """Waits for the threads of the last run and collects its garbage."""
    end = time.monotonic() + THREADS_LIMIT
    while threads() > threads_before and time.monotonic() < end:
        time.sleep(0.001)
    clear_caches()
    for _ in range(4):
        if gc.collect() == 0:
            break


class History:
    """What was counted after each run, in memory that is there from the start, so that it is not counted itself."""

    def __init__(self) -> None:
        self.columns = tuple(array.array("q", bytes(8 * MOST_RUNS)) for _ in NAMES)
        self.runs = 0

    def count(self) -> None:
        references, blocks, objects = self.columns
        references[self.runs] = total_references()
        blocks[self.runs] = sys.getallocatedblocks()
        objects[self.runs] = len(gc.get_objects())
        self.runs += 1

    def growth(self) -> list[int]:
        """For each name, the growth of the window that grew least."""
        return [
            min(column[i] - column[i - WINDOW] for i in range(WINDOW, self.runs)) if self.runs > WINDOW else sys.maxsize
            for column in self.columns
        ]


def forget_fixtures(item: pytest.Item, known: dict[str, int]) -> None:
    """A fixture of a session or a module is told of each fixture that used it, and remembers all of them to its end.

    `known` says how many those were after the first run; all later ones, which have gone, are taken off.
    """
    for name, definitions in item._fixtureinfo.name2fixturedefs.items():  # type: ignore[attr-defined]
        finalizers = definitions[-1]._finalizers
        del finalizers[known.setdefault(name, len(finalizers)) :]


class RefCounts:
    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.repeated = 0
        self.runs = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        reasons = {item: why_left_out(item) for item in items}
        self.left_out.update(reason for reason in reasons.values() if reason is not None)
        config.hook.pytest_deselected(items=[item for item in items if reasons[item] is not None])
        items[:] = [item for item in items if reasons[item] is None]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = self.repeat(item)
        # Until now the fixtures of the module were kept, by naming the module as what comes next.
        item.session._setupstate.teardown_exact(nextitem)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def repeat(self, item: pytest.Item) -> list[pytest.TestReport]:
        """Runs the test until it is known not to leak. Returns the reports of the last run, or of the first failed."""
        history = History()
        known: dict[str, int] = {}
        self.repeated += 1
        threads_before = threads()
        for _ in range(MOST_RUNS):
            reports = runtestprotocol(item, log=False, nextitem=item.parent)  # type: ignore[arg-type]
            self.runs += 1
            if any(report.outcome != "passed" for report in reports):
                return reports
            item._report_sections.clear()
            forget_fixtures(item, known)
            settle(threads_before)
            history.count()
            if max(history.growth()) <= 0:
                return reports
        self.fail(reports, history.growth())
        return reports

    def fail(self, reports: list[pytest.TestReport], least: list[int]) -> None:
        grown = [f"{more} {name}" for more, name in zip(least, NAMES, strict=True) if more > 0]
        (report,) = (report for report in reports if report.when == "call")
        report.outcome = "failed"
        report.longrepr = f"each {WINDOW} runs of this test leave behind at least " + ", ".join(grown)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        measured = NAMES if hasattr(sys, "gettotalrefcount") else NAMES[1:]
        terminalreporter.write_line(f"compared: {', '.join(measured)}; {self.repeated} tests, {self.runs} runs")
        for reason, tests in self.left_out.most_common():
            terminalreporter.write_line(f"left out {tests}: {reason}")
