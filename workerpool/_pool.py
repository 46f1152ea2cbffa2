"""The pool's Python face: what arguments mean, what the defaults are, and the bridges to concurrent.futures.

Everything that happens for each job is in the extension; here is what happens once for a pool, a view or a map.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import operator
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import EllipsisType, FunctionType
from typing import Any, SupportsIndex, TypeVar

from . import _array, _core
from ._callers import CALLERS, WITHIN
from ._checks import kind_of, utf8_text, whole_number
from ._core import CancelToken, NativeFunction, Results
from ._submitted_map import SubmittedMap, other_submit
from ._worker_thread.threading import begin, end

T = TypeVar("T")

DEFAULT_QUEUE_SIZE = 1024
DEFAULT_LANES = ("high", "normal", "low")
DEFAULT_LANE = "normal"
# A pool whose queue has no bound still needs one for the lazy map.
DEFAULT_BUFFERSIZE = 1024
# Numbers that are larger mean no more than these, and the extension takes no larger ones.
LARGEST_COUNT = 2**31 - 1
LARGEST_SIZE = sys.maxsize
UNLIMITED_BUFFERSIZE = 2**63
# A pool's (WP_MAX_LANES in csrc/core/wp_stats.h).
MOST_LANES = 16


@dataclass(frozen=True)
class Lane:
    """A priority class of a pool, for its `lanes` argument, in which the most urgent comes first.

    Which one jobs go to that name none, WorkerPool says.

    name: what jobs are sent to it by.
    capacity: jobs that may wait in it, or None for any number; left out, the pool's `queue_size`.
    max_running: workers that may run its jobs at one time, or None for all.
    """

    name: str
    capacity: int | EllipsisType | None = ...
    max_running: int | None = None


@dataclass(frozen=True)
class LaneStats:
    """What one lane has done. Jobs are counted once; times are in seconds, and at most 19 % too large.

    submitted: jobs that were taken, those that the caller ran itself (on_full="caller_runs") too. Each of them ends as
    done, failed, cancelled, expired (its queue_timeout was over before it began), timed_out (its run_timeout was over)
    or lost (the pool broke before it began: an initializer failed, or the process was forked).
    rejected: jobs that were not taken for want of room, and are not in submitted: by QueueFull, its SubmitTimeout, or
    on_full="discard". A submit that waited for room and got it is none of them.
    waiting counts what a worker has claimed and not begun as well: it can be above the capacity by 32 for each worker.
    wait_time and run_time have the keys "p50", "p90", "p99" and "max". Of very short jobs they are samples.
    """

    submitted: int
    rejected: int
    waiting: int
    capacity: int | None
    done: int
    failed: int
    cancelled: int
    expired: int
    timed_out: int
    lost: int
    wait_time: dict[str, float]
    run_time: dict[str, float]


@dataclass(frozen=True)
class PoolStats:
    """A snapshot of a pool.

    workers: threads that take jobs; busy: of them, those that are not asleep. unfinished: jobs that wait or run.
    busy_time: seconds that workers have spent in jobs. lanes: LaneStats by name.
    """

    max_workers: int
    workers: int
    busy: int
    unfinished: int
    busy_time: float
    lanes: dict[str, LaneStats]


_core._use_worker_functions(begin, end, WITHIN, CALLERS)


# ---- Checking arguments ----


def _iterable(value: Iterable[T], name: str) -> Iterable[T]:
    try:
        return iter(value)
    except TypeError:
        raise TypeError(f"{name} must be iterable, which {type(value).__name__} is not") from None


def _max_workers(value: SupportsIndex | None, default: int) -> int:
    if value is None:
        return default
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"max_workers must be a whole number or None, not {type(value).__name__}") from None
    if number <= 0:
        raise ValueError("max_workers must be greater than 0")
    return min(number, LARGEST_COUNT)


def _capacity(value: SupportsIndex | None, name: str) -> int | None:
    return None if value is None else whole_number(value, name, 0)


def _lane_settings(lane: str | Lane, queue_size: int | None) -> tuple[str, int | None, int]:
    if isinstance(lane, str):
        return utf8_text(lane, "the name of a lane in lanes"), queue_size, 0
    if not isinstance(lane, Lane):
        raise TypeError(f"lanes must be names or workerpool.Lane objects, not {kind_of(lane, Lane)}")
    utf8_text(lane.name, "the name of a lane in lanes")
    capacity = (
        queue_size
        if isinstance(lane.capacity, EllipsisType)
        else _capacity(lane.capacity, f"capacity of lane {lane.name!r} in lanes")
    )
    place = f"max_running of lane {lane.name!r} in lanes"
    most = 0 if lane.max_running is None else whole_number(lane.max_running, place, 1, LARGEST_COUNT)
    return lane.name, capacity, most


def _lanes(lanes: Iterable[str | Lane], queue_size: int | None) -> tuple[tuple[str, int | None, int], ...]:
    if isinstance(lanes, str):
        raise TypeError("lanes must be a sequence of names, not one name")
    # No more of them are asked for than a pool can have: there may be no end to them.
    some = itertools.islice(_iterable(lanes, "lanes"), MOST_LANES + 1)
    settings = tuple(_lane_settings(lane, queue_size) for lane in some)
    names = [name for name, _, _ in settings]
    if not names:
        raise ValueError("lanes must name at least one lane")
    if len(names) > MOST_LANES:
        raise ValueError(f"lanes must be at most {MOST_LANES}")
    if len(set(names)) != len(names):
        raise ValueError(f"lanes must have different names, not {names!r}")
    return settings


def _default_lane(names: Sequence[str]) -> int:
    """Where plain submit goes: to "normal" if there is one, else to the middle one, or the less urgent of two."""
    return names.index(DEFAULT_LANE) if DEFAULT_LANE in names else len(names) // 2


def _stack_size(value: SupportsIndex) -> int:
    return whole_number(value, "stack_size", _core._least_stack_size(), LARGEST_SIZE)


def _check_initializer(initializer: Callable[..., object] | None) -> None:
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")


# ---- What pools and views share ----


class _Submitter(concurrent.futures.Executor):
    """map(), results() and views: the same for a pool and for a view of it."""

    def map(
        self,
        fn: Callable[..., T] | NativeFunction,
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | None = None,
        in_order: bool = True,
    ) -> _core.Map[T] | SubmittedMap[T]:
        """Call fn with one item of each iterable, for all of them, and yield the results lazily.

        timeout: seconds from now after which asking for the next result raises TimeoutError.
        chunksize: calls that a worker takes at a time; left out, it is found by measuring how long they take.
        buffersize: calls that are under way or whose results were not yielded yet, at most. No more input than that is
            taken ahead. Left out, it follows the queue's size, and is 32 times that for calls that were measured
            to take less than a microsecond, if the input is a list, a tuple or a range.
        in_order: yield in the order of the input; else as calls end.

        An exception in a call, or in an iterable, is raised where its result would have come; the calls that have not
        begun then are cancelled. So are they when the iterator is dropped or closed.

        Where submit() is not the pool's own, because a subclass overrides it or somebody has replaced it, each call
        goes through that one, and chunksize means nothing.
        """
        if not iterables:
            raise TypeError("map() must have at least one iterable")
        chunk = 0 if chunksize is None else whole_number(chunksize, "chunksize", 1)
        bound = self._buffersize(buffersize)
        submit = other_submit(self)
        if submit is not None:
            alone = bound >= UNLIMITED_BUFFERSIZE
            return SubmittedMap(
                submit, fn, iterables, timeout=timeout, most=bound, in_order=in_order, goes_on_alone=alone
            )
        return _core.Map(self, fn, iterables, timeout, chunk, bound, buffersize is None, in_order)

    def map_array(
        self, fn: NativeFunction | Callable[..., Any], /, *arrays: Any, out: Any = None, grain: int | None = None
    ) -> Any:
        """Run fn over whole arrays, on the workers and the calling thread together, and return the result.

        fn: what is done with the elements, without an object for any of them. It is one of:

        * A NativeFunction that returns a number, such as `double (double, double)`: called once for each element.
          `arrays` are arrays or numbers, broadcast together as NumPy does; a pointer parameter takes one buffer or
          address, which each call gets.
        * A kernel, a NativeFunction called once for each range of elements: its first two parameters are where the
          range begins and ends, as `int (size_t begin, size_t end, const double *in, double *out)`. `arrays` go to
          the parameters from the third on. A pointer to numbers takes a contiguous array of them, of any shape; all
          have the same number of elements, which is that of the loop. A `void *` takes any buffer, and a number is
          passed as it is. Where no array says how many elements there are, or not all of them are wanted, a
          range(begin, end) comes first. A result that is not 0 is an error, unless fn was made with raises="negative"
          or returns void.
        * A NumPy ufunc of numbers, or a function made by numba's @vectorize. Floating point errors give no warnings.

        arrays: any objects with a buffer: NumPy arrays, array.array, memoryview, ctypes arrays. They may have any
            strides, but nothing is converted: dtypes must be exactly those of fn's parameters. Python's numbers are.
        out: an array for the result (of a ufunc with several results a tuple of arrays): its dtype that of the result,
            its shape that of the broadcast arrays, or one to which that can be broadcast. It may be one of `arrays`,
            but not overlap one in another way. For a kernel, it goes to the last pointer to what is not const. Left
            out, it is made: by NumPy if NumPy was imported, else a memoryview.
        grain: elements in a range, at least 1. None: found by measuring, about 100 microseconds each.

        Returns the result, an array of the broadcast shape; `out` if that was given; None for a kernel all of whose
        parameters are in `arrays`.

        The loop is one job in this pool's lane, but begins at once on the calling thread; workers join it when they
        come to it. An error, a cancelled token, a run_timeout and Ctrl-C stop it between ranges: what was begun is
        done, and the rest of the result is as it was. Arrays are held until the end; nobody may change them meanwhile.

        Raises NativeError if fn returned an error: its `elements` is the range in which that was, and the message names
        the element. CancelledError, JobTimeout and KeyboardInterrupt have a note that says how far the loop came.
        TypeError for a wrong dtype or number of arrays; ValueError for shapes that do not fit, overlaps, a read-only
        `out`, foreign byte order or wrong alignment, all of it before anything runs. RuntimeError after shutdown.
        Thread-safe.
        """
        return _core._map_array(self, *_array.request("map_array", fn, arrays, out, grain))

    def submit_array(
        self, fn: NativeFunction | Callable[..., Any], /, *arrays: Any, out: Any = None, grain: int | None = None
    ) -> _core.Future[Any]:
        """Submit a loop over whole arrays, and return the Future of what map_array() would return.

        The arguments are map_array()'s. What is wrong with them is raised here. The loop waits for its turn in the lane
        as any job does, and then takes as many workers as come free; the calling thread takes no part. A future that is
        asked to stop, by request_cancel(), ends as cancelled unless all elements were done.
        """
        return _core._submit_array(self, *_array.request("submit_array", fn, arrays, out, grain))

    def _buffersize(self, buffersize: int | None) -> int:
        if buffersize is not None:
            return whole_number(buffersize, "buffersize", 1)
        return self._default_buffersize

    _default_buffersize: int = DEFAULT_BUFFERSIZE

    def results(self, maxsize: int | None = DEFAULT_QUEUE_SIZE) -> Results:
        """Return a bounded queue of results: submit jobs to it, and read their outcomes in the order they come.

        maxsize: jobs under way plus results not read, at most; None for any number. A submit beyond it waits for a
            reader, for ever if that should be the same thread. Iteration over the queue ends only after its close().
            See Results, which has an example.
        """
        return Results(self, 0 if maxsize is None else whole_number(maxsize, "maxsize", 1))

    def lane(self, name: str) -> View:
        """Return a view of this pool that submits to the lane of that name."""
        return View(self, lane=name)

    def options(
        self,
        *,
        lane: str | None = None,
        token: CancelToken | None = None,
        submit_timeout: float | None = None,
        queue_timeout: float | None = None,
        run_timeout: float | None = None,
        label: str | None = None,
        on_full: str | None = None,
    ) -> View:
        """Return a view of this pool that submits with these options; those left out stay as they are.

        lane: name of the lane. token: a CancelToken for the jobs and for a submit that waits.
        submit_timeout: seconds that submit waits for room, at most; then it raises SubmitTimeout, a QueueFull.
        queue_timeout: seconds that a job waits to begin, at most; then it ends with JobExpired.
        run_timeout: seconds after which a running job is asked to stop; it then ends with JobTimeout. A job that does
            not look whether it was asked runs on to its end: until then its worker is not free and result() waits, with
            nothing but its own timeout to end that.
        label: a name for the jobs, for people. on_full: as for WorkerPool.
        """
        return View(
            self,
            lane=lane,
            token=token,
            submit_timeout=submit_timeout,
            queue_timeout=queue_timeout,
            run_timeout=run_timeout,
            label=label,
            on_full=on_full,
        )


class View(_core.View, _Submitter):
    """A pool seen through options: an Executor of its own, on the pool's workers. Made by lane() and options()."""

    @property
    def pool(self) -> WorkerPool:
        """The pool whose workers run the jobs."""
        pool: WorkerPool = self._pool
        return pool

    @property
    def _default_buffersize(self) -> int:  # type: ignore[override]
        return self.pool._default_buffersize

    def __repr__(self) -> str:
        label = f", label {self.label!r}" if self.label is not None else ""
        return f"<View of {self.pool!r}: lane {self.lane_name!r}{label}>"


