"""Checks the models of sleeping and waking with spin, and that each of them finds what is broken on purpose.

    python3 csrc/tests/model/models.py [--list] [NAME ...]

Each check is a search through every state that can be reached within its bounds. One kind looks for runs that end with
somebody asleep or an assertion broken, the other for runs that go on for ever. A check of a broken model must fail.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
# Of the clock, for one search, on a machine with other things to do.
SEARCH_SECONDS = 1800
BUILD_SECONDS = 120
MEMORY_MB = 6000
DEPTH = 200_000


class Check(NamedTuple):
    model: str
    settings: str  # NAME=VALUE of the model's bounds, and BREAK_... switches.
    is_quick: bool = False  # Takes a few seconds.

    @property
    def name(self) -> str:
        return f"{self.model}: {self.settings}"

    @property
    def is_broken(self) -> bool:
        return "BREAK_" in self.settings


CHECKS = [
    Check("pool", "CAPACITY=1 JOBS=2", is_quick=True),
    Check("pool", "CAPACITY=0 JOBS=2", is_quick=True),
    Check("pool", "CAPACITY=2 JOBS=2"),
    Check("pool", "WORKERS=3 CAPACITY=1 JOBS=1 EARLY=1"),
    Check("pool", "CAPACITY=1 JOBS=1 EARLY=1 RETIRE=1 CANCEL=1", is_quick=True),
    Check("pool", "CAPACITY=1 JOBS=1 PATROL=1 RETIRE=1", is_quick=True),
    Check("pool", "CAPACITY=1 JOBS=2 GIVE_UP=1"),
    Check("pool", "CAPACITY=2 JOBS=3 SUBMITTERS=1 CLAIM=2 LONG=1 PATROL=1"),
    Check("pool", "WORKERS=3 CAPACITY=2 JOBS=3 SUBMITTERS=1 CLAIM=2 LONG=1"),
    Check("results", "CAPACITY=1", is_quick=True),
    Check("results", "CAPACITY=2"),
    Check("results", "CAPACITY=2 GIVE_UP=1 READERS=1", is_quick=True),
    Check("results", "CAPACITY=1 EARLY=1"),
    Check("stage", "CAPACITY=1 READERS=1", is_quick=True),
    Check("stage", "CAPACITY=1 EARLY=1 READERS=1", is_quick=True),
    Check("stage", "CAPACITY=1 SUBMITTERS=2 READERS=1"),
    Check("stage", "CAPACITY=2 JOBS=3 READERS=2 NAPS=0"),
    Check("stage", "CAPACITY=1 EARLY=1"),
    Check("stage", "CAPACITY=1 EARLY=1 UNREAD=1"),
    Check("stage", "CAPACITY=2 SUBMITTERS=2 READERS=1 JOBS=2 WORKERS=2"),
]

BROKEN = [
    Check("pool", "BREAK_WAKING_NOT_CLEARED", is_quick=True),
    Check("pool", "BREAK_NEW_WORKER_STAYS_WAKING"),
    Check("pool", "BREAK_LEFT_ON_IDLE_LIST"),
    Check("pool", "BREAK_NOT_WOKEN"),
    Check("pool", "BREAK_SLEEP_WITHOUT_COMPARING", is_quick=True),
    Check("pool", "BREAK_ROOM_NOT_COUNTED"),
    Check("pool", "BREAK_ROOM_NOT_COMPARED", is_quick=True),
    Check("pool", "BREAK_CLAIM_OFFERS_NO_ROOM"),
    Check("pool", "SUBMITTERS=3 JOBS=1 EARLY=1 BREAK_CLOSE_CHANGES_NO_ROOM"),
    Check("pool", "LONG=1 CLAIM=2 CAPACITY=2 SUBMITTERS=1 JOBS=3 BREAK_CHAIN"),
    Check("pool", "LONG=1 CLAIM=2 CAPACITY=2 SUBMITTERS=1 JOBS=3 BREAK_NOTHING_TAKEN_OVER"),
    Check("pool", "WORKERS=1 CAPACITY=0 BREAK_FREE_WORKER_OFFERS_NOTHING"),
    Check("pool", "GIVE_UP=1 BREAK_ROOM_NOT_PASSED_ON", is_quick=True),
    Check("pool", "GIVE_UP=1 BREAK_REFUSED_AND_NOT_PASSED_ON"),
    Check("results", "BREAK_ROOM_NOT_CHANGED"),
    Check("results", "BREAK_ARRIVED_NOT_CHANGED"),
    Check("results", "BREAK_ROOM_NOT_COMPARED"),
    Check("results", "CAPACITY=1 GIVE_UP=1 BREAK_ROOM_NOT_PASSED_ON"),
    Check("results", "CAPACITY=1 GIVE_UP=1 BREAK_UNRESERVED_IN_SILENCE"),
    Check("results", "BREAK_LATCHED", is_quick=True),
    Check("results", "BREAK_READER_NOT_WOKEN"),
    Check("results", "BREAK_LAST_READER_NOT_TOLD", is_quick=True),
    Check("stage", "BREAK_ASLEEP_SAID_AFTER_THE_LOOK", is_quick=True),
    Check("stage", "BREAK_BLOCKED_SAID_AFTER_THE_LOOK"),
    Check("stage", "BREAK_CALL_WITHOUT_A_CHANGE"),
    Check("stage", "BREAK_LAST_NOT_WORTH_A_CALL", is_quick=True),
    Check("stage", "BREAK_PLACES_NOT_OFFERED"),
    Check("stage", "BREAK_CLOSE_NOT_LOOKED_AT", is_quick=True),
    Check("stage", "BREAK_CLOSE_CALLS_NO_READER"),
    Check("stage", "EARLY=1 UNREAD=1 READERS=1 BREAK_CLOSE_CALLS_NO_SUBMITTER"),
]


class Outcome(NamedTuple):
    error: str | None  # What was found wrong; None for nothing.
    states: int


def search(check: Check, *, for_cycles: bool) -> Outcome:
    """Goes through all states of a model. An incomplete search is an error of its own (RuntimeError)."""
    defines = [f"-D{setting}" for setting in check.settings.split()]
    compiler = shlex.split(os.environ.get("CC", "cc"))
    kind, options = (["-DNP"], ["-l"]) if for_cycles else (["-DSAFETY"], [])
    with tempfile.TemporaryDirectory() as folder:

        def run(*command: str, seconds: int = BUILD_SECONDS) -> str:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds)
            if done.returncode != 0:
                raise RuntimeError(f"{check.name}: {' '.join(command)}:\n{done.stdout}{done.stderr}")
            return done.stdout

        run("spin", "-a", *defines, str(FOLDER / f"{check.model}.pml"))
        limits = ["-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}"]
        run(*compiler, "-O2", "-w", *kind, *limits, "-o", "pan", "pan.c")
        output = run("./pan", *options, f"-m{DEPTH}", seconds=SEARCH_SECONDS)
    found = re.search(r"pan:1: (.*) \(at depth", output)
    states = re.search(r"^ *([\d.e+]+) states, stored", output, re.MULTILINE)
    if found is None and ("errors: 0" not in output or "too small" in output or "reached -DMEMLIM" in output):
        raise RuntimeError(f"{check.name}: the search was not complete:\n{output}")
    return Outcome(found[1] if found else None, int(float(states[1])) if states else 0)


def prove(check: Check) -> tuple[bool, str]:
    """Whether a check says what it should, and what it says."""
    ends = search(check, for_cycles=False)
    if check.is_broken:
        return ends.error is not None, f"found: {ends.error}" if ends.error else "NOT FOUND"
    if ends.error is not None:
        return False, ends.error
    cycles = search(check, for_cycles=True)
    return cycles.error is None, cycles.error or f"holds in all {ends.states} states"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="checks with this in their name; all if none is given")
    parser.add_argument("--list", action="store_true", help="name them and end")
    parser.add_argument("--quick", action="store_true", help="only those that take a few seconds")
    given = parser.parse_args()
    every = [c for c in CHECKS + BROKEN if c.is_quick or not given.quick]
    exact = [c for c in every if c.name in given.names]
    chosen = exact or [c for c in every if not given.names or any(name in c.name for name in given.names)]
    failed = 0
    for check in chosen:
        if given.list:
            print(check.name)
            continue
        good, says = prove(check)
        failed += not good
        print(f"{'ok' if good else 'not ok'} - {check.name}: {says}", flush=True)
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
