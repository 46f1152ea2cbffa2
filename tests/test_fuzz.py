"""Whatever is handed over, there is an error that says what was wrong, or something that works.

hypothesis makes up arguments for everything that is configured once and not for each job: pools, lanes, views, maps,
tokens, native functions. Right values and odd ones are mixed. Odd ones are of the wrong type, out of every range, text
with NULs and half of a surrogate pair, and objects whose special methods raise, return nonsense, or let other threads
run. What must hold:

* No crash, and nothing that waits: every test has the time limit of all.
* An error is a TypeError, ValueError or OverflowError (for signatures a SignatureError, a TypeError), and its message
  names a parameter that was odd. What the odd object itself raised is let through.
* What is accepted behaves: a pool has the lanes, limits and workers that were asked for, runs a job and ends.

Arguments of native functions are in test_wrong_arguments.py, single wrong values with their messages in
test_wrong_use.py, and csrc/tests/fuzz has the same for the parts in C. WORKERPOOL_EXAMPLES says how many examples each
test tries.
"""

from __future__ import annotations

import ctypes
import decimal
import fractions
import gc
import math
import operator
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import workerpool as wp
from support import LONG, ON_FULL, Helpers, wait_until

EXAMPLES = int(os.environ.get("WORKERPOOL_EXAMPLES", "150"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

REFUSED = (TypeError, ValueError, OverflowError)


class OddError(Exception):
    """What odd objects raise."""


# Python warns of methods that return nonsense of some kinds, and the tests make errors of warnings.
LET_THROUGH = (OddError, DeprecationWarning)


# ---- Odd values ----

# Made anew for each use, because hypothesis shows what it made up, and to be shown is one of the things that odd
# objects do not do.


@dataclass(frozen=True)
class Odd:
    """How to make an odd object: a type to derive from, and what its special methods do."""

    base: str
    methods: tuple[tuple[str, str], ...]

    def make(self) -> Any:
        kind = type("OddThing", (BASES[self.base][0],), {name: DEEDS[deed] for name, deed in self.methods})
        return kind(*BASES[self.base][1])


def switch(*args: Any) -> int:
    """Lets another thread run."""
    time.sleep(0.0001)
    return 1


def fail(*args: Any) -> Any:
    raise OddError("an odd object was asked")


DEEDS: dict[str, Callable[..., Any]] = {
    "raises": fail,
    "returns None": lambda *args: None,
    "returns itself": lambda *args: args[0],
    "returns 1": lambda *args: 1,
    "returns True": lambda *args: True,
    "returns 2**70": lambda *args: 2**70,
    "returns -1.5": lambda *args: -1.5,
    "returns text": lambda *args: "normal",
    "returns an iterator": lambda *args: iter(["high", "normal"]),
    "switches": switch,
}
BASES: dict[str, tuple[type, tuple[Any, ...]]] = {
    "object": (object, ()),
    "int": (int, (2,)),
    "float": (float, (0.5,)),
    "str": (str, ("normal",)),
    "tuple": (tuple, (("a", "b"),)),
}
METHODS = "index int float bool hash eq iter len str repr call enter contains ceil"

ODD_OBJECTS = st.builds(
    Odd,
    st.sampled_from(sorted(BASES)),
    st.dictionaries(
        st.sampled_from([f"__{name}__" for name in METHODS.split()]), st.sampled_from(sorted(DEEDS)), max_size=4
    ).map(lambda methods: tuple(sorted(methods.items()))),
)
ODD_TEXTS = ["", "\0", "a\0b", "\ud800", "x" * 10_000, "normal ", "\n", "{}", "%s%n", "ü", "\U0001f600"]
ODD_NUMBERS = [0, -1, 1, 2**31, 2**32, 2**63, 2**64, -(2**63) - 1, 10**5000, -(10**5000), True, False]
ODD_FLOATS = [0.0, -0.0, 0.5, -1.0, 1e9, 1e18, 1e300, math.inf, -math.inf, math.nan]
ODD_THINGS = [b"", b"high", bytearray(3), (), [], {}, {1: 2}, {"high"}, 1j, ..., int, len]
ODD_THINGS += [decimal.Decimal("1.5"), fractions.Fraction(1, 2), range(3), memoryview(b"ab"), ctypes.c_int(2)]
ODD = st.one_of(
    st.sampled_from([*ODD_TEXTS, *ODD_NUMBERS, *ODD_FLOATS, *ODD_THINGS]),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    ODD_OBJECTS,
)


@dataclass(frozen=True)
class Made:
    """An argument as hypothesis made it up."""

    recipe: Any
    is_odd: bool

    def value(self) -> Any:
        return self.recipe.make() if hasattr(self.recipe, "make") else self.recipe


def mixture(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Made]:
    """Mostly right values, so that often only one argument is odd."""
    return st.integers(0, 3).flatmap(
        lambda n: st.builds(Made, ODD, st.just(True)) if n == 0 else st.builds(Made, right, st.just(False))
    )


def arguments(**right: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Made]]:
    return st.fixed_dictionaries({}, optional={name: mixture(values) for name, values in right.items()})


def is_object(made: Made) -> bool:
    return isinstance(made.recipe, (Odd, OddLane, OddLanes))


def check_error(error: BaseException, given: dict[str, Made]) -> None:
    """That the error is about one of the odd arguments. Python's own words about methods that return nonsense do not
    know which argument that was."""
    odd = {name: made for name, made in given.items() if made.is_odd}
    note(f"refused: {type(error).__name__}: {error}")
    assert odd, f"all was right, and yet: {error!r}"
    if isinstance(error, LET_THROUGH) or any(is_object(made) for made in odd.values()):
        return
    if isinstance(error, wp.SignatureError) and "signature" in odd:
        return
    assert any(name in str(error) for name in odd), f"{error!r} names none of {sorted(odd)}"


def number_of_threads() -> int:
    return len(os.listdir("/proc/self/task"))


NEEDS_PROC = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads cannot be counted here")


# ---- Pools ----


@dataclass(frozen=True)
class OddLane:
    """A Lane, some of whose fields may be odd."""

    fields: tuple[tuple[str, Made], ...]

    def make(self) -> Any:
        return wp.Lane(**{name: made.value() for name, made in self.fields})


@dataclass(frozen=True)
class OddLanes:
    items: tuple[Made, ...]
    repeats: bool

    def make(self) -> Any:
        return self.endless() if self.repeats else [item.value() for item in self.items]

    def endless(self) -> Iterator[Any]:
        number = 0
        while True:
            yield f"lane {number}"
            number += 1


NAMES = st.sampled_from(["high", "normal", "low", "a", "ü"])
RIGHT_LANES = st.lists(NAMES, min_size=1, max_size=4, unique=True)
LANE_OBJECTS = st.builds(
    lambda fields: OddLane(tuple(fields.items())),
    st.fixed_dictionaries(
        {"name": mixture(NAMES)},
        optional={
            "capacity": mixture(st.one_of(st.none(), st.just(...), st.integers(0, 5))),
            "max_running": mixture(st.one_of(st.none(), st.integers(1, 3))),
        },
    ),
)
ODD_LANES = st.builds(
    OddLanes, st.lists(mixture(st.one_of(NAMES, LANE_OBJECTS)), max_size=20).map(tuple), st.booleans()
)
SECONDS = st.one_of(st.none(), st.sampled_from([0, 0.0, 0.001, 5, 1e300, math.inf]))

POOL_ARGUMENTS = arguments(
    max_workers=st.one_of(st.none(), st.integers(1, 3)),
    queue_size=st.one_of(st.none(), st.integers(0, 5)),
    on_full=st.sampled_from(ON_FULL),
    lanes=RIGHT_LANES,
    fairness=st.integers(0, 100),
    thread_name_prefix=st.text("abc-_", max_size=5),
    initializer=st.sampled_from([None, int, len]),
    initargs=st.just(("7",)),
    idle_timeout=SECONDS,
    stack_size=st.one_of(st.none(), st.integers(2**18, 2**20)),
    inner_threads=st.one_of(st.none(), st.integers(1, 4)),
)
WITH_ODD_LANES = st.builds(
    lambda given, lanes: {**given, "lanes": Made(lanes, True)} if lanes is not None else given,
    POOL_ARGUMENTS,
    st.one_of(st.none(), ODD_LANES),
)


def values_of(given: dict[str, Made]) -> dict[str, Any]:
    return {name: made.value() for name, made in given.items()}


def run_somewhere(submit: Callable[..., wp.Future[int]], values: dict[str, Any]) -> None:
    """A job runs, unless the pool was told to turn it away, or its threads cannot be."""
    try:
        assert submit(int, "7").result(LONG) == 7
    except wp.QueueFull:
        assert values.get("on_full") == "raise"
    except CancelledError:
        assert values.get("on_full") in {"discard", "discard_oldest"}
    except wp.BrokenPool:
        assert values.get("initializer") is not None or values.get("initargs") is not None


def check_pool(pool: Any, values: dict[str, Any]) -> None:
    stats = pool.stats()
    assert tuple(stats.lanes) == pool.lanes
    if values.get("max_workers") is not None:
        assert stats.max_workers == min(operator.index(values["max_workers"]), 2**31 - 1)
    names = values.get("lanes", ["high", "normal", "low"])
    if isinstance(names, list) and "queue_size" in values:
        assert list(pool.lanes) == [getattr(lane, "name", lane) for lane in names]
        for lane in names:
            check_lane(stats.lanes[getattr(lane, "name", lane)], lane, values["queue_size"])
    for name in pool.lanes:
        run_somewhere(pool.lane(name).submit, values)
    run_somewhere(pool.submit, values)


def check_lane(stats: wp.LaneStats, lane: Any, capacity: Any) -> None:
    wanted = getattr(lane, "capacity", ...)
    wanted = capacity if wanted is ... else wanted
    assert stats.capacity == (None if wanted is None else min(operator.index(wanted), 2**63))


def make_and_try(kind: Callable[..., Any], given: dict[str, Made]) -> None:
    values = values_of(given)
    try:
        pool = kind(**values)
    except (*REFUSED, *LET_THROUGH) as error:
        check_error(error, given)
        return
    try:
        check_pool(pool, values)
    finally:
        pool.shutdown()
    assert pool._stats()["workers"] == 0


@NEEDS_PROC
@SETTINGS
@given(given=WITH_ODD_LANES)
def test_pools(given: dict[str, Made]) -> None:
    before = number_of_threads()
    make_and_try(wp.WorkerPool, given)
    wait_until(lambda: number_of_threads() <= before)


@SETTINGS
@given(
    given=arguments(
        max_workers=st.one_of(st.none(), st.integers(1, 3)),
        thread_name_prefix=st.text("abc-_", max_size=5),
        initializer=st.sampled_from([None, int]),
        initargs=st.just(("7",)),
    )
)
def test_executors(given: dict[str, Made]) -> None:
    make_and_try(wp.ThreadPoolExecutor, given)


@SETTINGS
@given(
    given=st.dictionaries(
        st.one_of(st.text(max_size=3), st.sampled_from(["max_worker", "queue", "lane", "Lanes"])),
        st.just(1),
        min_size=1,
    )
)
def test_unknown_parameters(two_workers: wp.WorkerPool, given: dict[str, int]) -> None:
    for made in (wp.WorkerPool, wp.ThreadPoolExecutor, two_workers.options):
        try:
            made(**given)  # type: ignore[arg-type]
        except (*REFUSED, *LET_THROUGH) as error:
            assert any(name in str(error) for name in given) or given.keys() == {"lane"}
        else:
            pytest.fail(f"{made} took {given}")


# ---- Views ----


@SETTINGS
@given(
    given=arguments(
        lane=st.sampled_from([None, "high", "normal", "low"]),
        token=st.none(),
        submit_timeout=SECONDS,
        queue_timeout=SECONDS,
        run_timeout=SECONDS,
        label=st.one_of(st.none(), st.text("abc", max_size=5)),
        on_full=st.sampled_from([None, *ON_FULL]),
    )
)
def test_options(two_workers: wp.WorkerPool, given: dict[str, Made]) -> None:
    values = values_of(given)
    try:
        view = two_workers.options(**values)
    except (*REFUSED, *LET_THROUGH) as error:
        check_error(error, given)
        return
    assert view.label is values.get("label")
    assert view.token is None
    assert view.lane_name in two_workers.lanes
    if isinstance(values.get("lane"), str) and type(values["lane"]) is str:
        assert view.lane_name == values["lane"]
    try:
        future = view.submit(int, "7")
        assert future.result(LONG) == 7
        assert future.label is values.get("label")
    except wp.JobExpired:
        assert float(values["queue_timeout"]) < 1
    except wp.JobTimeout:
        assert float(values["run_timeout"]) < 1


# ---- One argument at a time ----


def first_result(pool: wp.WorkerPool, timeout: Any) -> None:
    results = pool.results()
    results.submit(int, "7")
    pool.drain()
    assert results.get(timeout).value == 7


def mapped(pool: wp.WorkerPool, **options: Any) -> None:
    try:
        found = list(pool.map(int, ["1", "2", "3"], **options))
    except TimeoutError:
        assert float(options["timeout"]) < 10
    else:
        assert found == [1, 2, 3] or ("in_order" in options and sorted(found) == [1, 2, 3])


def executed(**options: Any) -> None:
    with wp.ThreadPoolExecutor(1) as pool:
        mapped(pool, **options)


def made_token(**options: Any) -> None:
    token = wp.CancelToken(**options)
    assert (token.time_left is None) or token.time_left >= 0
    assert token.cancel() in {True, False}


def ended(**options: Any) -> None:
    pool = wp.WorkerPool(1)
    future = pool.submit(int, "7")
    pool.shutdown(**options)
    pool.shutdown()
    assert future.cancelled() or future.result() == 7


def looped(pool: wp.WorkerPool, grain: Any) -> None:
    square = wp.native(":abs", "int (int)")
    assert list(pool.map_array(square, memoryview((ctypes.c_int * 3)(-1, 2, -3)).cast("B").cast("i"), grain=grain)) == [
        1,
        2,
        3,
    ]


def resized(pool: wp.WorkerPool, number: Any) -> None:
    pool.resize(number)
    assert pool._max_workers == operator.index(number)
    assert pool.submit(int, "7").result(LONG) == 7
    pool.resize(2)


# By the parameter's name: what takes an odd value for it.
CALLS: list[tuple[str, Callable[[wp.WorkerPool, Any], Any]]] = [
    ("max_workers", resized),
    ("timeout", lambda pool, odd: pool.drain(odd)),
    ("timeout", lambda pool, odd: pool.submit(int, "7").result(odd)),
    ("timeout", lambda pool, odd: pool.submit(int, "7").exception(odd)),
    ("timeout", first_result),
    ("timeout", lambda pool, odd: mapped(pool, timeout=odd)),
    ("chunksize", lambda pool, odd: mapped(pool, chunksize=odd)),
    ("buffersize", lambda pool, odd: mapped(pool, buffersize=odd)),
    ("in_order", lambda pool, odd: mapped(pool, in_order=odd)),
    ("timeout", lambda pool, odd: executed(timeout=odd)),
    ("chunksize", lambda pool, odd: executed(chunksize=odd)),
    ("buffersize", lambda pool, odd: executed(buffersize=odd)),
    ("maxsize", lambda pool, odd: pool.results(odd).close()),
    ("lane", lambda pool, odd: pool.lane(odd)),
    ("timeout", lambda pool, odd: made_token(timeout=odd)),
    ("token", lambda pool, odd: made_token(parent=odd)),
    ("timeout", lambda pool, odd: ended(timeout=odd)),
    ("wait", lambda pool, odd: ended(wait=odd)),
    ("cancel_futures", lambda pool, odd: ended(cancel_futures=odd)),
    ("grain", looped),
]


@pytest.mark.parametrize("number", range(len(CALLS)), ids=lambda number: f"{number}-{CALLS[number][0]}")
@settings(parent=SETTINGS, max_examples=max(20, EXAMPLES // 5))
@given(odd=ODD)
def test_odd_argument(two_workers: wp.WorkerPool, number: int, odd: Any) -> None:
    name, call = CALLS[number]
    made = Made(odd, True)
    try:
        call(two_workers, made.value())
    except TimeoutError:
        assert float(made.value()) < 10
    except (*REFUSED, *LET_THROUGH) as error:
        check_error(error, {name: made})
    assert two_workers.submit(int, "7").result(LONG) == 7


# ---- Native functions ----

ABS = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value
assert ABS is not None

SIGNATURES = [
    "int (int)",
    "unsigned long (unsigned long, const void *, unsigned int)",
    "void (double *restrict x, size_t n, wp_job *job)",
    "const char *f(char *const *, FILE *, struct stat **, int (*)(void *, ...));",
    "float (bool, int8_t, uint16_t, PY_LONG_LONG, long double *)",
]
PIECES = ["int", "long", "unsigned", "const", "*", "(", ")", "[", "]", ",", ";", "...", "void", "double", "struct"]
PIECES += ["wp_job", "3", "(*)", "(void)", "\0", "\ud800", "é", "#", "\\"]


@st.composite
def mutated_signatures(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SIGNATURES))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        until = draw(st.integers(at, min(at + 3, len(text))))
        text = text[:at] + draw(st.one_of(st.sampled_from(PIECES), st.text(max_size=2))) + text[until:]
    return text


@SETTINGS
@given(text=st.one_of(mutated_signatures(), st.text(), st.text("int(void),* ")))
def test_signatures(text: str) -> None:
    try:
        function = wp.native(ABS, text)
    except wp.SignatureError as error:
        assert "position" in str(error) or "libffi" in str(error)
        return
    except TypeError as error:
        assert "Python objects" in str(error)
        return
    again = wp.native(ABS, function.signature)
    assert again.signature == function.signature
    assert again._kinds == function._kinds


@SETTINGS
@given(
    given=arguments(
        target=st.sampled_from([ABS, ":abs", "libc.so.6:abs"]),
        signature=st.just("int (int)"),
        name=st.one_of(st.none(), st.text(max_size=5)),
        raises=st.sampled_from([None, "nonzero", "negative"]),
        force_libffi=st.booleans(),
    )
)
def test_native(given: dict[str, Made]) -> None:
    given = {"target": Made(ABS, False), "signature": Made("int (int)", False), **given}
    values = values_of(given)
    try:
        function = wp.native(**values)
    except (*REFUSED, *LET_THROUGH, OSError, AttributeError, ImportError) as error:
        if isinstance(error, (OSError, AttributeError, ImportError)):
            assert given["target"].is_odd
        elif not (given["target"].is_odd and "native()" in str(error)):
            check_error(error, given)
        return
    assert isinstance(function.address, int)
    assert function.raises == values.get("raises")
    if given["target"].is_odd:
        return
    assert function.signature == "int (int)" or given["signature"].is_odd
    if values.get("name") is not None and not given["name"].is_odd and values["name"]:
        assert function.__name__ == values["name"]
    if not given["signature"].is_odd and values.get("raises") is None:
        assert function(-7) == 7


@settings(parent=SETTINGS, max_examples=max(20, EXAMPLES // 5))
@given(target=st.one_of(st.text(max_size=8), st.builds("{}:{}".format, st.text(max_size=6), st.text(max_size=6))))
def test_names(target: str) -> None:
    try:
        wp.native(target, "int (int)")
    except (ValueError, TypeError, OSError, AttributeError) as error:
        assert "native()" in str(error)


# ---- Arguments that act ----


class Scene:
    """What there is to act on while the arguments of a call are converted."""

    def __init__(self, function: wp.NativeFunction) -> None:
        self.function = function
        self.pool = wp.WorkerPool(1, queue_size=4)
        self.results = self.pool.results()
        self.memory = bytearray(64)
        self.items: list[Any] = []
        self.map: Any = iter(())
        self.futures: list[Any] = []
        self.depth = 0

    def act(self, deed: str) -> None:
        """What acts may be acted on in its turn, but not without end."""
        if self.depth < 3:
            self.depth += 1
            try:
                SCENES[deed](self)
            finally:
                self.depth -= 1

    def end(self) -> None:
        self.pool.shutdown()
        self.results.close()
        assert self.pool._stats()["workers"] == 0
        assert self.pool.stats().unfinished == 0
        assert all(future.done() for future in self.futures)


def submit_another(scene: Scene) -> None:
    scene.futures.append(scene.pool.options(on_full="discard").submit(scene.function, scene.memory, len(scene.memory)))


SCENES: dict[str, Callable[[Scene], Any]] = {
    "nothing": lambda scene: None,
    "clear": lambda scene: scene.items.clear(),
    "append": lambda scene: scene.items.append(Acting(scene, "append")) if len(scene.items) < 20 else None,
    "replace": lambda scene: scene.items.__setitem__(slice(None), [1] * len(scene.items)),
    "next": lambda scene: next(scene.map, None),
    "close": lambda scene: getattr(scene.map, "close", int)(),
    "drop": lambda scene: setattr(scene, "map", iter(())),
    "submit": submit_another,
    "submit a result": lambda scene: scene.results.submit(scene.function, b"ab", 2) if scene.results.pending < 3 else 0,
    "close results": lambda scene: scene.results.close(),
    "shut down": lambda scene: scene.pool.shutdown(wait=False, cancel_futures=True),
    "grow": lambda scene: scene.memory.extend(bytes(1000)),
    "shrink": lambda scene: scene.memory.clear(),
    "collect": lambda scene: gc.collect(0),
    "switch": switch,
    "raise": fail,
}


class Acting:
    """A number that acts when it is asked which one it is; as an iterable, for each item."""

    def __init__(self, scene: Scene, deed: str) -> None:
        self.scene = scene
        self.deed = deed

    def __index__(self) -> int:
        self.scene.act(self.deed)
        return 3

    def __iter__(self) -> Iterator[Any]:
        for number in range(5):
            self.scene.act(self.deed)
            yield number % 3


WHAT_ACTS_MAY_RAISE = (*REFUSED, OddError, BufferError, RuntimeError, CancelledError, wp.QueueFull)
DEED = st.sampled_from(sorted(SCENES))


def mapped_scene(scene: Scene, deeds: list[str], chunksize: int | None, buffersize: int | None) -> None:
    scene.items.extend(Acting(scene, deed) for deed in deeds[1:])
    memories = [scene.memory] * 20
    scene.map = scene.pool.map(scene.function, memories, scene.items, chunksize=chunksize, buffersize=buffersize)
    for value in scene.map:
        assert value == 0
    numbers = Acting(scene, deeds[0])
    scene.map = scene.pool.map(scene.function, memories, numbers, chunksize=chunksize, buffersize=buffersize)
    for value in scene.map:
        assert value == 0


@SETTINGS
@given(
    deeds=st.lists(DEED, min_size=2, max_size=6),
    way=st.sampled_from(["call", "submit", "results", "map", "python map"]),
    chunksize=st.sampled_from([None, 1, 2, 100]),
    buffersize=st.sampled_from([None, 1, 2, 100]),
)
def test_arguments_that_act(
    helpers: Helpers, deeds: list[str], way: str, chunksize: int | None, buffersize: int | None
) -> None:
    scene = Scene(helpers.native("sum_bytes", "uint64_t (const void *, size_t)"))
    arguments = (scene.memory, Acting(scene, deeds[0]))
    try:
        if way == "call":
            assert scene.function(*arguments) == 0
        elif way == "submit":
            scene.futures.append(scene.pool.submit(scene.function, *arguments))
            assert scene.futures[-1].result(LONG) == 0
        elif way == "results":
            scene.results.submit(scene.function, *arguments)
        elif way == "map":
            mapped_scene(scene, deeds, chunksize, buffersize)
        else:
            scene.map = scene.pool.map(divmod, Acting(scene, deeds[0]), range(1, 20), buffersize=buffersize)
            for number, value in enumerate(scene.map):
                assert number >= 5 or isinstance(value, tuple)
    except WHAT_ACTS_MAY_RAISE as error:
        note(f"{type(error).__name__}: {error}")
    finally:
        scene.end()
