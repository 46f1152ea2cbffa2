"""The compiled peers: where they are, how they are run, and what they need to be built."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workerpool._bench.bench import Bench, Figures

TIME_LIMIT = 600  # Seconds; none takes nearly as long.

# What each program needs, and where that comes from.
NEEDS = {
    "core": "a C compiler; apt install gcc",
    "condvar": "a C compiler; apt install gcc",
    "openmp": "a C compiler with OpenMP; apt install gcc",
    "libopenmp-loop.so": "a C compiler with OpenMP; apt install gcc",
    "tbb": "oneTBB and a C++ compiler; apt install libtbb-dev g++ pkg-config",
    "uv": "libuv; apt install libuv1-dev pkg-config",
    "glib": "GLib; apt install libglib2.0-dev pkg-config",
    "go-pools": "Go 1.23 or newer; https://go.dev/dl or apt install golang",
    "rust-pools": "Rust; https://rustup.rs or apt install cargo",
}


class ProgramFailed(RuntimeError):
    """A compiled peer ended with an error, or printed something else than figures."""


@dataclass(frozen=True)
class Programs:
    """The programs in a folder. All take SHAPE JOBS WORKERS BOUND and print figures as one JSON object."""

    folder: Path

    def path(self, program: str) -> Path | None:
        path = self.folder / program
        return path.absolute() if path.exists() else None

    def why_not(self, program: str) -> str:
        return f"{program} was not built; `make bench` builds it and needs {NEEDS[program]}"

    def add(
        self,
        bench: Bench,
        name: str,
        program: str,
        shape: str,
        *,
        jobs: int | None = None,
        workers: int | None = None,
        bound: int = 0,
        environment: Mapping[str, str] | None = None,
        pinned: bool = False,
    ) -> None:
        """Add a program as a contender, `pinned` to one processor or not, or say why it is left out."""
        path = self.path(program)
        if path is None:
            bench.leave_out(name, self.why_not(program))
            return
        numbers = (bench.jobs if jobs is None else jobs, bench.workers if workers is None else workers, bound)
        command = [str(path), shape, *map(str, numbers)]
        bench.add_measured(name, _runner(command, environment, pinned), warm=False)  # They warm themselves up.


@contextmanager
def _one_processor(pinned: bool) -> Iterator[None]:
    """Meanwhile this thread, and so what it starts, keeps to one processor, if the system knows how."""
    if not pinned or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _runner(command: list[str], environment: Mapping[str, str] | None, pinned: bool) -> Callable[[], Figures]:
    def run() -> Figures:
        with _one_processor(pinned):
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT,
                check=False,
                env={**os.environ, **(environment or {})},
            )
        if done.returncode != 0:
            raise ProgramFailed(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr.strip()}")
        figures: Figures = json.loads(done.stdout)
        return figures

    return run
