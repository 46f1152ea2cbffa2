"""Jobs that wait for other jobs of their pool: each kind of wait, wherever the work is that it waits for.

None of them may sleep for ever. What cannot go on, because jobs wait for each other in a circle, raises DeadlockError,
and nothing else does.
"""

from __future__ import annotations

import os
import random

import pytest

from conftest import RunScenario

# What the scenarios share. Each kind of wait submits the call of a function to a pool or a view, and returns a function
# that waits for what it returns.
COMMON = """
    import random, sys, threading, time
    import workerpool as wp

    def result(pool, fn):
        return pool.submit(fn).result

    def result_with_limit(pool, fn):
        future = pool.submit(fn)
        return lambda: future.result(60)

    def exception(pool, fn):
        future = pool.submit(fn)
        return lambda: future.exception() or future.result(0)

    def queue(pool, fn, **options):
        results = pool.results()
        results.submit(fn)
        return lambda: results.get(**options).unwrap()

    def queue_with_limit(pool, fn):
        return queue(pool, fn, timeout=60)

    def queue_to_its_end(pool, fn):
        results = pool.results()
        results.submit(fn)
        results.close()
        return lambda: [r.unwrap() for r in results][0]

    def mapped(pool, fn, **options):
        return pool.map(lambda fn: fn(), [fn], **options).__next__

    def mapped_as_it_comes(pool, fn):
        return mapped(pool, fn, in_order=False)

    def mapped_with_limit(pool, fn):
        return mapped(pool, fn, timeout=60)

    def mapped_as_jobs(pool, fn):
        return mapped(pool.options(run_timeout=60), fn)

    def native(pool, fn):
        return pool.submit(wp.native("c:labs", "long (long)"), -fn()).result

    def native_in_a_queue(pool, fn):
        results = pool.results()
        results.submit(wp.native("c:labs", "long (long)"), -fn())
        return lambda: results.get().unwrap()

    KINDS = [result, result_with_limit, exception, queue, queue_with_limit, queue_to_its_end, mapped,
             mapped_as_it_comes, mapped_with_limit, mapped_as_jobs, native, native_in_a_queue]

    def seven():
        return 7

    def get_used_to_short_jobs(pool):
        "From now on workers claim many jobs at a time."
        for future in [pool.submit(int) for _ in range(2000)]:
            future.result()

    def within(future, seconds=20):
        "The result, or the process ends with the kind of wait that hangs."
        try:
            return future.result(seconds)
        except TimeoutError:
            sys.exit("hangs: " + now)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_work_that_waits_in_its_lane(run_scenario: RunScenario, workers: int) -> None:
    run_scenario(
        COMMON
        + """
    for kind in KINDS:
        now = kind.__name__
        with wp.WorkerPool(int(sys.argv[1])) as pool:
            assert within(pool.submit(lambda: kind(pool, seven)())) == 7
            assert within(pool.submit(lambda: pool.submit(lambda: kind(pool, seven)()).result())) == 7
        """,
        args=[str(workers)],
        timeout=60,
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("limit", ["None", "60"])
def test_work_that_comes_after_the_reader(run_scenario: RunScenario, workers: int, limit: str) -> None:
    run_scenario(
        COMMON
        + """
    limit = eval(sys.argv[2])
    now = "a queue"
    with wp.WorkerPool(int(sys.argv[1])) as pool:
        others = pool.max_workers - 1 if hasattr(pool, "max_workers") else int(sys.argv[1]) - 1
        gate = threading.Event()
        kept = [pool.submit(gate.wait) for _ in range(others)]
        results = pool.results()
        reads = threading.Event()
        def read():
            reads.set()
            return [results.get(limit).unwrap() for _ in range(5)]
        reader = pool.submit(read)
        assert reads.wait(20)
        for i in range(5):
            time.sleep(0.01 * i)
            results.submit(abs, -i)
        assert within(reader) == [0, 1, 2, 3, 4]
        gate.set()
        """,
        args=[str(workers), limit],
        timeout=60,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_producer_that_waits_for_room_while_its_jobs_need_the_worker(run_scenario: RunScenario, workers: int) -> None:
    """The jobs that have the places wait for the worker, it waits for a place, and the reader for the jobs."""
    run_scenario(
        COMMON
        + """
    now = "room among results"
    for maxsize in (1, 2, 5):
        with wp.WorkerPool(int(sys.argv[1])) as pool:
            results = pool.results(maxsize=maxsize)
            def produce():
                for i in range(20):
                    results.submit(abs, -i)
            producers = [pool.submit(produce) for _ in range(int(sys.argv[1]))]
            values = [results.get(timeout=20).unwrap() for _ in range(20 * len(producers))]
            assert sum(values) == 190 * len(producers)
            for producer in producers:
                within(producer)
        """,
        args=[str(workers)],
        timeout=60,
    )


def test_work_that_the_waiting_worker_has_claimed_itself(run_scenario: RunScenario) -> None:
    """It was submitted before the job that waits for it had begun, and both were claimed together."""
    run_scenario(
        COMMON
        + """
    for kind in KINDS:
        now = kind.__name__
        with wp.WorkerPool(1, queue_size=None) as pool:
            get_used_to_short_jobs(pool)
            gate, waits = threading.Event(), []
            first = pool.submit(gate.wait)
            job = pool.submit(lambda: waits[0]())
            waits.append(kind(pool, seven))
            gate.set()
            assert within(job) == 7
        """,
        timeout=60,
    )


def test_work_claimed_by_a_worker_that_is_stuck_before_it(run_scenario: RunScenario) -> None:
    """What it is stuck in waits for the job that waits for the work, by a lock of which the pool knows nothing."""
    run_scenario(
        COMMON
        + """
    for kind in KINDS:
        now = kind.__name__
        with wp.WorkerPool(2, queue_size=None) as pool:
            get_used_to_short_jobs(pool)
            begun, may_wait, waits = threading.Event(), threading.Event(), []
            gate, gate_begun, has_result = threading.Event(), threading.Event(), threading.Event()
            def job():
                begun.set()
                may_wait.wait()
                value = waits[0]()
                has_result.set()
                return value
            def keep():
                gate_begun.set()
                gate.wait()
            waiter = pool.submit(job)
            assert begun.wait(20)
            pool.submit(keep)
            assert gate_begun.wait(20)
            stuck = pool.submit(has_result.wait)
            waits.append(kind(pool, seven))
            gate.set()
            time.sleep(0.01)
            may_wait.set()
            assert within(waiter) == 7
            assert within(stuck)
        """,
        timeout=60,
    )


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("chunksize", ["None", "16"])
def test_unit_of_a_map_that_waits_for_the_next(run_scenario: RunScenario, in_order: bool, chunksize: str) -> None:
    """In the drop-in each call is a job of its own, so this works; here they are claimed many at a time."""
    run_scenario(
        COMMON
        + """
    now = "a map"
    for nested in (False, True):
        for k in range(1, 240, 17):
            with wp.WorkerPool(3) as pool:
                event = threading.Event()
                def fn(i):
                    if i == k:
                        event.wait()
                    if i == k + 1:
                        event.set()
                    return i
                def job():
                    return sum(pool.map(fn, range(300), in_order=sys.argv[1] == "True", chunksize=eval(sys.argv[2])))
                if nested:
                    assert within(pool.submit(job)) == 44850
                else:
                    watch = threading.Timer(20, lambda: os._exit(1))
                    assert job() == 44850
        """,
        args=[str(in_order), chunksize],
        timeout=120,
    )


def test_unit_of_an_unordered_map_that_waits_for_its_reader(run_scenario: RunScenario) -> None:
    """The reader is a job: it must not be stuck in the unit itself, nor miss those that were claimed behind it."""
    run_scenario(
        COMMON
        + """
    now = "a map"
    for i in range(10):
        with wp.WorkerPool(2, queue_size=None) as pool:
            get_used_to_short_jobs(pool)
            enough = threading.Event()
            def fn(i):
                if i == 50:
                    enough.wait()
                return i
            def job():
                n = 0
                for value in pool.map(fn, range(100), in_order=False):
                    n += 1
                    if n == 99:
                        enough.set()
                return n
            assert within(pool.submit(job)) == 100
        """,
        timeout=60,
    )


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_lanes_that_are_full_of_jobs_that_wait_for_each_other(run_scenario: RunScenario, workers: int) -> None:
    """max_running=1 in both. They stand still, so a job that one of them waits for runs in their place."""
    run_scenario(
        COMMON
        + """
    lanes = [wp.Lane("a", max_running=1), wp.Lane("b", max_running=1)]
    for kind in KINDS:
        now = kind.__name__
        with wp.WorkerPool(int(sys.argv[1]), lanes=lanes) as pool:
            both = threading.Barrier(2)
            def job(lane):
                both.wait(20)
                return kind(pool.lane(lane), seven)()
            one = pool.lane("a").submit(job, "b")
            other = pool.lane("b").submit(job, "a")
            assert (within(one), within(other)) == (7, 7)
            """,
        args=[str(workers)],
        timeout=90,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_job_that_waits_for_its_own_full_lane(run_scenario: RunScenario, workers: int) -> None:
    run_scenario(
        COMMON
        + """
    for kind in KINDS:
        now = kind.__name__
        with wp.WorkerPool(int(sys.argv[1]), lanes=[wp.Lane("one", max_running=1, capacity=0)]) as pool:
            assert within(pool.submit(lambda: kind(pool, seven)())) == 7
        """,
        args=[str(workers)],
        timeout=60,
    )


@pytest.mark.parametrize("options", ["token=wp.CancelToken()", "queue_timeout=100"])
def test_full_lanes_whose_jobs_wait_for_jobs_that_may_be_dropped(run_scenario: RunScenario, options: str) -> None:
    """That somebody may cancel what waits in a full lane does not let the lane's job get on."""
    run_scenario(
        COMMON
        + f"""
    now = "crosswise"
    with wp.WorkerPool(4, lanes=[wp.Lane("a", max_running=1), wp.Lane("b", max_running=1)]) as pool:
        together = threading.Barrier(2)

        def cross(lane):
            together.wait(10)
            return pool.lane(lane).options({options}).submit(seven).result()

        futures = [pool.lane("a").submit(cross, "b"), pool.lane("b").submit(cross, "a")]
        assert [within(future) for future in futures] == [7, 7]
        """,
        timeout=60,
    )


