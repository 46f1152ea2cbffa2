"""At risk: pool.run() and its event loop: results that never come, jobs that nobody can cancel, a loop held up."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, wait_until
from workerpool import _aio

Main = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def labs() -> wp.NativeFunction:
    return wp.native("libc.so.6:labs", "long (long)")


def run(main: Main) -> None:
    """Run a coroutine function with a time limit."""

    async def limited() -> None:
        await asyncio.wait_for(main(), LONG)

    asyncio.run(limited())


def test_results_and_errors(labs: Any) -> None:
    async def main() -> None:
        with wp.WorkerPool(2) as pool:
            assert await pool.run(labs, -3) == 3
            assert await pool.run(int, "12", base=8) == 10
            with pytest.raises(ZeroDivisionError):
                await pool.run(lambda: 1 / 0)
            with pytest.raises(TypeError):
                pool.run(labs, "x")
            with pytest.raises(TypeError, match="fn"):
                pool.run()  # type: ignore[call-overload]

    run(main)


def test_stop_iteration_arrives_as_runtime_error() -> None:
    async def main() -> None:
        with wp.WorkerPool(1) as pool:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await pool.run(next, iter(()))

    run(main)


def test_many_at_once_and_in_their_own_places(labs: Any) -> None:
    async def main() -> None:
        with wp.WorkerPool(3, queue_size=10) as pool:
            numbers = range(5000)
            assert await asyncio.gather(*[pool.run(labs, -i) for i in numbers]) == list(numbers)
            assert await asyncio.gather(*[pool.run(str, i) for i in numbers]) == [str(i) for i in numbers]

    run(main)


def test_many_results_share_a_wake_up(labs: Any) -> None:
    """The loop is woken far less often than results come."""

    async def main() -> None:
        with wp.WorkerPool(1) as pool:
            await pool.run(labs, 1)
            bridge = _aio.find_bridge(asyncio.get_running_loop())
            wake_ups = 0

            def deliver() -> None:
                nonlocal wake_ups
                wake_ups += 1
                bridge.deliver()

            asyncio.get_running_loop().add_reader(bridge.fileno(), deliver)
            futures = [pool.run(labs, -i) for i in range(1000)]
            time.sleep(0.2)  # All end while the loop is held up.
            assert await asyncio.gather(*futures) == list(range(1000))
            assert wake_ups == 1

    run(main)


def test_full_queue_does_not_hold_up_the_loop() -> None:
    async def main() -> None:
        gate = threading.Event()
        with wp.WorkerPool(1, queue_size=1) as pool:
            futures = [pool.run(gate.wait, LONG) for _ in range(20)]
            ticks = 0
            for _ in range(10):
                await asyncio.sleep(0.005)
                ticks += 1
            assert ticks == 10
            assert not any(future.done() for future in futures)
            gate.set()
            assert await asyncio.gather(*futures) == [True] * 20

    run(main)


def test_order_is_kept_where_calls_wait_for_room() -> None:
    async def main() -> None:
        seen: list[int] = []
        with wp.WorkerPool(1, queue_size=2) as pool:
            await asyncio.gather(*[pool.run(seen.append, i) for i in range(200)])
        assert seen == list(range(200))

    run(main)


def test_policies_of_a_full_queue() -> None:
    async def main() -> None:
        gate = threading.Event()
        started = threading.Event()

        def block() -> bool:
            started.set()
            return gate.wait(LONG)

        with wp.WorkerPool(1, queue_size=1) as pool:
            running = pool.run(block)
            assert started.wait(LONG)
            waiting = pool.run(gate.wait, LONG)
            with pytest.raises(wp.QueueFull):
                pool.options(on_full="raise").run(int)
            assert await pool.options(on_full="caller_runs").run(int, 5) == 5
            discarded = pool.options(on_full="discard").run(int)
            with pytest.raises(asyncio.CancelledError):
                await discarded
            with pytest.raises(wp.SubmitTimeout):
                await pool.options(submit_timeout=0.02).run(int)
            gate.set()
            assert await running is True
            assert await waiting is True

    run(main)


def test_cancelling_reaches_the_job() -> None:
    async def main() -> None:
        gate = threading.Event()
        started = threading.Event()
        stopped = threading.Event()

        def until_asked() -> None:
            started.set()
            job = wp.current_job()
            assert job is not None
            end = time.monotonic() + LONG
            while time.monotonic() < end:
                if job.cancelled:
                    stopped.set()
                    job.raise_if_cancelled()
                time.sleep(0.001)

        with wp.WorkerPool(1, queue_size=1) as pool:
            running = asyncio.ensure_future(pool.run(until_asked))
            assert started.wait(LONG)
            waiting = pool.run(gate.wait, LONG)
            in_line = pool.run(gate.wait, LONG)
            in_line.cancel()
            waiting.cancel()
            running.cancel()
            for future in (running, waiting, in_line):
                with pytest.raises(asyncio.CancelledError):
                    await future
            assert stopped.wait(LONG)
            assert await pool.run(int, 7) == 7

    run(main)


def test_cancelling_the_task_that_awaits() -> None:
    async def main() -> None:
        gate = threading.Event()
        with wp.WorkerPool(1) as pool:
            blocker = pool.run(gate.wait, LONG)

            async def wait() -> None:
                await pool.run(int)

            task = asyncio.create_task(wait())
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
            assert await blocker
            assert pool.stats().lanes["normal"].cancelled == 1

    run(main)


def test_token_and_limits() -> None:
    async def main() -> None:
        gate = threading.Event()
        with wp.WorkerPool(1) as pool:
            blocker = pool.run(gate.wait, LONG)
            token = wp.CancelToken()
            with_token = pool.options(token=token).run(int)
            limited = pool.options(queue_timeout=0.02).run(int)
            token.cancel()
            with pytest.raises(asyncio.CancelledError):
                await with_token
            with pytest.raises(wp.JobExpired):
                await limited
            gate.set()
            assert await blocker

    run(main)


def test_context_variables() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def main() -> None:
        variable.set("of the task")
        with wp.WorkerPool(1) as pool:
            assert await pool.run(variable.get) == "of the task"

    run(main)


def test_without_a_loop() -> None:
    with wp.WorkerPool(1) as pool, pytest.raises(RuntimeError, match="no running event loop"):
        pool.run(int)


def test_after_shutdown() -> None:
    async def main() -> None:
        pool = wp.WorkerPool(1)
        await pool.run(int)
        pool.shutdown()
        with pytest.raises(RuntimeError, match="after shutdown"):
            await pool.run(int)

    run(main)


def test_several_loops_and_threads(labs: Any) -> None:
    """Each loop gets its own results."""
    with wp.WorkerPool(2) as pool:

        async def main(start: int) -> None:
            for base in range(start, start + 300, 100):
                numbers = range(base, base + 100)
                assert await asyncio.gather(*[pool.run(labs, -i) for i in numbers]) == list(numbers)

        errors: list[BaseException] = []

        def in_thread(start: int) -> None:
            try:
                asyncio.run(main(start))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=in_thread, args=(i * 1000,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert errors == []


def test_one_loop_after_another(labs: Any) -> None:
    with wp.WorkerPool(1) as pool:
        for i in range(20):

            async def main(number: int = i) -> None:
                assert await pool.run(labs, -number) == number

            run(main)


def test_loop_that_ends_before_its_jobs() -> None:
    gate = threading.Event()
    with wp.WorkerPool(1) as pool:

        async def leave() -> None:
            pool.run(gate.wait, LONG)
            pool.run(int)

        asyncio.run(leave())
        gc.collect()
        gate.set()
        pool.drain()
        assert pool.submit(int, 3).result(LONG) == 3


def test_loops_that_end_before_their_jobs_are_collected() -> None:
    """Each left its loop and the descriptor of its bridge behind."""

    def loops() -> int:
        gc.collect()
        return sum(isinstance(thing, asyncio.AbstractEventLoop) for thing in gc.get_objects())

    before = loops()
    with wp.WorkerPool(1) as pool:
        for _ in range(5):
            gate = threading.Event()

            async def leave(gate: threading.Event = gate) -> None:
                pool.run(gate.wait, LONG)
                pool.run(int)

            asyncio.run(leave())
            gate.set()
            pool.drain()
        assert asyncio.run(pool_of_one(pool)) == 3
    wait_until(lambda: loops() <= before)


def test_loop_that_is_closed_with_jobs_pending_and_kept() -> None:
    """The jobs end as they would; nobody is told, and nothing hangs."""
    gate = threading.Event()
    loop = asyncio.new_event_loop()
    with wp.WorkerPool(1) as pool:

        async def leave() -> list[Any]:
            return [pool.run(gate.wait, LONG), pool.run(int), pool.run(lambda: 1 // 0)]

        futures = loop.run_until_complete(leave())
        loop.close()
        gate.set()
        assert pool.drain(LONG)
        assert pool.stats().unfinished == 0
        assert not any(future.done() for future in futures)
        del futures
        assert asyncio.run(pool_of_one(pool)) == 3
    del loop
    gc.collect()


async def pool_of_one(pool: Any) -> Any:
    return await pool.run(int, 3)


def test_descriptor_closed_under_the_loop(run_scenario: RunScenario) -> None:
    """Whoever closes descriptors that are not his own takes the loop's results from it, and no more than that."""
    done = run_scenario(
        """
        import asyncio, os, workerpool as wp
        from workerpool import _aio

        async def main():
            assert await pool.run(int, 1) == 1
            os.close(_aio.find_bridge(asyncio.get_running_loop()).fileno())
            try:
                await asyncio.wait_for(pool.run(int, 2), 0.3)
            except TimeoutError:
                print("no answer")

        async def again():
            return await pool.run(int, 3)

        with wp.WorkerPool(2) as pool:
            try:
                asyncio.run(main())
            except OSError as error:
                print("OSError")
            print(pool.drain(10), pool.submit(int, 4).result(10), asyncio.run(again()))
        """,
        options=(),
    )
    assert done.stdout.splitlines()[-1] == "True 4 3"


