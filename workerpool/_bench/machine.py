"""What the system says about this machine and this process."""

from __future__ import annotations

import gc
import os
import platform
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .. import __version__

_TASKS = Path("/proc/self/task")


@dataclass(frozen=True)
class Usage:
    """Time and context switches of this process, all threads together: counts since some point, or a difference."""

    wall_ns: int
    cpu_ns: int
    switches: int

    @classmethod
    def now(cls) -> Usage:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.perf_counter_ns(), time.process_time_ns(), used.ru_nvcsw + used.ru_nivcsw)

    def __sub__(self, before: Usage) -> Usage:
        return Usage(self.wall_ns - before.wall_ns, self.cpu_ns - before.cpu_ns, self.switches - before.switches)

    def per_job(self, jobs: int) -> dict[str, float]:
        """Return the figures ns, cpu_ns and switches."""
        return {"ns": self.wall_ns / jobs, "cpu_ns": self.cpu_ns / jobs, "switches": self.switches / jobs}


@dataclass(frozen=True)
class Neighbours:
    """What other processes have taken of the processors: since some point, or between two."""

    seconds: float
    of: float

    @classmethod
    def now(cls) -> Neighbours | None:
        """Return None where the system does not say."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        except OSError:
            return None
        tick = os.sysconf("SC_CLK_TCK")
        user, nice, system, idle, io_wait, interrupt, soft_interrupt, stolen = (int(each) / tick for each in fields)
        busy = user + nice + system + interrupt + soft_interrupt + stolen
        own = sum(
            used.ru_utime + used.ru_stime
            for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        return cls(busy - own, busy + idle + io_wait)

    def share_since(self, before: Neighbours) -> float:
        """Return the part of all processors' time that others took meanwhile, from 0 to 1."""
        return max(0.0, self.seconds - before.seconds) / max(self.of - before.of, 1e-9)


def share_of_others(before: Neighbours | None) -> float | None:
    """Return what part of all processors others have taken since, or None where that cannot be known."""
    after = Neighbours.now()
    return None if before is None or after is None else after.share_since(before)


def resident_bytes() -> int:
    """Return the memory of this process that is in the machine's memory now; where that is unknown, at most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_resident_bytes()
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_resident_bytes() -> int:
    """Return the most memory of this process that was in the machine's memory so far.

    Linux begins getrusage's figure with the size of the process that started this one, so it is not what is asked.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def threads() -> set[int]:
    """Return the system's numbers of this process's threads; Linux only."""
    return {int(task.name) for task in _TASKS.iterdir()}


def usage_of_threads(numbers: set[int]) -> tuple[int, int]:
    """Return the processor time (ns) that these threads have used so far, and how often they got a processor."""
    cpu_ns = turns = 0
    for number in numbers:
        ran, _, times = (_TASKS / str(number) / "schedstat").read_text().split()
        cpu_ns += int(ran)
        turns += int(times)
    return cpu_ns, turns


def has_schedstat() -> bool:
    return (_TASKS / str(os.getpid()) / "schedstat").exists()


def about(workers: int) -> dict[str, object]:
    """Return what a reader of the figures should know: versions, machine, load."""
    return {
        "workerpool": __version__,
        "python": platform.python_version(),
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "workers": workers,
        "gc": gc.isenabled(),
    }
