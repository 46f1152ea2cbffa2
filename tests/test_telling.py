"""Callbacks and finalizers that run while others wait to be told: no end is held back by foreign code."""

from __future__ import annotations

import textwrap

import pytest

from conftest import RunScenario
from support import Helpers

COMMON = """
import concurrent.futures as cf, functools, gc, sys, threading, time, weakref, workerpool as wp

sleep = wp.native(sys.argv[1] + ":sleep_ns", "int64_t (int64_t)")

"""


@pytest.fixture
def run(run_scenario: RunScenario, helpers: Helpers) -> RunScenario:
    def with_common(code: str, **options: object) -> object:
        return run_scenario(COMMON + textwrap.dedent(code), args=[helpers.path], **options)

    return with_common  # type: ignore[return-value]


# ---- A callback waits for other jobs ----


@pytest.mark.parametrize(
    "wait",
    ["[g.result() for g in fs]", "cf.wait(fs)", "list(cf.as_completed(fs))", "[g.exception() for g in fs]"],
)
def test_callback_that_waits_for_jobs_that_end_with_its_own(run: RunScenario, wait: str) -> None:
    """They end in one batch of notices: all their ends are told before the first callback is called."""
    run(
        f"""
        pool = wp.WorkerPool(2, queue_size=None)
        for _ in range(150):
            fs = [pool.submit(sleep, 10_000) for _ in range(6)]
            done = threading.Event()
            def callback(f):
                {wait}
                done.set()
            for f in fs[1:]:
                f.add_done_callback(lambda f: None)
            fs[0].add_done_callback(callback)
            assert done.wait(15), [f._state for f in fs]
        pool.shutdown()
        """,
        timeout=60,
    )


def test_callbacks_are_called_in_the_order_of_the_ends(run: RunScenario) -> None:
    run(
        """
        with wp.WorkerPool(1) as pool:
            for _ in range(50):
                called = []
                first = pool.submit(sleep, 300_000)
                fs = [first] + [pool.submit(sleep, 1) for _ in range(20)]
                for i, f in enumerate(fs):
                    f.add_done_callback(lambda f, i=i: called.append(i))
                    f.add_done_callback(lambda f, i=i: called.append(i + 0.5))
                pool.drain()
                end = time.monotonic() + 15
                while len(called) < 2 * len(fs) and time.monotonic() < end:
                    time.sleep(0.001)
                by_job = [int(c) for c in called]
                assert sorted(called) == [i / 2 for i in range(42)], called
                # Without a GIL two threads may call them at the same time.
                assert by_job == sorted(by_job) or not getattr(sys, "_is_gil_enabled", lambda: True)(), called
        """,
    )


def test_callback_on_the_attendant_that_waits_while_jobs_keep_coming(run: RunScenario) -> None:
    """The attendant is held up by the callback, so the workers tell what it cannot, though they have other work."""
    run(
        """
        pool = wp.WorkerPool(2, queue_size=None)
        fs = [pool.submit(sleep, 2_000_000) for _ in range(1200)]
        done = threading.Event()
        def callback(f):
            late = pool.options().submit(sleep, 1)
            late.add_done_callback(lambda f: None)
            for g in fs[10:700]:
                g.result(20)
            done.set()
        for f in fs[1:700]:
            f.add_done_callback(lambda f: None)
        fs[0].add_done_callback(callback)
        assert done.wait(25)
        pool.shutdown(cancel_futures=True)
        """,
        timeout=60,
    )


def test_who_has_the_lock_of_one_future_waits_for_another(run: RunScenario) -> None:
    """Both end in one batch of notices, and the first cannot be told before the second was."""
    run(
        """
        pool = wp.WorkerPool(2, queue_size=None)
        for how in range(40):
            fs = [pool.submit(sleep, 3_000_000) for _ in range(4)]
            for f in fs:
                f.add_done_callback(lambda f: None)
            with fs[how % 3]._condition:
                assert fs[3].result(10) == 3_000_000
                if how % 2:
                    assert not cf.wait(fs[3:], 10).not_done
            assert [f.result(10) for f in fs] == [3_000_000] * 4
            assert not cf.wait(fs, 10).not_done
        pool.shutdown()
        """,
        timeout=40,
    )


