"""Jobs that use their own pool: they neither deadlock nor overflow."""

from __future__ import annotations

import pytest

from conftest import RunScenario
from support import Helpers


def test_submit_and_wait_nested_100_deep_on_one_worker(run_scenario: RunScenario, helpers: Helpers) -> None:
    done = run_scenario(
        """
        import sys, workerpool as wp

        native = wp.native(sys.argv[1] + ":id_long", "long (long)")

        def nested(pool, depth):
            if depth == 0:
                return pool.submit(native, 1).result()
            return 1 + pool.submit(nested, pool, depth - 1).result()

        for pool in (wp.WorkerPool(1), wp.WorkerPool(1, queue_size=0), wp.WorkerPool(1, queue_size=1),
                     wp.WorkerPool(2), wp.ThreadPoolExecutor(1)):
            with pool:
                print(pool.submit(nested, pool, 100).result(15), end=" ")
        """,
        args=[helpers.path],
        timeout=30,
    )
    assert done.stdout == "101 " * 5


WATCHED = """
    import sys, workerpool as wp

    native = wp.native(sys.argv[1] + ":id_long", "long (long)")
    told = []

    def watched(pool, fn, limit):
        f = pool.submit(fn, 5)
        f.add_done_callback(lambda f: told.append(f.result()))
        return f.result(limit), f.exception(limit)

    def all_ways(pool):
        return [watched(pool, fn, limit) for fn in (int, native) for limit in (None, 15)]
"""


@pytest.mark.parametrize("where", ["in a job", "in a callback", "in a unit of a map"])
def test_worker_that_runs_a_watched_job_itself(run_scenario: RunScenario, helpers: Helpers, where: str) -> None:
    """The worker waits until the end was told, and nobody else is there to tell it."""
    done = run_scenario(
        WATCHED
        + """
    import threading

    with wp.WorkerPool(1) as pool:
        if sys.argv[2] == "in a job":
            print(pool.submit(all_ways, pool).result(15))
        elif sys.argv[2] == "in a unit of a map":
            print(*pool.map(all_ways, [pool]))
        else:
            seen, begin, end = [], threading.Event(), threading.Event()
            f = pool.submit(begin.wait)
            f.add_done_callback(lambda f: (seen.append(all_ways(pool)), end.set()))
            begin.set()
            end.wait(15)
            print(*seen)
    print(told)
        """,
        args=[helpers.path, where],
        timeout=30,
    )
    assert done.stdout == "[(5, None), (5, None), (5, None), (5, None)]\n[5, 5, 5, 5]\n"


def test_nested_with_time_limits_and_exception(run_scenario: RunScenario) -> None:
    """A time limit on the wait does not keep a worker from running what it waits for."""
    done = run_scenario(
        """
        import workerpool as wp

        def nested(pool, depth):
            if depth == 0:
                return 0
            if depth % 2:
                assert pool.submit(nested, pool, depth - 1).exception(10) is None
                return depth
            return pool.submit(nested, pool, depth - 1).result(timeout=10) + 1

        with wp.WorkerPool(1) as pool:
            print(pool.submit(nested, pool, 50).result(15))
        """
    )
    assert done.stdout == "50\n"


def test_worker_submits_more_than_the_queue_holds(run_scenario: RunScenario, helpers: Helpers) -> None:
    done = run_scenario(
        """
        import concurrent.futures, sys, workerpool as wp

        native = wp.native(sys.argv[1] + ":id_long", "long (long)")

        def outer(pool, function, n):
            futures = [pool.submit(function, i) for i in range(n)]
            return sum(f.result() for f in futures)

        for workers in (1, 2):
            for queue_size in (0, 1, 2, 100):
                with wp.WorkerPool(workers, queue_size=queue_size) as pool:
                    for function in (int, native):
                        print(pool.submit(outer, pool, function, 1000).result(10), end=" ")
        """,
        args=[helpers.path],
        timeout=30,
    )
    assert done.stdout == "499500 " * 16


def test_all_workers_wait_for_jobs_of_their_own(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import workerpool as wp

        def tree(pool, depth):
            if depth == 0:
                return 1
            return sum(f.result() for f in [pool.submit(tree, pool, depth - 1) for _ in range(3)])

        for workers in (1, 2, 4):
            with wp.WorkerPool(workers, queue_size=5) as pool:
                print(pool.submit(tree, pool, 6).result(15), end=" ")
        """
    )
    assert done.stdout == "729 729 729 "


def test_current_job_of_a_nested_job(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import workerpool as wp

        def inner():
            return wp.current_job().label, wp.current_job().worker

        def outer(pool):
            before = wp.current_job().label
            inside = pool.options(label="inner").submit(inner).result()
            return before, inside, wp.current_job().label

        with wp.WorkerPool(1) as pool:
            print(pool.options(label="outer").submit(outer, pool).result(10))
        """
    )
    assert done.stdout == "('outer', ('inner', 0), 'outer')\n"


def test_two_pools_that_wait_for_each_other(run_scenario: RunScenario) -> None:
    done = run_scenario(
        """
        import workerpool as wp

        def ping(here, there, depth):
            return 0 if depth == 0 else 1 + there.submit(ping, there, here, depth - 1).result(10)

        with wp.WorkerPool(10) as a, wp.WorkerPool(10) as b:
            print(a.submit(ping, a, b, 15).result(15))
        """
    )
    assert done.stdout == "15\n"


def test_nested_job_in_a_lane_with_a_limit(run_scenario: RunScenario) -> None:
    """max_running=1: the job that waits counts as the running one, and takes its own job back."""
    done = run_scenario(
        """
        import workerpool as wp

        with wp.WorkerPool(2, lanes=[wp.Lane("one", max_running=1)]) as pool:
            def outer(depth):
                return 0 if depth == 0 else 1 + pool.submit(outer, depth - 1).result()
            print(pool.submit(outer, 20).result(10))
        """
    )
    assert done.stdout == "20\n"
