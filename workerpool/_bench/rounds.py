"""How a case is measured: all contenders in turn, round by round, another one first each time.

A machine's speed drifts: other work comes and goes, and the processor changes its clock. So a ratio is taken within
each round, between figures that were measured within seconds of each other, and what is reported is the median over the
rounds. A figure by itself is a median as well, and is no claim.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from .bench import Bench, Case, Claim, Contender, Figures, LeftOut, Settings, Verdict

# Runtimes such as OpenMP's let their threads spin for a while after the work; the next contender is not to pay for it.
PAUSE = 0.02


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict; None where a contender it needs was not measured."""

    claim: Claim
    verdict: Verdict | None


@dataclass(frozen=True)
class Outcome:
    """What was measured of a case.

    rounds: each contender's figures, one mapping a round. beside: for each contender, the first of its group.
    """

    case: Case
    jobs: int
    seconds: float
    rounds: dict[str, list[Figures]]
    beside: dict[str, str]
    left_out: list[LeftOut]
    claims: list[Claim]

    def medians(self) -> dict[str, dict[str, float]]:
        """Return the median of each figure of each contender."""
        return {name: {key: _median(taken, key) for key in taken[0]} for name, taken in self.rounds.items()}

    def spread(self, name: str, key: str) -> float:
        """Return the largest distance of a round's figure from the median, as a part of the median."""
        values = [figures[key] for figures in self.rounds[name]]
        middle = median(values)
        return max(abs(value - middle) for value in values) / middle if middle else 0.0

    def ratio(self, over: str, of: str, key: str) -> float:
        """Return the median over the rounds of one contender's figure divided by another's."""
        pairs = zip(self.rounds[over], self.rounds[of], strict=True)
        return median(_quotient(a[key], b[key]) for a, b in pairs)

    def judged(self) -> list[Judged]:
        medians = self.medians()
        return [Judged(claim, claim.judge(medians, self.ratio) if self._has(claim) else None) for claim in self.claims]

    def _has(self, claim: Claim) -> bool:
        return all(name in self.rounds for name in (claim.of, claim.over) if name is not None)


def _median(taken: Sequence[Figures], key: str) -> float:
    return median(figures[key] for figures in taken)


def _quotient(a: float, b: float) -> float:
    if b == 0:
        return 1.0 if a == 0 else float("inf")
    return a / b


def measure(case: Case, settings: Settings) -> Outcome:
    """Prepare a case, measure it and clear it away."""
    start = time.perf_counter()
    jobs = case.jobs_for(settings)
    with ExitStack() as stack:
        bench = Bench(settings, jobs, stack)
        for part in case.parts:
            part(bench)
        rounds = _take_rounds(bench.contenders, case.rounds_for(settings))
    beside = _firsts_of_groups(bench.contenders)
    return Outcome(case, jobs, time.perf_counter() - start, rounds, beside, bench.left_out, bench.claims)


def _firsts_of_groups(contenders: Sequence[Contender]) -> dict[str, str]:
    firsts: dict[int, str] = {}
    for contender in contenders:
        firsts.setdefault(contender.group, contender.name)
    return {contender.name: firsts[contender.group] for contender in contenders}


def _take_rounds(contenders: Sequence[Contender], rounds: int) -> dict[str, list[Figures]]:
    taken: dict[str, list[Figures]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        if contender.warm:
            contender.measure()
    for number in range(rounds if contenders else 0):
        first = number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            time.sleep(PAUSE)
            taken[contender.name].append(contender.measure())
    return taken