def test_who_has_the_lock_of_a_future_waits_for_it(run: RunScenario) -> None:
    """Meanwhile it is given back, as a Condition does."""
    run(
        """
        pool = wp.WorkerPool(2)
        for i in range(20):
            f = pool.submit(sleep, 1_000_000) if i % 2 else pool.submit(time.sleep, 0.001)
            f.add_done_callback(lambda f: None)
            with f._condition, f._condition:
                f.result(10)
                try:
                    pool.submit(time.sleep, 0.05).result(0)
                except TimeoutError:
                    pass
            with f._condition:
                pass
            try:
                f._condition.release()
            except RuntimeError:
                pass
            else:
                raise AssertionError
        manual = wp.Future()
        with manual._condition:
            try:
                manual.result(0.01)
            except TimeoutError:
                pass
            thread = threading.Timer(0.01, manual.set_result, [5])
            thread.start()
            assert manual.result(10) == 5
        thread.join()
        pool.shutdown()
        """,
    )


def test_who_has_the_lock_of_one_cancelled_future_waits_for_another(run: RunScenario) -> None:
    run(
        """
        pool = wp.WorkerPool(1)
        gate = threading.Event()
        pool.submit(gate.wait)
        for n in range(10):
            token = wp.CancelToken()
            fs = [pool.options(token=token).submit(int) for _ in range(3)]
            for f in fs:
                f.add_done_callback(lambda f: None)
            has_lock, ended = threading.Event(), []
            def hold():
                with fs[n % 3]._condition:
                    has_lock.set()
                    ended.append(cf.wait([fs[(n + 1) % 3]], 10).done)
            thread = threading.Thread(target=hold)
            thread.start()
            has_lock.wait()
            token.cancel()
            thread.join()
            assert len(ended[0]) == 1 and all(f.cancelled() for f in fs)
        gate.set()
        pool.shutdown()
        """,
    )


def test_callback_is_not_held_up_by_another_on_a_worker(run: RunScenario) -> None:
    """The second releases the first: each may run on another thread, as in the standard library."""
    run(
        """
        pool = wp.WorkerPool(2, queue_size=None)
        for _ in range(50):
            go, done = threading.Event(), threading.Event()
            def first(f):
                if threading.current_thread().name.startswith("WorkerPool"):
                    assert go.wait(10)
                done.set()
            a, b = pool.submit(sleep, 100_000), pool.submit(sleep, 100_000)
            a.add_done_callback(first)
            b.add_done_callback(lambda f: go.set())
            assert done.wait(15) and go.wait(15)
        pool.shutdown()
        """,
        timeout=40,
    )


# ---- Many jobs are ended by one call ----


def test_callback_of_a_cancelled_job_waits_for_one_that_runs_until_it_is_stopped(run: RunScenario) -> None:
    run(
        """
        pool = wp.WorkerPool(1)
        token = wp.CancelToken()
        began, gate, log = threading.Event(), threading.Event(), []
        blocker = pool.submit(gate.wait)
        waiting = pool.options(token=token, lane="low").submit(int)
        def until_stopped():
            began.set()
            while not wp.current_job().cancelled:
                time.sleep(0.001)
            return "stopped"
        running = pool.options(token=token, lane="high").submit(until_stopped)
        gate.set()
        began.wait()
        waiting.add_done_callback(lambda f: log.append(running.result()))
        token.cancel()
        assert log == ["stopped"], log
        pool.shutdown()
        """,
    )


@pytest.mark.parametrize(
    "end",
    ["token.cancel()", "pool.shutdown(wait=False, cancel_futures=True)", "root.cancel()"],
)
def test_each_callback_of_a_cancellation_sees_all_of_it(run: RunScenario, end: str) -> None:
    """Wait for any of the others, or look at them: they have ended before the first callback is called, on the thread
    that cancels, and in order for each."""
    run(
        f"""
        pool = wp.WorkerPool(1)
        root = wp.CancelToken()
        token = wp.CancelToken(parent=root)
        gate = threading.Event()
        blocker = pool.submit(gate.wait)
        view = pool.options(token=token)
        fs = [view.submit(int) if i % 2 else view.submit(sleep, 1) for i in range(40)]
        seen = []
        def callback(f):
            assert all(g.cancelled() and g.done() for g in fs)
            assert not cf.wait(fs, 0).not_done
            for g in fs:
                try:
                    g.result(10)
                except cf.CancelledError:
                    pass
            seen.append(threading.current_thread())
        for f in fs:
            f.add_done_callback(callback)
        {end}
        assert seen == [threading.current_thread()] * 40, len(seen)
        gate.set()
        pool.shutdown()
        """,
    )


