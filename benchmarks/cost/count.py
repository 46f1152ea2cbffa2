"""Counts what a job costs on the hot paths: instructions under callgrind, system calls under strace.

python benchmarks/cost/count.py [--only PATTERN] [--functions N] [--json FILE] ...; `make cost` runs it.

Unlike times, such counts hardly depend on the machine or on what else it does, so tests/test_cost.py sets bounds to
them. They are no measure of speed: an instruction may take a fraction of a nanosecond or, where it misses the caches, a
hundred.

Counted is everything that all threads of the process do between the first submission and the last result, in
workerpool, the interpreter and the C library, without start and warm-up. Instructions are those outside of the kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
CSRC = HERE.parent.parent / "csrc"
C_FLAGS = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-pthread", f"-I{CSRC / 'core'}", f"-I{CSRC / 'include'}"]
TIME_LIMIT = 300  # Seconds, for each program.
PYTHON, CORE = "python", "core"


class CannotCount(RuntimeError):
    """Something failed; the message says what."""


@dataclass(frozen=True)
class HotPath:
    """What is counted: by which program, and how many jobs under callgrind and under strace (0: not at all)."""

    name: str
    what: str
    program: str
    jobs: int
    traced_jobs: int

    def matches(self, patterns: Sequence[str]) -> bool:
        return not patterns or any(pattern in self.name or fnmatch(self.name, pattern) for pattern in patterns)


# So many jobs that what does not grow with them hardly counts. With jobs that come one at a time it depends on chance
# how often a worker sleeps between them, so their system calls are not counted.
HOT_PATHS = [
    HotPath("map-c", "map of a C function, double (double)", PYTHON, 20_000, 100_000),
    HotPath("map-py", "map of a Python function that adds one", PYTHON, 20_000, 100_000),
    HotPath("submit-c", "submit, then result, C function, all in flight", PYTHON, 4000, 100_000),
    HotPath("submit-py", "submit, then result, Python function that does nothing", PYTHON, 4000, 100_000),
    HotPath("round-trip-c", "submit(...).result() one at a time, C function", PYTHON, 4000, 0),
    HotPath("await-c", "await pool.run(...), all gathered, C function", PYTHON, 2000, 0),
    HotPath("await-py", "await pool.run(...), all gathered, Python function", PYTHON, 2000, 0),
    HotPath("stage", "C: wp_stage_put by one thread, wp_stage_get by another", CORE, 48_000, 96_000),
    HotPath("stage-many", "C: the same by wp_stage_put_many and wp_stage_get_many, 16 at a time", CORE, 48_000, 96_000),
    HotPath("stage-put", "C: wp_stage_put, nobody reads the results", CORE, 48_000, 96_000),
    HotPath("function-jobs", "C: wp_function_job and wp_pool_submit_wait", CORE, 20_000, 100_000),
]


@dataclass
class Count:
    """What one repetition of a path came to."""

    jobs: int
    total: float = 0  # Instructions or system calls of each job.
    own: float = 0  # Of these, in workerpool's own code.
    parts: dict[str, float] = field(default_factory=dict)  # By function, or by name of the system call.


Counts = dict[str, list[Count]]

# ---- What is needed ----


def runs(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def lacks_compiler() -> str | None:
    """Say what is missing to build the programs."""
    if shutil.which(compiler()[0]) is None:
        return f"the C compiler '{compiler()[0]}' was not found; apt install gcc"
    if not runs(*compiler(), "-E", "-include", "valgrind/callgrind.h", "-x", "c", os.devnull):
        return "the header valgrind/callgrind.h was not found; apt install valgrind"
    return None


def lacks_callgrind() -> str | None:
    """Say why instructions cannot be counted here, or None."""
    if shutil.which("valgrind") is None:
        return "valgrind was not found; apt install valgrind"
    if not runs("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "true"):
        return "valgrind does not work here"
    return lacks_compiler()


def lacks_strace() -> str | None:
    """Say why system calls cannot be counted here, or None."""
    if shutil.which("strace") is None:
        return "strace was not found; apt install strace"
    if not runs("strace", "-f", "-qq", "-o", os.devnull, "true"):
        return "strace does not work here: processes may not be traced"
    return lacks_compiler()


# ---- Running the programs ----


def compile_c(output: Path, *arguments: str | Path) -> Path:
    command = [*compiler(), *C_FLAGS, "-o", str(output), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    if done.returncode != 0:
        raise CannotCount(f"building {output.name} failed:\n{done.stderr}")
    return output


def environment() -> dict[str, str]:
    """Return the same environment whatever the shell's is, without randomness of hashes: dictionaries depend on it."""
    package = find_spec("workerpool")
    if package is None or package.origin is None:
        raise CannotCount("workerpool is not installed here")
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/",
        "LC_ALL": "C",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(Path(package.origin).parent.parent),
    }