class WorkerPool(_core.Pool, _Submitter):
    """A bounded pool of native threads. A concurrent.futures.Executor.

    max_workers: threads at most; None for as many as this process may use processors. They start as jobs come.
    queue_size: jobs that may wait in each lane. 0: none may, submit hands over to a free worker. None: any number.
    on_full: what submit does when they do: "block" (wait), "raise" (QueueFull), "caller_runs" (run it here), "discard"
        (its future ends cancelled) or "discard_oldest" (the longest waiting one's does).
    lanes: names or Lane objects, 1 to 16, the most urgent first; fixed. Plain submit goes to "normal" if
        there is one, else to the middle one; of an even number, to the less urgent of the two in the middle, as to the
        second of two. Within a lane jobs begin in the order in which they came.
    fairness: a lane in which jobs wait is served at least once in so many jobs; 0: only when nothing more urgent waits.
    thread_name_prefix: threads are called prefix_0, prefix_1 and so on.
    initializer, initargs: called on each worker before its first job. If it raises, the pool is broken.
    idle_timeout: seconds after which a worker without work ends; None: never.
    stack_size: bytes of stack for each worker, at least 128 KiB (192 from Python 3.14 on); None: what
        threading.stack_size() says when a submit starts the worker, or 8 MiB, or what `ulimit -s` says if that is more.
    inner_threads: threads that OpenMP and BLAS libraries may use for each worker, itself included; None: as many as
        they would. 1 keeps a BLAS from starting a team of threads on every worker. A number is never raised. OpenMP,
        what takes its threads from there, and MKL are limited on the workers only. OpenBLAS with threads of its own (as
        in the wheels of NumPy and SciPy) and BLIS have one number for the whole process: it is set while the pool has
        workers, and then put back. Libraries are found when a worker starts, before it runs Python jobs and before it
        sleeps; so one that a job loads is limited from that worker's next Python job on. It is set before `initializer`
        is called, which may change it. A job that another thread runs itself (on_full="caller_runs", a short native job
        that is waited for) has that thread's numbers.

    Context variables: a job sees what its submitter had set when it submitted, and of what the submitter had not set,
    what the initializer set. What it sets itself nobody else sees, nor does another call of its map. Variables are
    copied and not the objects in them, except for the context of the decimal module: that is each job's own. One whose
    settings are those of decimal.DefaultContext counts as not set, since any use of decimal makes it: there the
    initializer's is seen.

    In a job threading.current_thread() is an ordinary Thread, which ends when the worker does. Workers begin with the
    functions of threading.settrace() and setprofile(), once they run Python.

    Use it as a context manager, or call shutdown(). All methods may be called from any thread.
    """

    _counter = itertools.count().__next__
    # Whether jobs run in their worker's own context, see the drop-in.
    _own_context = False

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        queue_size: int | None = DEFAULT_QUEUE_SIZE,
        on_full: str = "block",
        lanes: Iterable[str | Lane] = DEFAULT_LANES,
        fairness: int = 64,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        idle_timeout: float | None = None,
        stack_size: int | None = None,
        inner_threads: int | None = None,
    ) -> None:
        _check_initializer(initializer)
        inner = None if inner_threads is None else whole_number(inner_threads, "inner_threads", 1, LARGEST_COUNT)
        bound = _capacity(queue_size, "queue_size")
        settings = _lanes(lanes, bound)
        prefix = utf8_text(thread_name_prefix, "thread_name_prefix")
        workers = _max_workers(max_workers, _core.processors())
        self._thread_name_prefix = prefix or f"WorkerPool-{WorkerPool._counter()}"
        self._initializer = initializer
        self._initargs = tuple(_iterable(initargs, "initargs"))
        self._worker_threads: dict[int, threading.Thread] = {}
        super().__init__(
            max_workers=workers,
            lanes=settings,
            lane=_default_lane([name for name, _, _ in settings]),
            on_full=on_full,
            fairness=whole_number(fairness, "fairness", 0, LARGEST_COUNT),
            thread_name=self._thread_name_prefix,
            initializer=initializer,
            initargs=self._initargs,
            idle_timeout=idle_timeout,
            stack_size=0 if stack_size is None else _stack_size(stack_size),
            threads=self._worker_threads,
            own_context=self._own_context,
        )
        if inner is not None:
            _core._limit_inner_threads(self, inner)
        if bound is not None:
            self._default_buffersize = max(bound, 2 * workers)

    def stats(self) -> PoolStats:
        """Return a snapshot of what the pool has done and does."""
        raw = self._stats()
        raw["lanes"] = {name: LaneStats(**lane) for name, lane in raw["lanes"].items()}
        return PoolStats(**raw)

    # What users and libraries read of the standard library's pool.

    @property
    def _threads(self) -> set[threading.Thread]:
        """The workers that run Python and have not ended, as of now."""
        return set(self._worker_threads.copy().values())

    @property
    def _work_queue(self) -> _WorkQueue:
        return _WorkQueue(self)

    def __repr__(self) -> str:
        state = "shut down" if self._shutdown else "open"
        return f"<{type(self).__name__} {self._thread_name_prefix!r}, max_workers={self._max_workers}, {state}>"


