"""What a benchmark is made of: cases, their contenders, and what is claimed of them.

A case is one piece of work. Each of its contenders does it in its own way and is measured the same way, in rounds
(see rounds.py). A claim compares a figure of one contender with that of another, or with a fixed bound. For every
figure less is better.
"""

from __future__ import annotations

import fnmatch
import gc
import importlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from multiprocessing.pool import ThreadPool
from typing import Any, Protocol, TypeVar

from .. import WorkerPool
from .machine import Usage

T = TypeVar("T")

# Names that several cases use.
OURS = "workerpool"
TPE = "ThreadPoolExecutor"
MULTIPROCESSING = "multiprocessing ThreadPool"
JOBLIB = "joblib, threading"
NUMBA = "numba prange"
LOOP = "plain loop"

# What a contender's measurement yields: figures by name. The names are in FIGURES.
Figures = Mapping[str, float]


@dataclass(frozen=True)
class Figure:
    """How a figure is called in a table, and how many decimals it is worth."""

    heading: str
    decimals: int = 0


FIGURES = {
    "ns": Figure("ns/job"),
    "cpu_ns": Figure("CPU ns/job"),
    "switches": Figure("switches/job", 4),
    "bytes": Figure("bytes/job"),
    "p50_us": Figure("median µs", 1),
    "p99_us": Figure("99th % µs", 1),
    "cpu_us": Figure("CPU µs/job", 2),
    "job_us": Figure("bulk job µs", 1),
    "late_us": Figure("99th % less a bulk job, µs", 1),
    "grown_kb": Figure("kB grown"),
    "idle_cpu_us": Figure("CPU µs"),
    "idle_switches": Figure("switches"),
}

