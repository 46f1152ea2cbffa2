"""Closing reaches whoever waits for what is closed, wherever it waits; nothing is accepted afterwards."""

from __future__ import annotations

import pytest

from conftest import RunScenario

# Seconds in which nothing would come by itself: what keeps the waiter waiting goes on until the test is over.
COMMON = """
import asyncio, threading, time, workerpool as wp

leave = threading.Event()

def busy(pool):
    begun = threading.Event()
    pool.submit(lambda: begun.set() or leave.wait(30))
    assert begun.wait(10)

class Waiter(threading.Thread):
    "Calls something that waits; what came of it is in `came`."

    def __init__(self, call):
        super().__init__()
        self.call, self.came = call, "nothing"
        self.start()
        time.sleep(0.2)  # Until it waits; were it later, it would find what is closed already.

    def run(self):
        try:
            self.came = self.call()
        except BaseException as error:
            self.came = f"{type(error).__name__}: {error}"

    def result(self):
        self.join(10)
        return self.came
"""

NO_ROOM = """
pool = wp.WorkerPool(1, queue_size=1, lanes=("normal",))
busy(pool)
results = pool.results(10)
pool.submit(int)
"""
NO_PLACE = """
pool = wp.WorkerPool(1, queue_size=10, lanes=("normal",))
busy(pool)
results = pool.results(1)
results.submit(int)
"""
RESULTS_CLOSED = "RuntimeError: cannot submit to a results queue after its close()"
SHUT_DOWN = "RuntimeError: cannot schedule new futures after shutdown"


@pytest.mark.parametrize(
    ("kept_by", "closing", "error"),
    [
        (NO_ROOM, "results.close()", RESULTS_CLOSED),
        (NO_PLACE, "results.close()", RESULTS_CLOSED),
        (NO_ROOM, "pool.shutdown(wait=False)", SHUT_DOWN),
        (NO_PLACE, "pool.shutdown(wait=False)", SHUT_DOWN),
    ],
)
def test_submit_to_results_that_waits(run_scenario: RunScenario, kept_by: str, closing: str, error: str) -> None:
    run_scenario(
        COMMON
        + kept_by
        + f"""
waiters = [Waiter(lambda: results.submit(int)) for _ in range(3)]
{closing}
assert [waiter.result() for waiter in waiters] == [{error!r}] * 3, [waiter.came for waiter in waiters]
submitted = pool.stats().lanes["normal"].submitted
leave.set()
pool.shutdown()
assert pool.stats().lanes["normal"].submitted == submitted
"""
    )


@pytest.mark.parametrize("closing", ["view.shutdown(wait=False)", "pool.shutdown(wait=False)"])
@pytest.mark.parametrize("call", ["view.submit(int)", "view.results().submit(int)", "list(view.map(abs, [1]))"])
def test_submit_through_a_view_that_waits(run_scenario: RunScenario, call: str, closing: str) -> None:
    run_scenario(
        COMMON
        + NO_ROOM
        + f"""
view = pool.options(label="view")
waiter = Waiter(lambda: {call})
other = Waiter(lambda: pool.options(label="other").submit(int))
{closing}
assert waiter.result() == {SHUT_DOWN!r}, waiter.came
submitted = pool.stats().lanes["normal"].submitted
leave.set()
other.join(10)
pool.shutdown()
accepted_others = {closing.startswith("view")}
assert pool.stats().lanes["normal"].submitted == submitted + accepted_others, other.came
"""
    )


def test_map_through_a_view_goes_no_further(run_scenario: RunScenario) -> None:
    run_scenario(
        COMMON
        + """
with wp.WorkerPool(1) as pool:
    view = pool.options(label="view")
    results = view.map(abs, range(1000), buffersize=4)
    assert next(results) == 0
    view.shutdown()
    came = []
    try:
        for number in results:
            came.append(number)
    except RuntimeError as error:
        assert "after shutdown" in str(error)
    else:
        raise AssertionError("all came")
    assert came == list(range(1, len(came) + 1)) and len(came) < 20, came
"""
    )


def test_awaited_call_in_the_line_of_a_view(run_scenario: RunScenario) -> None:
    run_scenario(
        COMMON
        + NO_ROOM
        + f"""
async def main():
    view = pool.options(label="view")
    future = view.run(int)
    await asyncio.sleep(0.05)
    assert not future.done()
    view.shutdown(wait=False)
    try:
        await asyncio.wait_for(future, 10)
    except RuntimeError as error:
        assert str(error).startswith({SHUT_DOWN.partition(": ")[2]!r} + ": the view was shut down while"), error
    else:
        raise AssertionError("accepted")

asyncio.run(main())
leave.set()
pool.shutdown()
"""
    )


@pytest.mark.parametrize("read", ["list(results)", "results.get(timeout=20)"])
@pytest.mark.parametrize("before", [0, 2])
def test_reader_of_results_when_the_pool_is_shut_down(run_scenario: RunScenario, read: str, before: int) -> None:
    """Nobody could submit any more, so there is nothing to wait for."""
    run_scenario(
        COMMON
        + f"""
pool = wp.WorkerPool(1)
results = pool.results(10)
waiter = Waiter(lambda: {read})
for _ in range({before}):
    results.submit(int)
pool.shutdown()
came = waiter.result()
if {before} == 0:
    assert came == [] or came.startswith("EOFError"), came
elif "list" in {read!r}:
    assert [result.value for result in came] == [0, 0], came
else:
    assert came.value == 0 and len(list(results)) == 1, came
assert list(results) == []
"""
    )


def test_reader_and_a_submitter_that_gives_its_place_back(run_scenario: RunScenario) -> None:
    """The submitter has its place at the shutdown, and is refused afterwards: the reader hears of that too."""
    run_scenario(
        COMMON
        + NO_ROOM
        + """
reader = Waiter(lambda: list(results))
writer = Waiter(lambda: results.submit(int))
pool.shutdown(wait=False)
assert reader.result() == [], reader.came
assert "after shutdown" in writer.result()
leave.set()
pool.shutdown()
"""
    )


def test_job_that_reads_results_when_the_pool_is_shut_down(run_scenario: RunScenario) -> None:
    run_scenario(
        COMMON
        + """
pool = wp.WorkerPool(1)
results = pool.results(10)
future = pool.submit(lambda: list(results))
time.sleep(0.1)
pool.shutdown()
assert future.result(0) == []
"""
    )
