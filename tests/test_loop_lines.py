"""At risk: calls of an event loop that wait for room: held up by others, deaf to limits, lost, never collected."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Self

import pytest

import workerpool as wp
from conftest import RunScenario
from support import LONG, wait_until

Main = Callable[[], Coroutine[Any, Any, None]]


def run(main: Main) -> None:
    """Run a coroutine function with a time limit."""

    async def limited() -> None:
        await asyncio.wait_for(main(), LONG)

    asyncio.run(limited())


class Full:
    """A pool of one worker that is busy, with a full queue, until it is let go of."""

    def __init__(self, **options: Any) -> None:
        self.gate = threading.Event()
        self.pool: Any = wp.WorkerPool(1, queue_size=1, **options)
        begun = threading.Event()
        self.busy = [self.pool.submit(lambda: (begun.set(), self.gate.wait(LONG)))]
        assert begun.wait(LONG)
        self.busy.append(self.pool.submit(self.gate.wait, LONG))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.set()
        self.pool.shutdown()


class Thing:
    """Something to see the end of."""


async def settle() -> None:
    """Let the loop do what it has to do."""
    await asyncio.sleep(0.02)


# ---- One line for each lane of each pool


def test_a_full_pool_does_not_hold_up_others() -> None:
    async def main() -> None:
        with Full() as full, wp.WorkerPool(1) as idle, wp.WorkerPool(1, queue_size=None) as unbounded:
            in_line = [full.pool.run(int, i) for i in range(3)]
            await settle()
            assert await idle.run(pow, 2, 3) == 8
            assert await idle.options(submit_timeout=0.01).run(pow, 2, 4) == 16
            assert await unbounded.run(pow, 2, 5) == 32
            assert not any(future.done() for future in in_line)
            full.gate.set()
            assert await asyncio.gather(*in_line) == [0, 1, 2]

    run(main)


def test_a_full_lane_does_not_hold_up_another() -> None:
    async def main() -> None:
        gate = threading.Event()
        lanes = [wp.Lane("urgent"), wp.Lane("slow", capacity=1, max_running=1)]
        with wp.WorkerPool(2, lanes=lanes) as pool:
            slow = [pool.lane("slow").run(gate.wait, LONG) for _ in range(5)]
            await settle()
            assert await pool.lane("urgent").run(int, 1) == 1
            assert not any(future.done() for future in slow)
            gate.set()
            assert await asyncio.gather(*slow) == [True] * 5

    run(main)


def test_pools_that_need_each_other() -> None:
    """Each pool is full of jobs that wait for what the other has in line."""

    async def main() -> None:
        first, second = threading.Event(), threading.Event()
        with wp.WorkerPool(1, queue_size=1) as a, wp.WorkerPool(1, queue_size=1) as b:
            futures = [a.run(first.wait, LONG) for _ in range(4)]
            futures += [b.run(int), b.run(int), b.run(first.set), b.run(second.wait, LONG), b.run(int), b.run(int)]
            futures += [a.run(second.set)]
            assert len(await asyncio.gather(*futures)) == 11

    run(main)


def test_order_within_a_lane_beside_others() -> None:
    async def main() -> None:
        seen: list[tuple[str, int]] = []
        with wp.WorkerPool(1, queue_size=1, lanes=("high", "low")) as pool:
            views = {name: pool.lane(name) for name in ("high", "low")}
            await asyncio.gather(
                *[view.run(seen.append, (name, i)) for i in range(100) for name, view in views.items()]
            )
        for name in views:
            assert [i for lane, i in seen if lane == name] == list(range(100))

    run(main)


def test_waiting_in_line_is_not_counted_as_rejected() -> None:
    async def main() -> None:
        with Full() as full:
            in_line = [full.pool.run(int) for _ in range(5)]
            await asyncio.sleep(0.1)
            assert full.pool.stats().lanes["normal"].rejected == 0
            limited = [full.pool.options(submit_timeout=timeout).run(int) for timeout in (0.001, 0.02)]
            for outcome in await asyncio.gather(*limited, return_exceptions=True):
                assert isinstance(outcome, wp.SubmitTimeout)
            with pytest.raises(wp.SubmitTimeout):
                full.pool.options(submit_timeout=0).run(int)
            assert full.pool.stats().lanes["normal"].rejected == 3
            full.gate.set()
            await asyncio.gather(*in_line)
            assert full.pool.stats().lanes["normal"].rejected == 3

    run(main)


# ---- What ends the waiting is heard wherever a call stands


def test_submit_timeout_behind_others() -> None:
    async def main() -> None:
        with Full() as full:
            patient = [full.pool.run(int, i) for i in range(3)]
            limited = [full.pool.options(submit_timeout=0.01 * i).run(int) for i in (3, 1, 2)]
            ended: list[int] = []
            for i, future in zip((3, 1, 2), limited, strict=True):
                future.add_done_callback(lambda _, i=i: ended.append(i))
            with pytest.raises(wp.SubmitTimeout):
                full.pool.options(submit_timeout=0).run(int)
            for future in limited:
                with pytest.raises(wp.SubmitTimeout):
                    await future
            assert ended == [1, 2, 3]
            assert not any(future.done() for future in patient)
            full.gate.set()
            assert await asyncio.gather(*patient) == [0, 1, 2]

    run(main)


def test_tokens_behind_others() -> None:
    async def main() -> None:
        token = wp.CancelToken()
        with Full() as full:
            patient = full.pool.run(int, 1)
            thing = Thing()
            seen = weakref.ref(thing)
            with_token = full.pool.options(token=wp.CancelToken(parent=token)).run(id, thing)
            with_limit = full.pool.options(token=wp.CancelToken(timeout=0.02)).run(int)
            after = full.pool.run(int, 2)
            del thing
            threading.Thread(target=token.cancel).start()
            for future in (with_token, with_limit):
                with pytest.raises(asyncio.CancelledError):
                    await future
            assert seen() is None
            with pytest.raises(concurrent.futures.CancelledError):
                full.pool.options(token=token).run(int)
            full.gate.set()
            assert await asyncio.gather(patient, after) == [1, 2]

    run(main)


def test_a_task_cancelled_behind_others_lets_go_at_once() -> None:
    async def main() -> None:
        with Full() as full:
            patient = full.pool.run(int, 1)

            things = [Thing()]
            seen = weakref.ref(things[0])

            async def use() -> None:
                await full.pool.run(id, things.pop())

            task = asyncio.create_task(use())
            await settle()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            assert seen() is None
            full.gate.set()
            assert await patient == 1

    run(main)


def test_shutdown_is_told_to_all_in_line() -> None:
    async def main() -> None:
        with Full() as full:
            in_line = [full.pool.run(int) for _ in range(10)]
            await settle()
            full.pool.shutdown(wait=False)
            for outcome in await asyncio.gather(*in_line, return_exceptions=True):
                assert isinstance(outcome, RuntimeError), outcome
                assert "after shutdown: the pool was shut down while this call waited in line" in str(outcome)
            full.gate.set()
            assert [future.result(LONG) is not None for future in full.busy] == [True, True]

    run(main)


def test_shutdown_of_a_view_is_told_to_its_calls_in_line() -> None:
    async def main() -> None:
        with Full() as full:
            view = full.pool.lane("normal")
            in_line = [view.run(int) for _ in range(3)]
            others = full.pool.run(int)
            await settle()
            view.shutdown(wait=False)
            for outcome in await asyncio.gather(*in_line, return_exceptions=True):
                assert isinstance(outcome, RuntimeError), outcome
                assert "after shutdown: the view was shut down while this call waited in line" in str(outcome)
            with pytest.raises(RuntimeError, match=r"after shutdown$"):
                view.run(int)
            full.gate.set()
            assert await others == 0

    run(main)


def test_pool_left_with_calls_in_line_says_what_became_of_them() -> None:
    async def main() -> None:
        with wp.WorkerPool(1, queue_size=1) as pool:
            futures = [pool.run(time.sleep, 0.1) for _ in range(5)]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        refused = [str(outcome) for outcome in outcomes if isinstance(outcome, RuntimeError)]
        assert len(refused) + outcomes.count(None) == 5
        assert all("await what run() returned before the shutdown" in text for text in refused)
        assert len(refused) >= 3

    run(main)


def test_many_limits_cost_their_own_time_only() -> None:
    """Twenty thousand tokens cancelled one by one, from the back, would be 200 million looks at others."""

    async def main() -> None:
        with Full() as full:
            tokens = [wp.CancelToken() for _ in range(20000)]
            views = [full.pool.options(token=token, submit_timeout=LONG + i % 7) for i, token in enumerate(tokens)]
            in_line = [view.run(int) for view in views]
            begin = time.monotonic()
            for token in reversed(tokens):
                token.cancel()
            outcomes = await asyncio.gather(*in_line, return_exceptions=True)
            assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
            assert time.monotonic() - begin < LONG / 2

    run(main)


# ---- Calls that are made while the line moves


def test_call_made_by_an_exception_handler_is_not_lost() -> None:
    async def main() -> None:
        retries: list[Any] = []
        ran: list[str] = []
        with Full() as full:
            asyncio.get_running_loop().set_exception_handler(
                lambda _loop, _context: retries.append(full.pool.run(ran.append, "retry"))
            )
            full.pool.options(submit_timeout=0.01).run(ran.append, "first")
            while not retries:
                gc.collect()
                await asyncio.sleep(0.01)
            behind = full.pool.run(ran.append, "behind")
            full.gate.set()
            await asyncio.gather(*retries, behind)
            assert ran == ["retry", "behind"]

    run(main)


def test_call_made_by_a_finalizer_is_not_lost() -> None:
    async def main() -> None:
        calls: list[Any] = []
        ran: list[str] = []

        class Argument:
            def __del__(self) -> None:
                calls.append(full.pool.run(ran.append, "cleanup"))

        with Full() as full:
            for end in ("cancel", "token", "timeout"):
                token = wp.CancelToken()
                view = full.pool.options(token=token, submit_timeout=0.01 if end == "timeout" else None)
                future = view.run(id, Argument())
                if end == "cancel":
                    future.cancel()
                elif end == "token":
                    token.cancel()
                await asyncio.wait([future])
                assert future.cancelled() or future.exception()
                del future
            wait = time.monotonic() + LONG
            while len(calls) < 3 and time.monotonic() < wait:
                gc.collect()
                await asyncio.sleep(0.01)
            full.gate.set()
            await asyncio.gather(*calls)
            assert ran == ["cleanup"] * 3

    run(main)


def test_call_made_while_the_line_is_refused_comes_behind_the_others() -> None:
    """The pool is shut down with ten in line; each failure makes a call of another pool, which is full as well."""

    async def main() -> None:
        seen: list[int] = []
        calls: list[Any] = []
        with Full() as closing, Full() as other:

            class Argument:
                def __init__(self, number: int) -> None:
                    self.number = number

                def __del__(self) -> None:
                    calls.append(other.pool.run(seen.append, self.number))

            in_line = [closing.pool.run(id, Argument(i)) for i in range(10)]
            await settle()
            closing.pool.shutdown(wait=False)
            outcomes = await asyncio.gather(*in_line, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {RuntimeError}
            del outcomes
            assert len(calls) == 10
            other.gate.set()
            await asyncio.gather(*calls)
            assert seen == list(range(10))

    run(main)


def test_cancelling_others_while_the_line_moves() -> None:
    async def main() -> None:
        with Full() as full:
            rest: list[Any] = []

            class Argument:
                def __del__(self) -> None:
                    while rest:
                        rest.pop().cancel()

            first = full.pool.options(submit_timeout=0.01).run(id, Argument())
            rest += [full.pool.run(int) for _ in range(5)]
            others = list(rest)
            with pytest.raises(wp.SubmitTimeout):
                await first
            del first
            gc.collect()
            await settle()
            assert all(future.cancelled() for future in others)
            full.gate.set()
            assert await full.pool.run(int, 3) == 3

    run(main)


# ---- The end of loops


def test_loop_that_is_stopped_and_started_again() -> None:
    loop = asyncio.new_event_loop()
    with Full() as full:

        async def begin() -> list[Any]:
            return [full.pool.run(int, i) for i in range(3)]

        in_line = loop.run_until_complete(begin())
        full.gate.set()
        full.pool.drain(LONG)

        async def end() -> list[int]:
            return await asyncio.wait_for(asyncio.gather(*in_line), LONG)

        assert loop.run_until_complete(end()) == [0, 1, 2]
    loop.close()


@pytest.mark.parametrize("close", [True, False])
def test_loop_that_goes_with_calls_in_line(close: bool, run_scenario: RunScenario) -> None:
    run_scenario(
        f"""
        import asyncio, gc, threading, weakref, workerpool as wp

        class Thing:
            pass

        gate = threading.Event()
        pool = wp.WorkerPool(1, queue_size=1)
        loop = asyncio.new_event_loop()
        things = [Thing() for _ in range(6)]
        seen = [weakref.ref(thing) for thing in things] + [weakref.ref(loop)]

        async def main(loop):
            futures = [pool.run(gate.wait, 20), pool.run(gate.wait, 20)]
            for thing in things:
                thing.future = pool.run(lambda *_: None, thing, loop)
                thing.loop = loop
            pool.options(submit_timeout=10, token=wp.CancelToken(timeout=10)).run(int)

        loop.run_until_complete(main(loop))
        if {close}:
            loop.close()
        del loop, things
        if {close}:
            gc.collect()
            assert [thing() for thing in seen[:6]] == [None] * 6
        gate.set()
        assert pool.drain(10)
        gc.collect()
        gc.collect()
        assert [thing() for thing in seen] == [None] * 7, seen
        pool.shutdown()
        """,
        options=(),
    )


def test_loop_that_is_collected_with_results_that_it_never_took(run_scenario: RunScenario) -> None:
    run_scenario(
        """
        import asyncio, gc, weakref, workerpool as wp

        class Thing:
            pass

        with wp.WorkerPool(1) as pool:
            loop = asyncio.new_event_loop()
            seen = weakref.ref(loop)

            def make(loop):
                thing = Thing()
                thing.loop = loop
                return thing

            async def main(loop):
                for _ in range(5):
                    pool.run(make, loop)

            loop.run_until_complete(main(loop))
            del loop
            assert pool.drain(10)
            gc.collect()
            gc.collect()
            assert seen() is None
        """,
        options=(),
    )


def test_loop_closed_by_what_the_line_lets_go_of(run_scenario: RunScenario) -> None:
    run_scenario(
        """
        import asyncio, gc, threading, workerpool as wp

        class Argument:
            def __del__(self):
                loop.call_soon(loop.stop)
                bridge = None
                loop.remove_reader(next(iter(loop._selector.get_map().values())).fd)

        gate = threading.Event()
        pool = wp.WorkerPool(1, queue_size=1)
        loop = asyncio.new_event_loop()

        async def main():
            pool.run(gate.wait, 20), pool.run(gate.wait, 20)
            pool.options(submit_timeout=0.01).run(id, Argument())
            for _ in range(10):
                pool.options(submit_timeout=0.01).run(id, 1)
            await asyncio.sleep(10)

        task = loop.create_task(main())
        loop.run_forever()
        loop._selector.get_map()
        gc.collect()
        task.cancel()
        loop.close()
        gate.set()
        pool.shutdown()
        """,
        options=(),
    )


def test_futures_cancelled_on_another_thread_do_not_crash(run_scenario: RunScenario) -> None:
    """Wrong, as with every future of asyncio, but no reason to crash."""
    run_scenario(
        """
        import asyncio, threading, time, workerpool as wp

        async def main():
            with wp.WorkerPool(2, queue_size=4) as pool:
                for _ in range(30):
                    futures = [pool.run(int) for _ in range(200)]
                    threads = [
                        threading.Thread(target=lambda part: [f.cancel() for f in part], args=(futures[i::3],))
                        for i in range(3)
                    ]
                    for thread in threads:
                        thread.start()
                    end = time.monotonic() + 0.05
                    while time.monotonic() < end:
                        await asyncio.sleep(0)
                    for thread in threads:
                        thread.join()
                while pool.stats().unfinished:
                    await asyncio.sleep(0.001)

        asyncio.run(main())
        """,
        timeout=60,
        options=(),
    )


def test_nothing_of_a_line_is_left() -> None:
    async def main() -> None:
        things = []
        with wp.WorkerPool(1, queue_size=1) as pool:
            futures = []
            for _ in range(50):
                thing = Thing()
                things.append(weakref.ref(thing))
                futures.append(pool.run(id, thing))
            del thing
            await asyncio.gather(*futures)
            del futures
        await settle()
        gc.collect()
        wait_until(lambda: all(thing() is None for thing in things))

    run(main)
