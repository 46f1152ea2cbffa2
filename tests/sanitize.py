"""Runs the Python tests with the extension under sanitizers, and judges what these report.

    python tests/sanitize.py address [--quick] [arguments for pytest]
    python tests/sanitize.py thread --python PYTHON [--packages FOLDER] [--quick] [arguments for pytest]

`address` means AddressSanitizer with its leak check, and UndefinedBehaviorSanitizer; any interpreter will do, with the
sanitizer's library loaded before it. `thread` means ThreadSanitizer, and an interpreter without a GIL that was built
with it: in one that was not, CPython's own locks would be unknown to it, and everything a race.

WHAT IS BUILT. The extension, in a folder of its own beside the usual one. The C functions that the tests call and the
extension modules that they build are compiled with the same sanitizers, through CFLAGS. The compiler itself runs
without.

WHAT FAILS. The sanitizers write to files, one for each process, so that no test that expects an empty stderr fails over
what is not ours, and no report is lost because nobody looked at the stderr of some child. Each file is judged. Errors
of AddressSanitizer and of UndefinedBehaviorSanitizer fail wherever they are. A leak fails if its stack has a frame of
ours, that is of the extension or of the tests' own C functions. There is no list of leaks to be overlooked, because
a pattern that matches one of CPython's functions would overlook all of ours that are allocated through it. A race
fails, except at those functions of CPython that tests/sanitizers/thread.supp names.

WHAT IS NOT SEEN. LeakSanitizer's stacks follow frame pointers, which the interpreter and most libraries do not keep:
the caller of malloc is always right, while ours is found above CPython's allocator only mostly. References that the
extension leaks are found by counting them (tests/refcounts.py).
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
SUPPRESSIONS = Path(__file__).parent / "sanitizers" / "thread.supp"

# What is left out with all sanitizers, and why.
LEFT_OUT = {
    "tests/test_cost.py": "counts instructions under valgrind, which cannot run what was built with a sanitizer",
    "tests/test_benchmarks.py": "runs whole benchmarks; what they call, other tests call too",
    "tests/test_build.py": "builds the package in other ways, always without the sanitizer",
    "tests/test_demo.py": "checksums thousands of files in front of terminals; what it calls, other tests call too",
    "tests/test_standard_suite.py": "CPython's own tests, with time limits that cannot be changed from here",
    "tests/test_map.py::test_memory_stays_flat_over_a_million_native_jobs": "freed memory is kept, to notice its use",
    "tests/test_scenarios.py": "is about time limits themselves, and these are others under sanitizers",
}
LEFT_OUT_OF = {
    "address": {},
    "thread": {
        "tests/test_capi.py::test_example_of_the_documentation": "builds with setuptools, which that Python lacks",
        "tests/test_soak.py": "bounds of memory, and minutes of work; its parts have tests of their own",
        "tests/test_interpreters.py": "CPython 3.13 without a GIL does not survive interpreters with threads",
        "tests/test_toolchain_names.py": "compilers and libraries that were not built with the sanitizer",
        "tests/test_toolchain_refusals.py": "compilers and libraries that were not built with the sanitizer",
        "tests/test_toolchain_results.py": "compilers and libraries that were not built with the sanitizer",
        "tests/test_examples.py": "programs that measure themselves beside others",
        "tests/test_inner_threads.py": "the teams of OpenMP and BLAS, whose barriers the sanitizer does not know",
    },
}
# What --quick runs: the tests that touch the most C code in a few minutes.
QUICK = {
    "address": [
        "tests/test_asyncio.py",
        "tests/test_c_jobs.py",
        "tests/test_cancel.py",
        "tests/test_future.py",
        "tests/test_lifetime.py",
        "tests/test_map.py",
        "tests/test_native.py",
        "tests/test_queue_policies.py",
        "tests/test_results.py",
        "tests/test_sanitizers.py",
        "tests/test_submit.py",
    ],
    "thread": [
        "tests/test_free_threading.py",
        "tests/test_map.py",
        "tests/test_results.py",
        "tests/test_sanitizers.py",
        "tests/test_submit.py",
    ],
}
FLAGS = {"address": "address,undefined", "thread": "thread"}
# One limit for each test, in seconds; pyproject.toml has the usual one.
TIME_LIMIT = 400

OURS = re.compile(r"/workerpool/_core\.[^/]*\.so|/pytest-of-[^/]*/.*\.so|\b(csrc|tests)/[\w/]+\.[ch]\b")
FRAME = re.compile(r"^\s*#\d+ ")
# The file in a frame: "#1 0x55 in f file.c:3" or "#1 0x55 in f (lib.so+0x3)".
FILE = re.compile(r"([^\s()]+?)(\+0x[0-9a-f]+\)|:\d+)")
STARTS = {
    "leak": re.compile(r"^(Direct|Indirect) leak of "),
    "memory error": re.compile(r"^==\d+==\s*ERROR: AddressSanitizer"),
    "undefined behaviour": re.compile(r".*: runtime error: "),
    "race": re.compile(r"^WARNING: ThreadSanitizer: "),
    "failure of the sanitizer": re.compile(r".*(CHECK failed|FATAL: \w+Sanitizer)"),
}
# Of a report that fails, so many lines are shown; stacks of the interpreter are long.
LINES_SHOWN = 60


@dataclass(frozen=True)
class Finding:
    """One report of a sanitizer."""

    kind: str
    text: str

    @property
    def frames(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if FRAME.match(line)]

    @property
    def fails(self) -> bool:
        return self.kind != "leak" or any(OURS.search(frame) for frame in self.frames)

    @property
    def culprit(self) -> str:
        """The file of the function that had the leaked memory from malloc, which is frame 0."""
        file = FILE.search(self.frames[1]) if len(self.frames) > 1 else None
        return Path(file.group(1)).name if file else "(unknown)"


def findings_in(text: str) -> list[Finding]:
    """The reports in what a process has written. One ends where the next begins."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        kind = next((kind for kind, start in STARTS.items() if start.match(line)), None)
        if kind is not None:
            found.append((kind, []))
        if found:
            found[-1][1].append(line)
    return [Finding(kind, "\n".join(lines)) for kind, lines in found]