@pytest.mark.parametrize("who", ["worker", "caller"])
def test_full_lane_whose_job_reads_what_others_do(run_scenario: RunScenario, who: str) -> None:
    """A job that reads what another thread submits, and may run itself, gets on: no job of its lane runs beside it."""
    run_scenario(
        COMMON
        + """
    now = sys.argv[1]
    lanes = [wp.Lane("one", max_running=1), "free"]
    workers = 3 if now == "worker" else 2
    size = None if now == "worker" else 0
    with wp.WorkerPool(workers, queue_size=size, lanes=lanes) as pool:
        one, free, inside, most, threads = pool.lane("one"), pool.lane("free"), [], [], []
        results, begun = free.options(on_full="caller_runs").results(), threading.Event()

        def enter(do):
            inside.append(1)
            most.append(len(inside))
            came = do()
            inside.pop()
            return came

        def read():
            begun.set()
            came = results.get().unwrap()
            time.sleep(0.3)
            return came

        def to_be_read():
            threads.append(threading.current_thread())
            time.sleep(0.5)
            return 7

        reader = one.submit(enter, read)
        assert begun.wait(10)
        needs = free.submit(lambda: one.submit(enter, lambda: time.sleep(1)).result())
        time.sleep(0.5)
        results.submit(to_be_read)
        assert within(reader) == 7 and within(needs) is None
        assert (threads[0] is threading.main_thread()) == (now == "caller")
        assert max(most) == 1, most
        """,
        args=[who],
        timeout=60,
    )


