"""At risk: Ctrl-C and what else a signal's handler raises, swallowed by what the main thread runs for others.

The signals are raised by what runs, so that each comes where it is meant to.
"""

from __future__ import annotations

from conftest import RunScenario

# A full pool whose jobs the main thread runs itself, and the signal handlers that are tried.
SETUP = """
import asyncio, concurrent.futures, functools, gc, signal, sys, threading, time
import workerpool as wp

class Alarm(Exception):
    pass

def raise_alarm(number, frame):
    raise Alarm

class Handler:
    def exit(self, number, frame):
        sys.exit(7)

    def __call__(self, number, frame):
        raise Alarm

signal.signal(signal.SIGINT, signal.default_int_handler)
HANDLERS = [
    (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
    (signal.SIGTERM, Handler().exit, SystemExit),
    (signal.SIGALRM, raise_alarm, Alarm),
    (signal.SIGALRM, functools.partial(raise_alarm), Alarm),
    (signal.SIGALRM, Handler(), Alarm),
]

def full_pool(**options):
    gate, begun = threading.Event(), threading.Event()
    pool = wp.WorkerPool(1, queue_size=1, **options)
    pool.submit(lambda: (begun.set(), gate.wait(20)))
    assert begun.wait(20)
    pool.options(on_full="raise").submit(gate.wait, 20)
    return pool, gate

def interrupt(number=signal.SIGINT):
    signal.raise_signal(number)
    for _ in range(1000):
        pass
    raise AssertionError("nobody was interrupted")

def expect(error, function, *args):
    try:
        function(*args)
        for _ in range(1000):
            pass
    except error as caught:
        return caught
    raise AssertionError(f"{error.__name__} was swallowed")
"""


def test_job_that_the_submitter_runs(run_scenario: RunScenario) -> None:
    run_scenario(
        SETUP
        + """
pool, gate = full_pool(on_full="caller_runs")
for number, handler, error in HANDLERS:
    signal.signal(number, handler)
    caught = expect(error, pool.submit, interrupt, number)
    if error is SystemExit:
        assert caught.code == 7
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# By other ways in.
expect(KeyboardInterrupt, pool.options(label="x", run_timeout=10, token=wp.CancelToken()).submit, interrupt)
results = pool.results(4)
expect(KeyboardInterrupt, results.submit, interrupt)
assert results.submit(int, 3) == 1
results.close()
assert [type(result.error).__name__ for result in results] == ["KeyboardInterrupt", "NoneType"]

# A nested submit, and a list of them: the rest is not begun.
ran = []
expect(KeyboardInterrupt, lambda: pool.submit(pool.submit, interrupt))
expect(KeyboardInterrupt, lambda: [pool.submit(fn) for fn in (int, interrupt, lambda: ran.append(1))])
expect(KeyboardInterrupt, lambda: list(map(pool.submit, (int, interrupt, lambda: ran.append(1)))))
assert ran == []

# The pool is whole.
gate.set()
assert pool.drain(20)
stats = pool.stats()
assert stats.unfinished == 0
assert stats.lanes["normal"].failed >= len(HANDLERS)
pool.shutdown()
"""
    )


def test_what_a_job_raises_by_itself_is_its_own(run_scenario: RunScenario) -> None:
    """Wherever it runs: a job that ends by sys.exit() must not end the program because the queue was full."""
    run_scenario(
        SETUP
        + """
pool, gate = full_pool(on_full="caller_runs")
signal.signal(signal.SIGTERM, Handler().exit)

def leave():
    sys.exit(3)

def generator_exit():
    raise GeneratorExit

def value():
    return KeyboardInterrupt()

assert isinstance(pool.submit(leave).exception(0), SystemExit)
assert isinstance(pool.submit(generator_exit).exception(0), GeneratorExit)
assert isinstance(pool.submit(lambda: 1 / 0).exception(0), ZeroDivisionError)
assert isinstance(pool.submit(value).result(0), KeyboardInterrupt)

def catches():
    try:
        interrupt()
    except KeyboardInterrupt:
        return "caught"

assert pool.submit(catches).result(0) == "caught"
gate.set()
for error in (leave, generator_exit):
    assert isinstance(pool.submit(error).exception(20), BaseException)
pool.shutdown()
"""
    )


