"""The promise, checked by a machine: every accepted job ends in exactly one outcome, and that is reported exactly once.

hypothesis makes up what a user does: submits of all kinds to all lanes, maps, results queues, tokens, time limits,
cancels, resizes, drains, shutdowns and forks. Beside the pool stands a model, the list of what was accepted with what
was asked of it. At every drain and at the end each job is held against it. csrc/tests/test_stress.c does the same from
many threads at once; here one thread acts, so that a failure can be made shorter and repeated.

WORKERPOOL_EXAMPLES says how many lives of a pool are played.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import workerpool as wp
from conftest import RunScenario
from support import LONG, Helpers, wait_until

EXAMPLES = int(os.environ.get("WORKERPOOL_EXAMPLES", "150"))
STEPS = 40
LANES = ["high", "normal", "low"]
KINDS = ["value", "error", "native", "held", "stoppable"]


class JobError(Exception):
    """What the jobs that fail raise."""


@dataclass
class Model:
    """One accepted job: what it is, what was asked of it, and what was seen of it."""

    number: int
    kind: str
    future: wp.Future[Any] | None = None
    token: int | None = None
    calls: bytearray = field(default_factory=lambda: bytearray(1))  # The functions count their runs here.
    reports: list[Any] = field(default_factory=list)  # What the callback was called with.
    may_be_cancelled: bool = False
    may_expire: bool = False
    may_time_out: bool = False
    was_cancelled: bool = False  # cancel() returned True.

    def outcome(self) -> str:
        assert self.future is not None
        try:
            value = self.future.result(0)
        except CancelledError:
            return "cancelled"
        except wp.JobExpired:
            return "expired"
        except wp.JobTimeout:
            return "timed out"
        except JobError as error:
            assert error.args == (self.number,)
            return "failed"
        assert value == (1 if self.kind == "native" else self.number)
        return "done"

    def allowed(self) -> set[str]:
        """The outcomes that fit how often it ran, and what was asked."""
        if self.was_cancelled:
            return {"cancelled"}
        if self.calls[0] == 0:
            return {name for name, may in (("cancelled", self.may_be_cancelled), ("expired", self.may_expire)) if may}
        outcomes = {"failed" if self.kind == "error" else "done"}
        if self.may_time_out:
            outcomes.add("timed out")
        if self.kind == "stoppable" and (self.may_be_cancelled or self.may_time_out):
            outcomes.add("cancelled")
        return outcomes

    def check(self) -> str:
        assert self.calls[0] <= 1, f"{self} ran {self.calls[0]} times"
        outcome = self.outcome()
        assert outcome in self.allowed(), f"{self} ended as {outcome}, not as one of {self.allowed()}"
        # The end is visible before all callbacks have run.
        wait_until(lambda: self.reports)
        assert self.reports == [self.future]
        return outcome


class PoolMachine(RuleBasedStateMachine):
    helpers: Helpers

    def __init__(self) -> None:
        super().__init__()
        self.count_native = self.helpers.native("count_calls", "unsigned long long (unsigned char *)")
        self.pool: Any = None
        self.made = 0

    # ---- Pools ----

    @precondition(lambda self: self.pool is None)
    @rule(
        workers=st.integers(1, 3),
        queue_size=st.sampled_from([0, 1, 3, None]),
        fairness=st.sampled_from([0, 1, 64]),
        idle_timeout=st.sampled_from([None, 0.0, 0.01]),
    )
    def make_pool(self, workers: int, queue_size: int | None, fairness: int, idle_timeout: float | None) -> None:
        self.pool = wp.WorkerPool(
            workers, queue_size=queue_size, lanes=LANES, fairness=fairness, idle_timeout=idle_timeout
        )
        self.is_open = True
        self.gate = threading.Event()
        self.jobs: list[Model] = []
        self.tokens: list[wp.CancelToken] = [wp.CancelToken()]
        self.maps: list[tuple[Any, bytearray, int]] = []
        self.queue: wp.Results[Any] | None = None
        self.queue_calls = bytearray()
        self.queue_accepted: list[int] = []
        self.queue_read: list[wp.Result[Any]] = []

    has_pool = precondition(lambda self: self.pool is not None)
    has_open_pool = precondition(lambda self: self.pool is not None and self.is_open)
    # There is no condition on the jobs: which were accepted may depend on time, and what is drawn must not.

    # ---- Submitting ----

    def function(self, model: Model) -> tuple[Any, ...]:
        gate = self.gate

        def run() -> int:
            model.calls[0] += 1
            if model.kind == "error":
                raise JobError(model.number)
            if model.kind == "held":
                assert gate.wait(LONG)
            if model.kind == "stoppable":
                job = wp.current_job()
                assert job is not None
                while not gate.wait(0.001):
                    job.raise_if_cancelled()
            return model.number

        return (self.count_native, model.calls) if model.kind == "native" else (run,)

    @has_pool
    @rule(
        count=st.integers(1, 6),
        kind=st.sampled_from(KINDS),
        lane=st.sampled_from(LANES),
        on_full=st.sampled_from(["block", "raise", "caller_runs", "discard", "discard_oldest"]),
        token=st.one_of(st.none(), st.integers(0, 5)),
        queue_timeout=st.sampled_from([None, None, 0.0, 0.01]),
        run_timeout=st.sampled_from([None, None, 0.01]),
    )
    def submit(self, count: int, **options: Any) -> None:
        for _ in range(count):
            self.submit_one(**options)

    def submit_one(
        self,
        kind: str,
        lane: str,
        on_full: str,
        token: int | None,
        queue_timeout: float | None,
        run_timeout: float | None,
    ) -> None:
        if on_full == "caller_runs" and kind in {"held", "stoppable"}:
            kind = "value"  # It would hold up this thread, which opens the gate.
        model = Model(self.made, kind, may_expire=queue_timeout is not None, may_time_out=run_timeout is not None)
        self.made += 1
        options: dict[str, Any] = {"lane": lane, "on_full": on_full, "submit_timeout": 0.01}
        if token is not None:
            model.token = token % len(self.tokens)
            options["token"] = self.tokens[model.token]
            model.may_be_cancelled = self.tokens[model.token].cancelled
        view = self.pool.options(**options, queue_timeout=queue_timeout, run_timeout=run_timeout)
        if on_full == "discard_oldest":
            for other in self.jobs:
                other.may_be_cancelled = True
        try:
            model.future = view.submit(*self.function(model))
        except wp.QueueFull:
            assert on_full in {"block", "raise"}
            assert self.is_open
            assert model.calls[0] == 0
            return
        except CancelledError:
            assert model.may_be_cancelled
            assert model.calls[0] == 0
            return
        except RuntimeError as error:
            assert not self.is_open, error
            assert model.calls[0] == 0
            return
        assert self.is_open
        if on_full in {"discard", "discard_oldest"}:
            model.may_be_cancelled = True  # Where nothing older waits, the new one is discarded.
        self.jobs.append(model)
        model.future.add_done_callback(model.reports.append)

    # ---- Cancelling ----

    @has_pool
    @rule(parent=st.integers(0, 5))
    def make_token(self, parent: int) -> None:
        self.tokens.append(wp.CancelToken(parent=self.tokens[parent % len(self.tokens)]))

    @has_pool
    @rule(number=st.integers(0, 5))
    def cancel_token(self, number: int) -> None:
        self.tokens[number % len(self.tokens)].cancel()
        for model in self.jobs:
            if model.token is not None and self.tokens[model.token].cancelled:
                model.may_be_cancelled = True

    @has_pool
    @rule(number=st.integers(0, 50))
    def cancel(self, number: int) -> None:
        if not self.jobs:
            return
        model = self.jobs[number % len(self.jobs)]
        assert model.future is not None
        if model.future.cancel():
            model.may_be_cancelled = model.was_cancelled = True
            assert model.future.cancelled()
        else:
            assert model.future.running() or model.future.done()

    @has_pool
    @rule(number=st.integers(0, 50))
    def request_cancel(self, number: int) -> None:
        if not self.jobs:
            return
        model = self.jobs[number % len(self.jobs)]
        assert model.future is not None
        model.future.request_cancel()
        model.may_be_cancelled = True

    # ---- Maps ----

    @has_open_pool
    @rule(
        n=st.integers(0, 60),
        taken=st.integers(0, 60),
        buffersize=st.sampled_from([None, 1, 7]),
        in_order=st.booleans(),
        native=st.booleans(),
    )
    def map(self, n: int, taken: int, buffersize: int | None, in_order: bool, native: bool) -> None:
        """Some of it is read now; the rest at the next drain, or never."""
        calls = bytearray(n)
        items = [memoryview(calls)[i : i + 1] for i in range(n)]

        def count(item: memoryview) -> int:
            item[0] += 1
            return item[0]

        self.open_gate()
        iterator = self.pool.map(
            self.count_native if native else count, items, buffersize=buffersize, in_order=in_order
        )
        for _ in range(min(n, taken)):
            assert next(iterator) == 1
        assert set(calls) <= {0, 1}
        self.maps.append((iterator, calls, n - min(n, taken)))

    @has_pool
    @rule(end=st.sampled_from(["read", "close", "drop"]))
    def end_a_map(self, end: str) -> None:
        if not self.maps:
            return
        iterator, calls, left = self.maps.pop()
        self.open_gate()
        if end == "read" and self.is_open:
            assert list(iterator) == [1] * left
            assert list(calls) == [1] * len(calls)
        elif end == "close":
            iterator.close()
            assert list(iterator) == []
        del iterator
        assert set(calls) <= {0, 1}

    # ---- Results queues ----

    @has_open_pool
    @rule(native=st.booleans(), lane=st.sampled_from(LANES))
    def submit_to_results(self, native: bool, lane: str) -> None:
        if self.queue is None:
            self.queue = self.pool.options(lane=lane, on_full="raise").results(5)
        number = len(self.queue_accepted)
        calls = bytearray(1)

        def count() -> int:
            calls[0] += 1
            return calls[0]

        if len(self.queue_accepted) - len(self.queue_read) == 5:
            return  # It would wait for a reader, which this thread is.
        try:
            index = self.queue.submit(self.count_native, calls) if native else self.queue.submit(count)
        except wp.QueueFull:
            return
        assert index == number
        self.queue_accepted.append(index)

    @has_pool
    @rule()
    def read_results(self) -> None:
        if self.queue is None or len(self.queue_read) == len(self.queue_accepted):
            return
        self.open_gate()
        self.queue_read.append(self.queue.get(LONG))

    def end_results(self) -> None:
        """Every job is reported once; those that ran with their value, the others as cancelled."""
        if self.queue is None:
            return
        self.queue.close()
        self.queue_read += self.queue
        assert sorted(r.index for r in self.queue_read) == self.queue_accepted
        for result in self.queue_read:
            assert (result.value == 1) if result.ok else isinstance(result.error, CancelledError)
        self.queue = None

    # ---- The pool as a whole ----

    @has_open_pool
    @rule(workers=st.integers(1, 4))
    def resize(self, workers: int) -> None:
        self.pool.resize(workers)
        assert self.pool.stats().max_workers == workers

    @has_pool
    @rule()
    def open_gate(self) -> None:
        """Lets go of the jobs that are held, and holds those that come."""
        self.gate.set()
        self.gate = threading.Event()

    @has_open_pool
    @rule()
    def drain(self) -> None:
        self.open_gate()
        self.maps.clear()
        assert self.pool.drain(LONG)
        for model in self.jobs:
            model.check()

    @has_open_pool
    @rule(wait=st.booleans(), cancel_futures=st.booleans())
    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        if wait:
            self.open_gate()
        if cancel_futures:
            for model in self.jobs:
                model.may_be_cancelled = True
        self.is_open = False
        self.pool.shutdown(wait=wait, cancel_futures=cancel_futures)
        if wait:
            assert self.pool.stats().workers == 0
            for model in self.jobs:
                model.check()

    @has_pool
    @rule()
    def end_of_pool(self) -> None:
        """Everything has ended, and the pool's own sums say so."""
        self.open_gate()
        self.maps.clear()
        self.pool.shutdown(timeout=LONG)
        self.end_results()
        outcomes = [model.check() for model in self.jobs]
        lanes = self.pool.stats().lanes.values()
        for lane in lanes:
            ends = lane.done + lane.failed + lane.cancelled + lane.expired + lane.timed_out + lane.lost
            assert lane.submitted == ends
            assert lane.waiting == lane.lost == 0
        for name, outcome in (("failed", "failed"), ("expired", "expired"), ("timed_out", "timed out")):
            assert sum(getattr(lane, name) for lane in lanes) == outcomes.count(outcome)
        assert self.pool.stats().unfinished == 0
        self.pool = None

    def teardown(self) -> None:
        if self.pool is not None:
            self.end_of_pool()