def judge(reports: Path) -> bool:
    """Prints what the processes have reported. Whether none of it fails."""
    leaks: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    files = sorted(reports.iterdir())
    for file in files:
        for finding in findings_in(file.read_text(encoding="utf-8", errors="replace")):
            if not finding.fails:
                leaks[finding.culprit] += 1
                continue
            failed[finding.kind] += 1
            lines = finding.text.splitlines()
            print(f"---- {finding.kind}, in {file}", *lines[:LINES_SHOWN], sep="\n")
    for culprit, number in leaks.most_common(8):
        print(f"not ours: {number} leaks of {culprit}")
    print(f"sanitizers: {len(files)} processes had something to report; of ours: {dict(failed) or 'nothing'}")
    return not failed


# ---- The environment ----


def library(compiler: str, name: str) -> str:
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
    if not Path(found.strip()).is_absolute():
        raise SystemExit(f"sanitize: {compiler} has no {name}; on Debian and Ubuntu: apt install gcc libstdc++-12-dev")
    return found.strip()


def options(**settings: object) -> str:
    return ":".join(f"{name}={value}" for name, value in settings.items())


def environment(kind: str, out: Path, packages: Path | None) -> dict[str, str]:
    """What all processes of the tests run in."""
    reports = out / "reports" / "report"
    compiler = shlex.split(os.environ.get("CC") or "gcc")[0]
    flags = f"-fsanitize={FLAGS[kind]} -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"
    given = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in (out / "lib", packages) if folder is not None),
        "WORKERPOOL_SANITIZED": FLAGS[kind],
        "WORKERPOOL_TEST_CFLAGS": flags,
        "CFLAGS": flags,
        # The compiler leaks by design, and is slow with the sanitizer's library before it.
        "CC": f"env -u LD_PRELOAD {compiler}",
    }
    if kind == "thread":
        # A child of a fork goes on, although the fork came with other threads running: that is what is tested. Threads
        # that nobody has joined when a process ends are no race; the workers of a pool that an exit handler has left
        # behind are such threads.
        given["TSAN_OPTIONS"] = options(
            halt_on_error=0,
            exitcode=0,
            die_after_fork=0,
            report_thread_leaks=0,
            history_size=4,
            log_path=reports,
            suppressions=SUPPRESSIONS,
        )
        return given
    # libstdc++ as well, because the sanitizer looks for __cxa_throw when it starts, and Python has no C++ in it.
    given["LD_PRELOAD"] = f"{library(compiler, 'libasan.so')} {library(compiler, 'libstdc++.so')}"
    # pymalloc would hide from the sanitizer what is freed.
    given["PYTHONMALLOC"] = "malloc"
    # Leaks do not end in an exit status, because scenarios check theirs and most leaks are not ours; errors abort.
    # Without names, for LeakSanitizer takes minutes to find those of a few hundred functions of LLVM.
    # Without an alternative stack for signals: threads that CPython ends with pthread_exit leave marks on their stack,
    # over which the sanitizer stumbles when it takes down the alternative one.
    given["ASAN_OPTIONS"] = options(
        detect_leaks=1, exitcode=0, abort_on_error=1, symbolize=0, use_sigaltstack=0, log_path=reports
    )
    # gcc's UndefinedBehaviorSanitizer writes to stderr whatever is said here, and then aborts, which no test overlooks.
    given["UBSAN_OPTIONS"] = options(print_stacktrace=1, abort_on_error=1, log_path=reports)
    return given


