"""Workers are not woken, and do not stay awake, for jobs that those who wait for them run themselves."""

from __future__ import annotations

import os

import pytest

from conftest import SANITIZED, RunScenario
from support import Helpers

ROUND_TRIPS = """
    import resource, sys, time, workerpool as wp

    identity = wp.native(sys.argv[1] + ":id_long", "long (long)")

    def switches():
        return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw

    def round_trips(pool, n):
        before = switches()
        for _ in range(n):
            pool.submit(identity, 1).result()
        return (switches() - before) / n
"""


@pytest.mark.skipif(bool(SANITIZED) or os.cpu_count() == 1, reason="who wakes whom depends on the pace")
def test_round_trips_wake_hardly_any_worker(run_scenario: RunScenario, helpers: Helpers) -> None:
    """A worker that was woken on the submitter's processor ran the job before its waiter could, and so was woken again
    and again: for up to one job in five, which made all of them take three times as long."""
    done = run_scenario(
        ROUND_TRIPS
        + """
    with wp.WorkerPool(2) as pool:
        found = sorted(round_trips(pool, 10_000) for _ in range(9))
    print(found)
    assert found[4] < 0.03, found
    """,
        args=[helpers.path],
        timeout=60,
    )
    assert done.stdout


def test_workers_rest_after_round_trips(run_scenario: RunScenario, helpers: Helpers) -> None:
    """Those that had been woken in vain went on to look for work every 0.1 ms, for as long as the pool lived."""
    done = run_scenario(
        ROUND_TRIPS
        + """
    found = []
    for _ in range(6):
        with wp.WorkerPool(2) as pool:
            round_trips(pool, 10_000)
            time.sleep(0.1)
            before = switches()
            time.sleep(0.4)
            found.append(switches() - before)
    print(found)
    assert max(found) < 50, found
    """,
        args=[helpers.path],
        timeout=60,
    )
    assert done.stdout