def run(command: Sequence[str], folder: Path) -> None:
    """Run what counts, in a folder of its own, where it leaves what it found."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )
    if done.returncode != 0:
        raise CannotCount(f"{shlex.join(command)} failed:\n{done.stdout}{done.stderr}")


class Programs:
    """The programs of the paths, built in a folder when they are first used."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def command(self, program: str) -> list[str]:
        marks = HERE / "marks.c"
        if program == PYTHON:
            library = self._built("marks.so", "-shared", "-fPIC", marks)
            # Without site: what is installed beside workerpool is none of its cost.
            return [sys.executable, "-S", "-s", str(HERE / "paths.py"), str(library)]
        return [str(self._built("core", HERE / "paths.c", marks, *sorted(CSRC.glob("core/*.c")), "-lm"))]

    def _built(self, name: str, *arguments: str | Path) -> Path:
        output = self._folder / name
        return output if output.exists() else compile_c(output, *arguments)


# ---- Instructions ----

# Names in full, so that a file is easily read. Where in a function instructions are does not matter.
# All threads have their turns: else one may do all the work of another, and it is chance which.
VALGRIND = ["valgrind", "-q", "--fair-sched=yes", "--tool=callgrind"]
CALLGRIND = [*VALGRIND, "--dump-line=no", "--compress-strings=no", "--compress-pos=no"]
OWN_OBJECT = re.compile(r"_core\.[^/]*\.so|core")


def count_instructions(paths: Sequence[HotPath], programs: Programs, folder: Path, repeats: int) -> Counts:
    """Count with callgrind, which simulates each thread's instructions."""
    counts: Counts = {}
    for program in sorted({path.program for path in paths}):
        wanted = [f"{path.name}={path.jobs}" for path in paths if path.program == program]
        profiles = Path(tempfile.mkdtemp(dir=folder))
        output = f"--callgrind-out-file={profiles / 'profile'}"
        run([*CALLGRIND, output, *programs.command(program), str(repeats), *wanted], folder)
        for number in range(1, len(wanted) * repeats + 1):
            name, count = read_profile(profiles / f"profile.{number}")
            counts.setdefault(name, []).append(count)
    return counts