def test_callback_of_a_cancellation_that_cancels(run: RunScenario) -> None:
    """What it ends itself is told before its own call returns."""
    run(
        """
        pool = wp.WorkerPool(1)
        gate = threading.Event()
        blocker = pool.submit(gate.wait)
        tokens = [wp.CancelToken() for _ in range(30)]
        fs = [pool.options(token=t).submit(int) for t in tokens]
        told = []
        def callback(i, f):
            told.append(i)
            if i + 1 < len(fs):
                assert tokens[i + 1].cancel()
                assert told[-1] == len(fs) - 1 and fs[i + 1].cancelled()
        for i, f in enumerate(fs):
            f.add_done_callback(functools.partial(callback, i))
        tokens[0].cancel()
        assert told == list(range(30)), told
        gate.set()
        pool.shutdown()
        """,
    )


def test_callback_of_a_discarded_job_that_submits(run: RunScenario) -> None:
    """The new job has its place before: else each would discard the other, for ever."""
    run(
        """
        pool = wp.WorkerPool(1, queue_size=2, on_full="discard_oldest")
        gate, begun, discarded = threading.Event(), threading.Event(), []
        pool.submit(lambda: (begun.set(), gate.wait()))
        begun.wait()
        def callback(i, f):
            if f.cancelled():
                discarded.append(i)
                if len(discarded) < 50:
                    futures.append(pool.submit(int))
        futures = []
        for i in range(20):
            f = pool.submit(int)
            futures.append(f)
            f.add_done_callback(functools.partial(callback, i))
        assert len(discarded) <= 20, discarded
        gate.set()
        pool.shutdown()
        assert all(f.done() for f in futures)
        """,
    )


def test_finalizer_of_an_argument_sees_all_of_a_cancellation(run: RunScenario) -> None:
    run(
        """
        pool = wp.WorkerPool(1)
        gate, seen = threading.Event(), []
        blocker = pool.submit(gate.wait)
        token = wp.CancelToken()
        view = pool.options(token=token)
        fs = []
        class Argument:
            def __del__(self):
                seen.append(all(f.cancelled() for f in fs))
        fs += [view.submit(str, Argument()) if i % 2 else view.submit(int) for i in range(20)]
        view.submit(str, Argument())
        token.cancel()
        assert [f.cancelled() for f in fs] == [True] * 20
        assert seen == [True] * 11, seen
        gate.set()
        pool.shutdown()
        """,
    )


# ---- Lists that foreign code changes ----


@pytest.mark.parametrize("kind", ["functools.partial(body)", "functools.lru_cache(maxsize=2)(body)"])
def test_callback_that_empties_the_list_of_callbacks(run: RunScenario, kind: str) -> None:
    """The list's was the only reference to the callback that is being called."""
    run(
        f"""
        pool = wp.WorkerPool(1)
        for i in range(300):
            go = threading.Event()
            f = pool.submit(go.wait, 5)
            callbacks = f._done_callbacks
            def body(future):
                callbacks.clear()
                junk = [bytes(100) for _ in range(50)]
            callback = {kind}
            f.add_done_callback(callback)
            f.add_done_callback(lambda f: print("was taken off"))
            del callback
            go.set()
            f.result()
        pool.shutdown()
        """,
    )


def test_callbacks_that_change_the_list_are_called_as_the_standard_future_calls_them(run: RunScenario) -> None:
    run(
        """
        def order_of(future, end):
            called, callbacks = [], future._done_callbacks
            def appends(f):
                called.append("appends")
                callbacks.append(lambda f: called.append("appended"))
            def removes(f):
                called.append("removes")
                callbacks.remove(removed)
            removed = lambda f: called.append("removed")
            for callback in (appends, removes, removed, lambda f: called.append("last")):
                future.add_done_callback(callback)
            end(future)
            return called

        pool = wp.WorkerPool(1)
        gate = threading.Event()
        def end_job(future):
            gate.set()
            pool.shutdown()
        standard = order_of(cf.Future(), lambda f: f.set_result(1))
        assert order_of(wp.Future(), lambda f: f.set_result(1)) == standard
        assert order_of(pool.submit(gate.wait), end_job) == standard, standard
        """,
    )