def test_full_lane_whose_jobs_get_on_is_waited_for(run_scenario: RunScenario) -> None:
    """Only jobs that stand still for ever are passed: a limit is a limit."""
    run_scenario(
        COMMON
        + """
    now = "a full lane"
    lanes = [wp.Lane("one", max_running=1), wp.Lane("many")]
    with wp.WorkerPool(4, lanes=lanes) as pool:
        running, most, lock = [0], [0], threading.Lock()
        def limited():
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.002)
            with lock:
                running[0] -= 1
        def waits_for_it():
            pool.lane("one").submit(limited).result()
        def slow_for_others():
            time.sleep(0.05)
        def holds_the_lane():
            with lock:
                running[0] += 1
            pool.lane("many").submit(slow_for_others).result(60)
            with lock:
                running[0] -= 1
        futures = []
        for i in range(10):
            futures.append(pool.lane("one").submit(holds_the_lane if i % 4 == 0 else limited))
            futures.append(pool.lane("many").submit(waits_for_it))
        for future in futures:
            within(future)
        assert most[0] == 1, most
        """,
        timeout=60,
    )


# ---- Circles ----


def test_job_that_waits_for_itself(run_scenario: RunScenario) -> None:
    done = run_scenario(
        COMMON
        + """
    for workers in (1, 2):
        with wp.WorkerPool(workers) as pool:
            own, known = [], threading.Event()
            def job():
                known.wait()
                return own[0].result()
            own.append(pool.options(label="the snake").submit(job))
            known.set()
            error = own[0].exception(20)
            assert isinstance(error, wp.DeadlockError) and isinstance(error, RuntimeError), error
            print(error)
        """
    )
    first = done.stdout.splitlines()[0]
    assert 'waits for a Python callable, label "the snake", which runs on WorkerPool-0_0' in first
    assert "timeout" in first