Run = Callable[[], object]
Measure = Callable[[], Figures]


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    warm: it is run once before the rounds that count. group: the table compares contenders of one group.
    """

    name: str
    measure: Measure
    warm: bool
    group: int


@dataclass(frozen=True)
class LeftOut:
    """A contender that cannot be measured here, and why."""

    name: str
    why: str


# ---- Claims ----

# The median figures of the contenders of a case, and the ratio of two contenders' figures (the median over the rounds).
Medians = Mapping[str, Figures]
RatioOf = Callable[[str, str, str], float]


@dataclass(frozen=True)
class Verdict:
    """What became of a claim. `value` is a ratio, or the figure itself where the claim has a fixed bound."""

    value: float
    met: bool


class Claim(Protocol):
    """Something that has to hold of the figures of a case."""

    @property
    def of(self) -> str: ...
    @property
    def over(self) -> str | None: ...
    @property
    def figure(self) -> str: ...
    @property
    def target(self) -> str: ...
    def judge(self, medians: Medians, ratio: RatioOf) -> Verdict: ...


@dataclass(frozen=True)
class AtLeast:
    """The figure of contender `over`, divided by that of contender `of`, is at least `factor`."""

    factor: float
    of: str
    over: str
    figure: str = "ns"

    @property
    def target(self) -> str:
        return f"at least {self.factor:.3g}x"

    def judge(self, medians: Medians, ratio: RatioOf) -> Verdict:  # noqa: ARG002
        value = ratio(self.over, self.of, self.figure)
        return Verdict(value, value >= self.factor)


@dataclass(frozen=True)
class AtMost:
    """A figure of contender `of` is at most `bound`."""

    bound: float
    of: str
    figure: str
    over: None = None

    @property
    def target(self) -> str:
        return f"at most {self.bound:g}"

    def judge(self, medians: Medians, ratio: RatioOf) -> Verdict:  # noqa: ARG002
        value = medians[self.of][self.figure]
        return Verdict(value, value <= self.bound)


# ---- Cases ----


@dataclass(frozen=True)
class Settings:
    """What the command line asks for.

    workers: of each pool. rounds: None for what each case wants. patience: how many times as many rounds may be taken
    when other processes disturb them.
    """

    workers: int
    rounds: int | None = None
    quick: bool = False
    patience: int = 1


class Bench:
    """A case while it is prepared and measured: it collects the contenders and the claims.

    jobs: how many jobs a contender has to do. What is opened through this object is closed after the measurement.
    """

    def __init__(self, settings: Settings, jobs: int, stack: ExitStack) -> None:
        self.settings = settings
        self.workers = settings.workers
        self.quick = settings.quick
        self.jobs = jobs
        self.contenders: list[Contender] = []
        self.left_out: list[LeftOut] = []
        self.claims: list[Claim] = []
        self._stack = stack
        self._group = 0

    # Contenders.

    def add(self, name: str, run: Run, *, jobs: int | None = None, expect: object = None, warm: bool = True) -> None:
        """Add a contender whose run is timed here. jobs: how many it does; expect: what it must return, if given."""
        number = self.jobs if jobs is None else jobs
        self.add_measured(name, lambda: _timed(name, run, number, expect), warm=warm)

    def add_measured(self, name: str, measure: Measure, *, warm: bool = True) -> None:
        """Add a contender that measures itself."""
        self.contenders.append(Contender(name, measure, warm, self._group))

    def new_group(self) -> None:
        """Contenders added from now on do other work than those before, and are compared among themselves."""
        self._group += 1

    def leave_out(self, name: str, why: str) -> None:
        self.left_out.append(LeftOut(name, why))

    def module(self, peer: str, name: str) -> Any:
        """Import a package that a peer needs. Without it the peer is left out, and the result is None."""
        try:
            return importlib.import_module(name)
        except ImportError as error:
            missing = f"the package {name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
            self.leave_out(peer, f"{missing}; pip install {name}")
            return None

    # Claims.

    def at_least(self, factor: float, *, over: str, of: str = OURS, figure: str = "ns") -> None:
        """Claim that contender `of` is `factor` times better than contender `over`."""
        self.claims.append(AtLeast(factor, of, over, figure))

    def at_most(self, bound: float, *, of: str = OURS, figure: str) -> None:
        """Claim that a figure of contender `of` is at most `bound`."""
        self.claims.append(AtMost(bound, of, figure))

    # What contenders need.

    def pool(self, workers: int | None = None, **options: Any) -> WorkerPool:
        return self.enter(WorkerPool(workers or self.workers, **options))

    def executor(self, workers: int | None = None) -> ThreadPoolExecutor:
        return self.enter(ThreadPoolExecutor(workers or self.workers))

    def threads(self) -> ThreadPool:
        return self.enter(ThreadPool(self.workers))

    def enter(self, manager: AbstractContextManager[T]) -> T:
        """Enter a context that is left after the measurement."""
        return self._stack.enter_context(manager)

    def at_end(self, function: Callable[[], object]) -> None:
        self._stack.callback(function)


def _timed(name: str, run: Run, jobs: int, expect: object) -> Figures:
    gc.collect()  # Nobody pays for what another has left behind.
    before = Usage.now()
    result = run()
    used = Usage.now() - before
    if expect is not None and result != expect:
        raise WrongResult(f"{name} has other results than expected")
    return used.per_job(jobs)


class WrongResult(Exception):
    """A contender did not do the work it was measured for."""


Part = Callable[[Bench], None]


@dataclass
class Case:
    """The same work for several contenders.

    key: what --only knows it by. title: what is measured, in words. jobs, quick_jobs: how many, and how many with
    --quick; 0 where the contenders do not all do the same number. rounds: how many count. parts: what prepares it,
    each part some contenders. figure: the one that the table compares.
    """

    key: str
    title: str
    jobs: int
    quick_jobs: int
    rounds: int = 7
    figure: str = "ns"
    parts: list[Part] = field(default_factory=list)

    def jobs_for(self, settings: Settings) -> int:
        return self.quick_jobs if settings.quick else self.jobs

    def rounds_for(self, settings: Settings) -> int:
        return settings.rounds or (2 if settings.quick else self.rounds)


class Catalogue:
    """All cases, in the order in which they are shown."""

    def __init__(self) -> None:
        self._cases: dict[str, Case] = {}

    def case(
        self, key: str, title: str, *, jobs: int, quick_jobs: int, rounds: int = 7, figure: str = "ns"
    ) -> Callable[[Part], Part]:
        """Decorate the function that prepares a new case."""
        case = Case(key, title, jobs, quick_jobs, rounds, figure)
        self._cases[key] = case

        def add(part: Part) -> Part:
            case.parts.append(part)
            return part

        return add

    def extend(self, key: str) -> Callable[[Part], Part]:
        """Decorate a function that adds contenders to a case that is there already."""

        def add(part: Part) -> Part:
            self._cases[key].parts.append(part)
            return part

        return add

    def select(self, patterns: Sequence[str]) -> list[Case]:
        """Return the cases whose key contains one of the texts, or matches it as a shell pattern; without any, all."""
        return [case for case in self._cases.values() if not patterns or _matches(case.key, patterns)]


def _matches(key: str, patterns: Sequence[str]) -> bool:
    return any(pattern in key or fnmatch.fnmatchcase(key, pattern) for pattern in patterns)