class ForkingMachine(PoolMachine):
    """With forks: the child's pools start afresh, and what had not ended there is lost there, and only there."""

    @PoolMachine.has_pool
    @rule()
    def fork(self) -> None:
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self.check_child()
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    def check_child(self) -> None:
        for model in self.jobs:
            assert model.future is not None
            assert model.future.done()
            if isinstance(model.future.exception(0) if not model.future.cancelled() else None, wp.BrokenPool):
                continue
            assert model.outcome() in model.allowed()
        if self.is_open:
            assert self.pool.submit(int, 7).result(LONG) == 7
            assert list(self.pool.map(int, range(20))) == list(range(20))
        self.pool.shutdown(timeout=LONG)
        assert self.pool.stats().unfinished == 0


def play(machine: type[PoolMachine], helpers: Helpers, examples: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        type(machine.__name__, (machine,), {"helpers": helpers}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def main() -> None:
    """In a process of its own, because children are made."""
    warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)
    play(ForkingMachine, Helpers(sys.argv[1]), max(10, EXAMPLES // 3))


@pytest.mark.timeout(300)
def test_every_job_ends_once_and_is_reported_once(helpers: Helpers) -> None:
    play(PoolMachine, helpers, EXAMPLES)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_the_same_with_forks(run_scenario: RunScenario, helpers: Helpers) -> None:
    run_scenario(
        f"""
        import sys
        sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
        import test_promises
        test_promises.main()
        """,
        timeout=240,
        args=[helpers.path],
    )