def test_callbacks_that_the_main_thread_calls(run_scenario: RunScenario) -> None:
    """The other callbacks are called all the same; what was interrupted is raised where the program was."""
    run_scenario(
        SETUP
        + """
signal.signal(signal.SIGTERM, Handler().exit)
called = []

gate = threading.Event()
pool = wp.WorkerPool(1)
pool.submit(gate.wait, 20)

def interrupted(future):
    called.append("interrupted")
    interrupt()

def exits(future):
    called.append("exits")
    interrupt(signal.SIGTERM)

def other(future):
    called.append("other")

for fn, error in ((interrupted, KeyboardInterrupt), (exits, SystemExit)):
    # By cancelling.
    future = pool.submit(int)
    for callback in (other, fn, other, other):
        future.add_done_callback(callback)
    expect(error, future.cancel)
    assert future.cancelled()
    # By a token, and by shutting down.
    token = wp.CancelToken()
    futures = [pool.options(token=token).submit(int) for _ in range(3)]
    for each in futures:
        each.add_done_callback(fn)
        each.add_done_callback(other)
    expect(error, token.cancel)
    assert all(each.cancelled() for each in futures)
    # Of a future that has ended already, and of one that ends on this thread.
    expect(error, future.add_done_callback, fn)
    manual = wp.Future()
    manual.add_done_callback(fn)
    expect(error, manual.set_result, 1)
    assert manual.result(0) == 1
assert called.count("other") == 2 * (3 + 3), called
gate.set()
pool.shutdown()
"""
    )


def test_input_of_a_map(run_scenario: RunScenario) -> None:
    """Results that came before are not yielded first: nobody knows how long that takes."""
    run_scenario(
        SETUP
        + """
pool = wp.WorkerPool(2)

def numbers(number, at):
    for i in range(1000):
        if i == at:
            interrupt(number)
        yield i

for number, handler, error in HANDLERS:
    signal.signal(number, handler)
    for at in (0, 1, 500):
        for ordered in (True, False):
            def use():
                seen = 0
                for _ in pool.map(int, numbers(number, at), in_order=ordered, buffersize=100):
                    seen += 1
                    assert seen <= max(0, at - 1), (seen, at)
            expect(error, use)
    signal.signal(number, signal.SIG_DFL)
assert pool.drain(20)
assert list(pool.map(int, "123")) == [1, 2, 3]
pool.shutdown()
"""
    )


def test_waiting_for_short_native_jobs(run_scenario: RunScenario) -> None:
    """Who waits for them runs them himself, and hears of Ctrl-C in between."""
    run_scenario(
        SETUP
        + """
labs = wp.native("libc.so.6:labs", "long (long)")
for way in ("result", "map", "results"):
    with wp.WorkerPool(1) as pool:
        for _ in range(200):
            pool.submit(labs, 1).result()
        main = threading.main_thread().ident
        threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT)).start()

        def use():
            end = time.monotonic() + 20
            while time.monotonic() < end:
                if way == "result":
                    pool.submit(labs, 1).result()
                elif way == "map":
                    list(pool.map(labs, range(1000)))
                else:
                    results = pool.results(100)
                    for i in range(50):
                        results.submit(labs, i)
                    results.close()
                    list(results)

        expect(KeyboardInterrupt, use)
"""
    )


def test_results_delivered_to_a_loop(run_scenario: RunScenario) -> None:
    """KeyboardInterrupt in the middle of a delivery: it ends run_until_complete, and no other result is lost.

    The loop's call_soon is where a future's callbacks are scheduled; there the signal comes.
    """
    run_scenario(
        SETUP
        + """
class Loop(asyncio.SelectorEventLoop):
    at = None
    before = True

    def call_soon(self, callback, *args, context=None):
        if self.at is not None and args and isinstance(args[0], asyncio.Future) and hasattr(args[0], "_call"):
            self.at -= 1
            if self.at == 0:
                self.at = None
                if self.before:
                    interrupt(self.number)
                handle = super().call_soon(callback, *args, context=context)
                interrupt(self.number)
        return super().call_soon(callback, *args, context=context)

pool = wp.WorkerPool(1)
for number, handler, error in HANDLERS:
    signal.signal(number, handler)
    for before in (True, False):
        for at in (1, 2, 17, 30):
            loop = Loop()
            loop.number, loop.before = number, before
            reported = []
            loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

            async def one(i):
                return await pool.run(int, i)

            async def main():
                return await asyncio.gather(*(one(i) for i in range(30)))

            gate = threading.Event()
            pool.submit(gate.wait, 20)
            task = loop.create_task(main())
            loop.run_until_complete(asyncio.sleep(0.01))
            gate.set()
            assert pool.drain(20)
            loop.at = at
            if issubclass(error, Exception):
                assert loop.run_until_complete(asyncio.wait_for(task, 20)) == list(range(30))
                assert [type(each) for each in reported] == [error]
            else:
                expect(error, loop.run_until_complete, task)
                assert loop.run_until_complete(asyncio.wait_for(task, 20)) == list(range(30))
            loop.close()
    signal.signal(number, signal.SIG_DFL)
pool.shutdown()
""",
        timeout=60,
    )