def test_waiter_that_changes_the_list_of_waiters(run: RunScenario) -> None:
    run(
        """
        pool = wp.WorkerPool(2)
        for _ in range(200):
            told, gate = [], threading.Event()
            f = pool.submit(gate.wait)
            class Waiter:
                def add_result(self, future):
                    told.append(future)
                    waiters.clear()
                    junk = [bytes(100) for _ in range(50)]
            with f._condition:
                waiters = f._waiters
                waiters += [Waiter(), Waiter()]
            gate.set()
            f.result()
            assert f.done()
            with f._condition:
                assert told == [f]
        pool.shutdown()
        """,
    )


# ---- A future that is being freed ----


def test_weak_reference_to_a_dropped_future_whose_job_ends_meanwhile(run: RunScenario) -> None:
    """The worker that stores a container makes the future known to the collector, though it is dying."""
    run(
        """
        pool = wp.WorkerPool(2)
        for i in range(15):
            go = threading.Event()
            def job():
                go.wait(5)
                return [1, 2, 3]
            def callback(reference):
                go.set()
                time.sleep(0.03)
                gc.collect()
            f = pool.submit(job)
            r = weakref.ref(f, callback)
            del f
        gc.collect()
        pool.shutdown()
        """,
    )


def test_finalizer_of_an_attribute_of_a_dying_future(run: RunScenario) -> None:
    run(
        """
        pool = wp.WorkerPool(2)
        class Attribute:
            def __init__(self, go):
                self.go = go
            def __del__(self):
                self.go.set()
                time.sleep(0.01)
                gc.collect()
        for i in range(15):
            go = threading.Event()
            f = pool.submit(lambda go=go: [go.wait(5)])
            f.attribute = Attribute(go)
            del f
        gc.collect()
        pool.shutdown()
        """,
    )


# ---- Chains that are let go of ----


CHAINS = {
    "tokens": """
        last = wp.CancelToken()
        for _ in range(N):
            last = wp.CancelToken(parent=last)
        assert last.parent.parent is not None
        """,
    "results of futures": """
        for _ in range(N):
            f = wp.Future()
            f.set_result(last)
            last = f
        """,
    "exceptions of futures": """
        for _ in range(N):
            f, error = wp.Future(), ValueError()
            error.future = last
            f.set_exception(error)
            last = f
        """,
    "results of jobs": """
        for _ in range(N // 4):
            f = pool.submit(lambda last=last: last)
            f.result()
            last = f
        """,
    "arguments of cancelled jobs": """
        gate = threading.Event()
        pool.submit(gate.wait)
        for _ in range(N // 4):
            f = pool.submit(print, last)
            last = f
        pool.submit(gate.set)
        gate.set()
        pool.shutdown(cancel_futures=True)
        """,
    "Results": """
        results = pool.results(maxsize=None)
        for _ in range(N // 4):
            results.submit(lambda last=last: last)
            last = next(results)
        """,
    "queues of results": """
        for _ in range(N // 8):
            results = pool.results()
            results.submit(lambda last=last: last)
            results.close()
            while results.pending:
                time.sleep(0)
            last = results
        """,
    "callbacks": """
        for _ in range(N):
            f = wp.Future()
            f.add_done_callback(functools.partial(print, last))
            last = f
        """,
    "attributes": """
        for _ in range(N):
            f = wp.Future()
            f.next = last
            last = f
        """,
}


@pytest.mark.parametrize("kind", CHAINS)
def test_long_chain_is_let_go_of_without_overflowing_the_stack(run: RunScenario, kind: str) -> None:
    """On a thread whose stack is small, so that it need not be as long as a user's. From 3.13 on CPython's own
    containers nest 10,000 deep."""
    run(
        f"""
        N = 40_000
        threading.stack_size(2 << 20 if sys.version_info >= (3, 13) else 1 << 19)
        def main():
            pool = wp.WorkerPool(1, queue_size=None)
            last = None
{textwrap.indent(textwrap.dedent(CHAINS[kind]).strip(), " " * 12)}
            f = results = error = None
            del last
            pool.shutdown()
            ended.append(1)
        ended = []
        thread = threading.Thread(target=main)
        thread.start()
        thread.join()
        assert ended
        """,
        timeout=60,
    )