@pytest.mark.parametrize("n", [2, 3, 5])
def test_jobs_that_wait_for_each_other(run_scenario: RunScenario, n: int) -> None:
    """One of them is told, and what becomes of it comes to the others."""
    run_scenario(
        COMMON
        + """
    n = int(sys.argv[1])
    with wp.WorkerPool(n + 1) as pool:
        for _ in range(20):
            jobs, known = [], threading.Event()
            def job(i):
                known.wait()
                return jobs[(i + 1) % n].result()
            jobs += [pool.submit(job, i) for i in range(n)]
            known.set()
            errors = [job.exception(20) for job in jobs]
            assert all(isinstance(error, wp.DeadlockError) for error in errors), errors
        assert pool.submit(seven).result(20) == 7
        """,
        args=[str(n)],
    )


def test_two_pools_whose_only_workers_wait_for_each_other(run_scenario: RunScenario) -> None:
    run_scenario(
        COMMON
        + """
    with wp.WorkerPool(1) as a, wp.WorkerPool(1) as b:
        def there():
            return a.submit(seven).result()
        def here():
            return b.submit(there).result()
        assert isinstance(a.submit(here).exception(20), wp.DeadlockError)
        assert a.submit(seven).result(20) == b.submit(seven).result(20) == 7
    with wp.WorkerPool(2) as a, wp.WorkerPool(1) as b:
        assert a.submit(here).result(20) == 7
        """
    )


def test_unit_of_a_map_that_waits_for_its_reader_is_told(run_scenario: RunScenario) -> None:
    run_scenario(
        COMMON
        + """
    for workers in (1, 2, 3):
        for in_order in (True, False):
            with wp.WorkerPool(workers) as pool:
                readers, known = [], threading.Event()
                def unit(i):
                    return readers[0].result()
                def read():
                    known.wait()
                    return list(pool.map(unit, range(3), in_order=in_order))
                readers.append(pool.submit(read))
                known.set()
                assert isinstance(readers[0].exception(20), wp.DeadlockError)
        """
    )