def test_calls_of_a_loop_that_wait_for_room(run_scenario: RunScenario) -> None:
    """KeyboardInterrupt where the line's timer is set, or where one of its calls is failed: the others go on."""
    run_scenario(
        SETUP
        + """
class Loop(asyncio.SelectorEventLoop):
    armed = False

    def call_later(self, delay, callback, *args, context=None):
        if self.armed and getattr(callback, "__name__", "") == "_flush":
            self.armed = False
            interrupt()
        return super().call_later(delay, callback, *args, context=context)

loop = Loop()
pool, gate = full_pool()

async def begin():
    return [asyncio.ensure_future(pool.run(int, i)) for i in range(5)]

async def end():
    return await asyncio.wait_for(asyncio.gather(*in_line), 20)

in_line = loop.run_until_complete(begin())
for _ in range(3):
    loop.armed = True
    expect(KeyboardInterrupt, loop.run_until_complete, asyncio.sleep(20))
gate.set()
assert loop.run_until_complete(end()) == [0, 1, 2, 3, 4]
loop.close()
pool.shutdown()
"""
    )


def test_run_in_a_loop_whose_thread_runs_the_job(run_scenario: RunScenario) -> None:
    run_scenario(
        SETUP
        + """
pool, gate = full_pool(on_full="caller_runs")

async def main():
    try:
        pool.run(interrupt)
    except KeyboardInterrupt:
        pass
    else:
        raise AssertionError("swallowed")
    assert await pool.run(int, 3) == 3
    await asyncio.sleep(0.01)

loop = asyncio.new_event_loop()
loop.run_until_complete(main())

async def leave():
    try:
        pool.run(interrupt)
    except KeyboardInterrupt:
        pass

loop.run_until_complete(leave())
loop.close()
gc.collect()

# asyncio.run() turns the first Ctrl-C into the cancelling of the main task.
async def long():
    pool.run(lambda: signal.raise_signal(signal.SIGINT))
    await asyncio.sleep(20)

expect(KeyboardInterrupt, asyncio.run, long())
gate.set()
pool.shutdown()
"""
    )


def test_ctrl_c_at_any_moment_loses_nothing(run_scenario: RunScenario) -> None:
    """A storm of results, interrupted again and again: every one arrives.

    Now and then asyncio itself, or a finalizer, loses a Ctrl-C or a callback that was scheduled already; so few may
    go unheard, and it is the futures that are looked at.
    """
    run_scenario(
        SETUP
        + """
labs = wp.native("libc.so.6:labs", "long (long)")
ROUNDS = 60
wanted = threading.Semaphore(0)

def send():
    for i in range(ROUNDS):
        wanted.acquire()
        time.sleep(0.0001 * (i % 40))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

async def begin():
    return [pool.run(labs, -i) for i in range(500)]

heard = 0
loop = asyncio.new_event_loop()
loop.set_exception_handler(lambda *_: None)
threading.Thread(target=send, daemon=True).start()
with wp.WorkerPool(2, queue_size=50) as pool:
    for _ in range(ROUNDS):
        futures = loop.run_until_complete(begin())
        wanted.release()
        try:
            loop.run_until_complete(asyncio.sleep(0.5))
        except KeyboardInterrupt:
            heard += 1
        end = time.monotonic() + 20
        while not all(future.done() for future in futures):
            assert time.monotonic() < end, "lost"
            loop.run_until_complete(asyncio.sleep(0.001))
        assert [future.result() for future in futures] == list(range(500))
loop.close()
assert heard > 0.8 * ROUNDS, heard
""",
        timeout=60,
        options=(),
    )