def read_profile(file: Path) -> tuple[str, Count]:
    """Read what a mark wrote out; the format is described at https://valgrind.org/docs/manual/cl-format.html."""
    name, count = "", Count(0)
    instructions: Counter[str] = Counter()
    place, function, own, total, in_call = "", "", 0, -1, False
    for line in file.read_text(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if line[:1].isdigit():
            if not in_call:  # Else the line after "calls=", which says what the callee took.
                cost = int(line.split()[1])
                instructions[function] += cost
                own += cost if OWN_OBJECT.fullmatch(place) else 0
            in_call = False
        elif key == "calls":
            in_call = True
        elif key == "ob":
            place = value.rpartition("/")[2]
        elif key == "fn":
            function = f"{place}:{value}" if value.startswith("0x") else value.partition("'")[0]
        elif line.startswith("desc: Trigger: Client Request: end "):
            name, jobs = line.split()[-2:]
            count.jobs = int(jobs)
        elif line.startswith("totals: "):
            total = int(line.split()[1])
    if count.jobs == 0 or instructions.total() != total:
        raise CannotCount(f"{file} is not a profile as expected: {instructions.total()} instructions, not {total}")
    count.total, count.own = total / count.jobs, own / count.jobs
    count.parts = {part: cost / count.jobs for part, cost in instructions.items()}
    return name, count


# ---- System calls ----

STRACE = ["strace", "-f", "-qq", "--signal=none"]
CALL = re.compile(r"\d+ +(\w+)\(")
MARK = re.compile(r'\d+ +write\(-1, "(begin|end) ([\w-]+) (\d+)"')


def count_system_calls(paths: Sequence[HotPath], programs: Programs, folder: Path, repeats: int) -> Counts:
    """Count with strace, which stops a thread at each system call, so that some take longer than they would."""
    counts: Counts = {}
    for program in sorted({path.program for path in paths if path.traced_jobs > 0}):
        wanted = [f"{path.name}={path.traced_jobs}" for path in paths if path.program == program and path.traced_jobs]
        log = folder / "strace.log"
        run([*STRACE, "-o", str(log), *programs.command(program), str(repeats), *wanted], folder)
        for name, count in read_log(log):
            counts.setdefault(name, []).append(count)
    return counts


def read_log(file: Path) -> Iterator[tuple[str, Count]]:
    calls: Counter[str] = Counter()
    with file.open(errors="replace") as lines:
        for line in lines:
            mark, call = MARK.match(line), CALL.match(line)
            if mark is not None and mark[1] == "end":
                jobs = int(mark[3])
                parts = {name: number / jobs for name, number in calls.items()}
                yield mark[2], Count(jobs, calls.total() / jobs, parts=parts)
            elif mark is not None:
                calls.clear()
            elif call is not None:
                calls[call[1]] += 1


# ---- Telling ----


def least(counts: Sequence[Count]) -> Count:
    """The repetition that stands for all: whatever disturbs one makes it dearer."""
    return min(counts, key=lambda count: count.total)


def spread(counts: Sequence[Count]) -> float:
    """By how much the dearest repetition is above the least, as a part of that."""
    return max(count.total for count in counts) / least(counts).total - 1


def table(paths: Sequence[HotPath], instructions: Counts, calls: Counts) -> Iterator[str]:
    yield f"{'a job of':<14} {'instructions':>12} {'own':>8} {'spread':>7} {'system calls':>13}"
    for path in paths:
        line = f"{path.name:<14} "
        if path.name in instructions:
            count = least(instructions[path.name])
            line += f"{count.total:>12,.0f} {count.own:>8,.0f} {spread(instructions[path.name]):>7.1%} "
        else:
            line += f"{'-':>12} {'-':>8} {'-':>7} "
        line += f"{least(calls[path.name]).total:>13.4f}" if path.name in calls else f"{'-':>13}"
        yield f"{line}  {path.what}"


def most_expensive(name: str, counts: Sequence[Count], number: int) -> Iterator[str]:
    parts = Counter(least(counts).parts)
    yield f"\n{name}"
    for part, cost in parts.most_common(number):
        yield f"{cost:>10.1f}  {part}"


def as_json(missing: dict[str, str], instructions: Counts, calls: Counts) -> str:
    def figures(counts: Counts) -> dict[str, object]:
        return {
            name: {"jobs": of[0].jobs, "total": [count.total for count in of], "own": [count.own for count in of]}
            for name, of in counts.items()
        }

    found = {"missing": missing, "instructions": figures(instructions), "system-calls": figures(calls)}
    return json.dumps(found, indent=2)


# ---- The command ----


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="what a job costs on the hot paths, in instructions and system calls")
    parser.add_argument("--only", action="append", default=[], metavar="PATTERN", help="only paths with such a name")
    parser.add_argument(
        "--kind", choices=["instructions", "system-calls", "both"], default="both", help="what is counted"
    )
    parser.add_argument("--functions", type=int, default=0, metavar="N", help="the N most expensive functions of each")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="how often; the least counts (default: 3)")
    parser.add_argument("--json", metavar="FILE", help="every figure; - is the standard output, without the table")
    return parser.parse_args()


def main() -> int:
    options = read_options()
    paths = [path for path in HOT_PATHS if path.matches(options.only)]
    counts: dict[str, Counts] = {"instructions": {}, "system-calls": {}}
    missing: dict[str, str] = {}
    kinds = {"instructions": (lacks_callgrind, count_instructions), "system-calls": (lacks_strace, count_system_calls)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = Programs(folder)
        for kind, (lacks, count) in kinds.items():
            if options.kind not in {kind, "both"}:
                continue
            reason = lacks()
            if reason is None:
                counts[kind] = count(paths, programs, folder, options.repeats)
            else:
                missing[kind] = reason
    tell(options, paths, missing, counts)
    return 0


def tell(options: argparse.Namespace, paths: Sequence[HotPath], missing: dict[str, str], of: dict[str, Counts]) -> None:
    instructions, calls = of["instructions"], of["system-calls"]
    if options.json:
        text = as_json(missing, instructions, calls) + "\n"
        if options.json == "-":
            print(text, end="")
            return
        Path(options.json).write_text(text)
    for kind, reason in missing.items():
        print(f"no {kind}: {reason}")
    version = platform.python_version()
    print(f"CPython {version}, {platform.machine()}, the least of {options.repeats} repetitions\n")
    print("\n".join(table(paths, instructions, calls)))
    for path in paths:
        if options.functions and path.name in instructions:
            print("\n".join(most_expensive(path.name, instructions[path.name], options.functions)))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotCount as problem:
        sys.exit(f"count.py: {problem}")
