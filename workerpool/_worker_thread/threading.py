"""A worker as a thread that the threading module knows.

What current_thread() returns in a job is a plain threading.Thread. The worker makes it when it first runs Python,
and it ends with the worker. Nobody can start it, since it has been started. It is no daemon, and yet the threading
module does not wait for it at exit, because the pool's own exit handler ends the worker and waits for that.

The names of this file and of _bootstrap() are those of the threading module. By these debuggers know who may call
sys.settrace(), and that a thread is not yet to be asked for: it would get an object that nobody can join.
"""

from __future__ import annotations

import sys
import threading
from typing import Any


def _new_thread(name: str) -> Any:
    """The calling thread as Thread._bootstrap_inner() and _DummyThread.__init__() would have it."""
    # Without `daemon` the threading module asks which thread this is.
    thread: Any = threading.Thread(name=name, daemon=False)
    thread._set_ident()
    if hasattr(thread, "_set_native_id"):
        thread._set_native_id()
    _hold(thread)
    thread._started.set()
    return thread


if sys.version_info >= (3, 13):
    # A handle of a thread that somebody else started says "running" until it is told otherwise.
    _HANDLE = "_os_thread_handle" if sys.version_info >= (3, 14) else "_handle"

    def _hold(thread: Any) -> None:
        setattr(thread, _HANDLE, threading._make_thread_handle(thread.ident))  # type: ignore[attr-defined]

    def _let_go(thread: Any) -> None:
        getattr(thread, _HANDLE)._set_done()

else:
    # The interpreter releases this lock when it deletes the thread's state.
    def _hold(thread: Any) -> None:
        thread._tstate_lock = threading._set_sentinel()  # type: ignore[attr-defined]
        thread._tstate_lock.acquire()

    def _let_go(thread: Any) -> None:
        pass


def _bootstrap(threads: dict[int, threading.Thread], prefix: str, index: int) -> None:
    """Make the calling thread, the worker of that index, a thread of Python's, and enter it in `threads`."""
    thread = _new_thread(f"{prefix}_{index}")
    with threading._active_limbo_lock:  # type: ignore[attr-defined]
        threading._active[thread.ident] = thread  # type: ignore[attr-defined]
    threads[index] = thread
    # As the threads of the threading module begin. These come last: from here on they see what is called.
    trace = threading.gettrace()
    profile = threading.getprofile()
    if trace is not None:
        sys.settrace(trace)
    if profile is not None:
        sys.setprofile(profile)


begin = _bootstrap


def end(threads: dict[int, threading.Thread], index: int) -> None:
    """Take the calling thread out again, as the last that it does in Python; once more if that was interrupted."""
    thread = threads.get(index)
    if thread is None:
        return
    active = threading._active  # type: ignore[attr-defined]
    with threading._active_limbo_lock:  # type: ignore[attr-defined]
        if active.get(thread.ident) is thread:
            del active[thread.ident]
    _let_go(thread)
    threads.pop(index, None)