# ---- Cycles ----


CYCLES = {
    "a future and its condition": """
        f = pool.submit(int)
        f.result()
        f.condition = f._condition
        return f
        """,
    "an unread result that holds its queue": """
        results = pool.results()
        class Marker:
            pass
        marker = Marker()
        results.submit(lambda: [results, marker])
        while not results.unread:
            time.sleep(0.001)
        return marker
        """,
    "an unread error that holds its queue": """
        results = pool.results()
        class Marker:
            pass
        marker = Marker()
        def fail(marker):
            here = results
            raise ValueError
        results.submit(fail, marker)
        while not results.unread:
            time.sleep(0.001)
        return marker
        """,
    "a pool whose initializer is a method of who holds it": """
        class Owner:
            def __init__(self):
                self.pool = wp.WorkerPool(1, initializer=self.begin)
            def begin(self):
                pass
        owner = Owner()
        assert owner.pool.submit(int, 5).result() == 5
        return owner.pool
        """,
    "a pool whose initargs hold it": """
        box = []
        own = wp.WorkerPool(1, initializer=len, initargs=(box,))
        box.append(own)
        assert own.submit(int, 5).result() == 5
        return own
        """,
}


@pytest.mark.parametrize("kind", CYCLES)
def test_cycle_is_collected(run: RunScenario, kind: str) -> None:
    run(
        f"""
        pool = wp.WorkerPool(1)
        def make():
{textwrap.indent(textwrap.dedent(CYCLES[kind]).strip(), " " * 12)}
        reference = weakref.ref(make())
        end = time.monotonic() + 15
        while reference() is not None and time.monotonic() < end:
            gc.collect()
            time.sleep(0.01)
        assert reference() is None
        pool.shutdown()
        """,
    )


def test_pool_that_has_work_is_not_collected_from_under_its_initializer(run: RunScenario) -> None:
    """What waits is done, and workers are still initialised for it, though nobody holds the pool any more."""
    run(
        """
        done = []
        class Owner:
            def __init__(self):
                self.initialized = []
                self.pool = wp.WorkerPool(3, initializer=self.begin)
            def begin(self):
                time.sleep(0.01)
                self.initialized.append(1)
        for _ in range(20):
            owner = Owner()
            for i in range(10):
                owner.pool.submit(lambda: (time.sleep(0.002), done.append(1)))
            del owner
            gc.collect()
        end = time.monotonic() + 15
        while len(done) < 200 and time.monotonic() < end:
            time.sleep(0.001)
            gc.collect()
        assert len(done) == 200, len(done)
        """,
        timeout=40,
    )


def test_current_job_asked_for_again_while_it_is_made(run: RunScenario) -> None:
    """By a finalizer that the allocation of the first has called (before 3.12); there is one Job, and it goes."""
    run(
        """
        class Garbage:
            def __init__(self):
                self.me = self
            def __del__(self):
                wp.current_job()
        def job():
            for _ in range(50):
                Garbage()
            gc.set_threshold(1)
            try:
                return wp.current_job() is wp.current_job()
            finally:
                gc.set_threshold(700)
        pool = wp.WorkerPool(1)
        for _ in range(200):
            assert pool.submit(job).result()
        gc.collect()
        assert not [o for o in gc.get_objects() if type(o) is wp.Job]
        pool.shutdown()
        """,
    )


# ---- Subclasses ----


def test_subclass_of_future_with_arguments(run: RunScenario) -> None:
    run(
        """
        class Named(wp.Future):
            def __init__(self, name, *, color=None):
                super().__init__()
                self.name, self.color = name, color
        named = Named("x", color=1)
        named.set_result(5)
        assert (named.name, named.color, named.result()) == ("x", 1, 5)

        class WithNew(wp.Future):
            def __new__(cls, name):
                return super().__new__(cls)
            def __init__(self, name):
                super().__init__()
        WithNew("x").set_result(1)

        class Plain(wp.Future):
            pass
        for make in (wp.Future, Plain):
            try:
                make(1)
            except TypeError:
                pass
            else:
                raise AssertionError(make)
        """,
    )