def test_loop_that_cannot_set_a_timer(run_scenario: RunScenario) -> None:
    """Calls wait for room by a timer of the loop's. Without one they fail, and leave nothing behind."""
    done = run_scenario(
        """
        import asyncio, threading, workerpool as wp

        class Loop(asyncio.SelectorEventLoop):
            timers = True

            def call_later(self, delay, callback, *args, context=None):
                if not self.timers and getattr(callback, "__name__", "") == "_flush":
                    raise MemoryError
                return super().call_later(delay, callback, *args, context=context)

        async def main():
            loop = asyncio.get_running_loop()
            assert await pool.run(int, 1) == 1
            leave = threading.Event()
            busy = [pool.submit(leave.wait, 30) for _ in range(2)]
            loop.timers = False
            try:
                pool.run(int, 2)
            except MemoryError:
                print("refused")
            loop.timers = True
            in_line = [asyncio.ensure_future(pool.run(int, i)) for i in (3, 4)]
            await asyncio.sleep(0.01)
            loop.timers = False
            print(await asyncio.gather(*in_line, return_exceptions=True))
            loop.timers = True
            last = pool.run(int, 5)
            leave.set()
            print(await last, [future.result(10) for future in busy])

        with wp.WorkerPool(1, queue_size=1) as pool, asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(main())
        lane = pool.stats().lanes["normal"]
        print(lane.submitted, lane.done)
        """
    )
    assert done.stdout == "refused\n[MemoryError(), MemoryError()]\n5 [True, True]\n4 4\n"


def test_results_that_arrive_while_the_loop_closes(run_scenario: RunScenario) -> None:
    run_scenario(
        """
        import asyncio, workerpool as wp

        async def main():
            for _ in range(50):
                pool.run(int)
            await asyncio.sleep(0)

        with wp.WorkerPool(2) as pool:
            for _ in range(200):
                asyncio.run(main())
            assert pool.drain(10)
        assert pool.stats().unfinished == 0
        """
    )


def test_nothing_is_kept() -> None:
    class Thing:
        pass

    async def main() -> None:
        with wp.WorkerPool(1) as pool:
            thing = Thing()
            seen = weakref.ref(thing)
            future = pool.run(lambda given: given, thing)
            assert await future is thing
            del thing, future
            await asyncio.sleep(0)
            gc.collect()
            assert seen() is None

    run(main)


def test_timeout_of_the_loop() -> None:
    async def main() -> None:
        gate = threading.Event()
        with wp.WorkerPool(1) as pool:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(pool.run(gate.wait, LONG), 0.02)
            gate.set()
            assert await pool.run(int, 2) == 2

    run(main)