def test_circle_with_a_time_limit_is_no_deadlock(run_scenario: RunScenario) -> None:
    run_scenario(
        COMMON
        + """
    with wp.WorkerPool(2) as pool:
        jobs, known = [], threading.Event()
        def impatient():
            known.wait()
            try:
                jobs[1].result(0.3)
            except TimeoutError:
                return "enough"
        def patient():
            known.wait()
            return jobs[0].result()
        jobs += [pool.submit(impatient), pool.submit(patient)]
        known.set()
        assert [job.result(20) for job in jobs] == ["enough", "enough"]
        """
    )


def test_what_somebody_else_may_end_is_no_deadlock(run_scenario: RunScenario) -> None:
    """A future that no pool runs, a job that a token may cancel, a queue that others may fill, another thread's job."""
    run_scenario(
        COMMON
        + """
    now = "an end from outside"
    with wp.WorkerPool(1) as pool, wp.WorkerPool(1) as other:
        manual, token = wp.Future(), wp.CancelToken()
        gate = threading.Event()
        kept = other.submit(lambda: pool.submit(seven).result(0.5) if False else gate.wait())
        waits = pool.submit(manual.result)
        time.sleep(0.1)
        manual.set_result(7)
        assert within(waits) == 7

        results = pool.results()
        reader = pool.submit(lambda: results.get().unwrap())
        time.sleep(0.1)
        results.submit(seven)
        assert within(reader) == 7
        gate.set()

        def there():
            return pool.options(token=token).submit(seven).exception()
        def here():
            return other.submit(there).result()
        waits = pool.submit(here)
        time.sleep(0.1)
        token.cancel()
        try:
            within(waits)
        except wp.DeadlockError:
            raise
        except BaseException as error:
            assert "Cancelled" in type(error).__name__, error
        """
    )


# ---- Everything at once ----


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_random_nestings(run_scenario: RunScenario, workers: int) -> None:
    """Trees of jobs that wait for their children in every way, in lanes with and without limits; seeded."""
    seed = int(os.environ.get("WORKERPOOL_SEED", random.randrange(2**32)))
    run_scenario(
        COMMON
        + """
    seed, workers = int(sys.argv[1]), int(sys.argv[2])
    now = f"WORKERPOOL_SEED={seed}"
    print(now, file=sys.stderr)
    rng = random.Random(seed)
    lanes = [wp.Lane("free"), wp.Lane("one", max_running=1), wp.Lane("two", max_running=2), wp.Lane("none", capacity=0)]

    def leaf():
        return 7

    def tree(rng_seed, depth):
        rng = random.Random(rng_seed)
        if depth == 0:
            return leaf()
        waits, n = [], rng.randrange(1, 4)
        for i in range(n):
            kind = rng.choice(KINDS)
            view = pool.lane(rng.choice(["free", "one", "two", "none"]))
            if kind in (native, native_in_a_queue):
                waits.append(kind(view, leaf))
            else:
                child = rng.randrange(2**32)
                waits.append(kind(view, lambda child=child: tree(child, depth - 1)))
        rng.shuffle(waits)
        return max(wait() for wait in waits)

    end = time.monotonic() + 4
    rounds = 0
    while time.monotonic() < end:
        with wp.WorkerPool(workers, lanes=lanes) as pool:
            seeds = [rng.randrange(2**32) for _ in range(rng.randrange(1, 6))]
            views = [pool.lane(rng.choice(["free", "one", "two"])) for _ in seeds]
            futures = [view.submit(tree, s, rng.randrange(1, 4)) for view, s in zip(views, seeds)]
            assert [within(future, 40) for future in futures] == [7] * len(seeds)
            rounds += 1
    print(rounds)
        """,
        args=[str(seed), str(workers)],
        timeout=90,
    )
