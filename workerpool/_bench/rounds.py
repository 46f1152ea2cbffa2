"""How a case is measured: all contenders in turn, round by round, another one first each time.

A machine's speed drifts: other work comes and goes, and the processor changes its clock. So a ratio is taken within
each round, between figures that were measured within seconds of each other, and what is reported is the median over the
rounds. A figure by itself is a median as well, and is no claim.

The system says how much of the processors other processes have taken during a round. With patience, a round that was
disturbed is taken again, and the least disturbed ones count; which those are does not depend on their figures.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from .bench import Bench, Case, Claim, Contender, Figures, LeftOut, Settings, Verdict
from .machine import Neighbours, share_of_others

# Runtimes such as OpenMP's let their threads spin for a while after the work; the next contender is not to pay for it.
PAUSE = 0.02
# Others may take this part of all processors before a round counts as disturbed.
DISTURBED = 0.05


@dataclass(frozen=True)
class Judged:
    """A claim and its verdict; None where a contender it needs was not measured."""

    claim: Claim
    verdict: Verdict | None


@dataclass(frozen=True)
class Outcome:
    """What was measured of a case.

    rounds: each contender's figures, one mapping a round. beside: for each contender, the first of its group.
    others: the part of all processors that other processes took, the median over the rounds; None if it is not known.
    """

    case: Case
    jobs: int
    seconds: float
    others: float | None
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
        rounds = _take_rounds(bench.contenders, case.rounds_for(settings), settings.patience)
    others = [taken.others for taken in rounds if taken.others is not None]
    return Outcome(
        case=case,
        jobs=jobs,
        seconds=time.perf_counter() - start,
        others=median(others) if others else None,
        rounds={each.name: [taken.figures[each.name] for taken in rounds] for each in bench.contenders},
        beside=_firsts_of_groups(bench.contenders),
        left_out=bench.left_out,
        claims=bench.claims,
    )


def _firsts_of_groups(contenders: Sequence[Contender]) -> dict[str, str]:
    firsts: dict[int, str] = {}
    for contender in contenders:
        firsts.setdefault(contender.group, contender.name)
    return {contender.name: firsts[contender.group] for contender in contenders}


@dataclass(frozen=True)
class _Round:
    others: float | None
    figures: dict[str, Figures]


def _take_rounds(contenders: Sequence[Contender], rounds: int, patience: int) -> list[_Round]:
    """Take at most `patience` times as many rounds as asked for, and return the least disturbed in their order."""
    for contender in contenders:
        if contender.warm:
            contender.measure()
    taken: list[_Round] = []
    quiet = 0
    while contenders and quiet < rounds and len(taken) < rounds * patience:
        first = len(taken) % len(contenders)
        taken.append(_take_round([*contenders[first:], *contenders[:first]]))
        quiet += (taken[-1].others or 0.0) <= DISTURBED
    best = heapq.nsmallest(rounds, range(len(taken)), key=lambda number: taken[number].others or 0.0)
    return [taken[number] for number in sorted(best)]


def _take_round(contenders: Sequence[Contender]) -> _Round:
    before = Neighbours.now()
    figures = {}
    for contender in contenders:
        time.sleep(PAUSE)
        figures[contender.name] = contender.measure()
    return _Round(share_of_others(before), figures)
