"""The nets of tests/sanitize.py: each sanitizer sees what is broken on purpose, and nothing of ours is let through.

What is broken stands in a C function that runs as a job, so that the whole way is tested: the extension, the flags of
what the tests compile, where reports go, and how they are judged.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import sanitize
from conftest import SANITIZED, RunScenario

ROOT = Path(__file__).parent.parent

BROKEN = """
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int leak(int size) { char *lost = malloc(size); return lost != NULL ? memset(lost, 1, size) != NULL : 0; }
int overflow(int n) { return INT_MAX - 1 + n; }
int past_the_end(int n) { char *few = malloc(8); memset(few, 1, 8); int last = few[n]; free(few); return last; }
static int counter;
int race(int n) { for (int i = 0; i < n; i++) counter++; return counter; }
"""

SCENARIO = """
import sys, workerpool as wp

library, name, argument = sys.argv[1:]
function = wp.native(f"{library}:{name}", "int (int)")
with wp.WorkerPool(2) as pool:
    print(sum(future.result(10) >= 0 for future in [pool.submit(function, int(argument)) for _ in range(40)]))
"""

OPTIONS = {"leak": "ASAN_OPTIONS", "overflow": "UBSAN_OPTIONS", "past_the_end": "ASAN_OPTIONS", "race": "TSAN_OPTIONS"}


def reported(run_scenario: RunScenario, folder: Path, name: str, argument: int) -> list[sanitize.Finding]:
    """Runs a broken function as jobs and returns what fails of what its process reported."""
    (folder / "broken.c").write_text(BROKEN)
    compiler = shlex.split(os.environ.get("CC", "cc"))
    flags = shlex.split(os.environ["WORKERPOOL_TEST_CFLAGS"])
    command = [*compiler, *flags, "-O0", "-shared", "-fPIC", "broken.c", "-o", "broken.so"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    variable = OPTIONS[name]
    given = {variable: f"{os.environ[variable]}:log_path={folder / 'report'}"}
    done = run_scenario(SCENARIO, env=given, args=[str(folder / "broken.so"), name, str(argument)], check=False)
    texts = [done.stderr] + [file.read_text() for file in folder.glob("report.*")]
    return [finding for text in texts for finding in sanitize.findings_in(text) if finding.fails]


@pytest.mark.skipif("address" not in SANITIZED, reason="not under AddressSanitizer")
@pytest.mark.parametrize(
    ("name", "argument", "kind"),
    [("leak", 100, "leak"), ("overflow", 5, "undefined behaviour"), ("past_the_end", 8, "memory error")],
)
def test_what_address_and_undefined_see(
    run_scenario: RunScenario, tmp_path: Path, name: str, argument: int, kind: str
) -> None:
    assert kind in {finding.kind for finding in reported(run_scenario, tmp_path, name, argument)}


@pytest.mark.skipif("thread" not in SANITIZED, reason="not under ThreadSanitizer")
def test_what_thread_sees(run_scenario: RunScenario, tmp_path: Path) -> None:
    found = reported(run_scenario, tmp_path, "race", 100_000)
    assert any("in race" in finding.text for finding in found), found


LEAKS = """
==7==ERROR: LeakSanitizer: detected memory leaks

Direct leak of 100 byte(s) in 1 object(s) allocated from:
    #0 0x7f0 in __interceptor_malloc (/usr/lib/libasan.so.8+0xb89cf)
    #1 0x7f1  (/somewhere/lib/workerpool/_core.cpython-311-x86_64-linux-gnu.so+0x1)

Indirect leak of 8 byte(s) in 1 object(s) allocated from:
    #0 0x7f0  (/usr/lib/libasan.so.8+0xb89cf)
    #1 0x7f2  (/usr/lib/libpython3.11.so.1.0+0x22)
    #2 0x7f1  (/tmp/pytest-of-me/pytest-1/native0/helpers.so+0x1)

Direct leak of 8 byte(s) in 1 object(s) allocated from:
    #0 0x7f0  (/usr/lib/libasan.so.8+0xb89cf)
    #1 0x7f2  (/usr/lib/python3/site-packages/llvmlite/binding/libllvmlite.so+0x22)

SUMMARY: AddressSanitizer: 116 byte(s) leaked in 3 allocation(s).
"""


def test_leaks_are_judged_by_whose_they_are() -> None:
    ours, through_python, foreign = sanitize.findings_in(LEAKS)
    assert [ours.fails, through_python.fails, foreign.fails] == [True, True, False]
    assert foreign.culprit == "libllvmlite.so"


def test_reports_that_always_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.1").write_text(LEAKS[LEAKS.rindex("Direct") :])
    assert sanitize.judge(tmp_path)
    assert "1 leaks of libllvmlite.so" in capsys.readouterr().out
    for text in (
        "==5==ERROR: AddressSanitizer: heap-use-after-free on address 0x6\n    #0 0x7  (/usr/lib/libc.so.6+0x1)\n",
        "/usr/include/x.h:3:4: runtime error: signed integer overflow: 1 + 2 cannot be represented in type 'int'\n",
        "==================\nWARNING: ThreadSanitizer: data race (pid=5)\n  Write of size 8 at 0x7 by thread T1:\n",
        "AddressSanitizer: CHECK failed: asan_thread.cpp:10\n",
    ):
        (tmp_path / "report.2").write_text(text)
        assert not sanitize.judge(tmp_path), text


def test_suppressions_have_reasons_and_name_nothing_of_ours() -> None:
    sources = "\n".join(file.read_text() for file in (ROOT / "csrc").glob("*/*.[ch]"))
    explained = False
    rules = 0
    for line in sanitize.SUPPRESSIONS.read_text().splitlines():
        if line.startswith("#") or not line:
            explained = bool(line)
            continue
        kind, function = line.split(":")
        assert kind == "race_top" or function == "__GI__dl_deallocate_tls", line
        assert explained, f"no reason: {line}"
        assert re.fullmatch(r"\w+", function), "a pattern may match more than was meant"
        assert not re.search(rf"\b{function}\(", sources), f"a function of ours: {function}"
        rules += 1
    assert rules


def test_what_is_left_out_is_there() -> None:
    for tests in (sanitize.LEFT_OUT, *sanitize.LEFT_OUT_OF.values(), *sanitize.QUICK.values()):
        for test in tests:
            file, _, name = test.partition("::")
            assert f"def {name}" in (ROOT / file).read_text(), test