def build(kind: str, out: Path, python: list[str], packages: Path | None) -> None:
    """Builds what has changed of the package, in folders of its own."""
    given = {**os.environ, "WORKERPOOL_SANITIZE": FLAGS[kind]}
    if packages is not None:
        given["PYTHONPATH"] = str(packages)
    command = [*python, "setup.py", "-q", "build", "--build-base", str(out), "--build-lib", str(out / "lib")]
    subprocess.run(command, cwd=ROOT, env=given, check=True)


def tests_to_run(kind: str, is_quick: bool) -> list[str]:
    left_out = LEFT_OUT | LEFT_OUT_OF[kind]
    for test, reason in left_out.items():
        print(f"left out: {test}: {reason}")
    return [f"--deselect={test}" if "::" in test else f"--ignore={test}" for test in left_out] + (
        QUICK[kind] if is_quick else ["tests"]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the Python tests under sanitizers.")
    parser.add_argument("kind", choices=FLAGS)
    parser.add_argument("--quick", action="store_true", help="only the tests that touch the most C code")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to test with")
    parser.add_argument("--packages", type=Path, help="a folder with what the tests import, instead of an environment")
    parser.add_argument("--out", type=Path, help="a folder for what is built and reported")
    known, arguments = parser.parse_known_args()
    out = (known.out or ROOT / "build" / ("asan" if known.kind == "address" else "tsan")).resolve()
    python = [known.python]
    if known.kind == "thread" and shutil.which("setarch") is not None:
        python = ["setarch", "-R", known.python]  # It wants the addresses where it expects them.
    reports = out / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    build(known.kind, out, python, known.packages)
    # -P, or the package in this folder would be found first.
    command = [*python, "-P", "-m", "pytest", "-p", "no:cacheprovider", f"--timeout={TIME_LIMIT}"]
    # It has no time limits for single examples, and takes the same ones each time.
    command += ["--hypothesis-profile=ci"]
    wanted = arguments if any(not a.startswith("-") for a in arguments) else []
    command += arguments + ([] if wanted else tests_to_run(known.kind, known.quick))
    status = subprocess.run(command, cwd=ROOT, env=environment(known.kind, out, known.packages), check=False).returncode
    is_clean = judge(reports)
    return status or int(not is_clean)


if __name__ == "__main__":
    sys.exit(main())