# Python's own messages name a method by this: by the class that users know.
for _method in vars(_Submitter).values():
    if isinstance(_method, FunctionType):
        _method.__qualname__ = f"WorkerPool.{_method.__name__}"


class _WorkQueue:
    """The one thing that is asked of a pool's queue from outside: how many jobs wait."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def qsize(self) -> int:
        return sum(lane.waiting for lane in self._pool.stats().lanes.values())


def _standard_max_workers() -> int:
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return min(32, (count or 1) + 4)


def _run_one_of(items: Any, *context: Any) -> None:
    """On a worker: items of the standard library's run themselves. None is what tells its workers to look up."""
    try:
        item = items.get_nowait()
    except queue.Empty:
        return
    if item is not None:
        item.run(*context)


class ThreadPoolExecutor(WorkerPool, concurrent.futures.ThreadPoolExecutor):  # type: ignore[misc, override]
    """A drop-in for concurrent.futures.ThreadPoolExecutor: the same arguments and defaults, on a WorkerPool.

    submit never waits (the queue has no bound), and map takes its whole input at once unless it is given a buffersize.
    All that a WorkerPool can do is there too: lanes, options, tokens, native functions.

    Context variables: as in the standard library, and other than in a WorkerPool, jobs run in the context of their
    worker, not in that of the submitter. What the initializer or an earlier job on the same worker has set is seen
    there. asyncio.to_thread() and contextvars.copy_context().run bring a context themselves. A worker's context begins
    empty, or where sys.flags.thread_inherit_context is set (3.14) as a copy of that of who submitted last before it
    began. A job that another thread runs, or a worker that waits within another job, runs in a copy.
    """

    _number = itertools.count().__next__
    _own_context = True

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        super().__init__(
            _max_workers(max_workers, _standard_max_workers()),
            queue_size=None,
            thread_name_prefix=utf8_text(thread_name_prefix, "thread_name_prefix")
            or f"ThreadPoolExecutor-{ThreadPoolExecutor._number()}",
            initializer=initializer,
            initargs=initargs,
        )
        if sys.version_info >= (3, 14):  # Where the standard library's keeps the initializer.
            self._create_worker_context, self._resolve_work_item_task = type(self).prepare_context(
                initializer, self._initargs
            )
        self._shutdown_lock = threading.Lock()

    # Some put a queue of their own in the place of the standard library's, with an order of its own, and do as its
    # submit() and shutdown() do (spdl's priority executors). Then a worker runs one item of that queue for each call of
    # _adjust_thread_count().

    _other_queue: Any = None

    @property
    def _work_queue(self) -> Any:
        return super()._work_queue if self._other_queue is None else self._other_queue

    @_work_queue.setter
    def _work_queue(self, queue: Any) -> None:
        self._other_queue = queue

    def _adjust_thread_count(self) -> None:
        if self._other_queue is not None:
            make_context: Any = getattr(self, "_create_worker_context", None)
            context = () if make_context is None else (make_context(),)
            _core.Pool.submit(self, _run_one_of, self._other_queue, *context)

    @property
    def _shutdown(self) -> bool:
        return super()._shutdown

    @_shutdown.setter
    def _shutdown(self, value: bool) -> None:
        if value:
            _core.Pool.shutdown(self, wait=False)

    def map(  # type: ignore[override]
        self,
        fn: Callable[..., T] | NativeFunction,
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,  # noqa: ARG002
        buffersize: int | None = None,
        in_order: bool = True,
    ) -> _core.Map[T] | SubmittedMap[T]:
        """As concurrent.futures.Executor.map: all input is taken now, unless buffersize says how much.

        chunksize is accepted and has no meaning for threads. in_order=False yields results as they come. Without a
        buffersize, an iterator that is dropped before it was asked for anything cancels nothing.
        """
        # Without iterables the standard library's map is over nothing.
        return super().map(fn, *(iterables or ((),)), timeout=timeout, buffersize=buffersize, in_order=in_order)

    def _buffersize(self, buffersize: int | None) -> int:
        if buffersize is None:
            return UNLIMITED_BUFFERSIZE
        if not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        return min(buffersize, UNLIMITED_BUFFERSIZE)
