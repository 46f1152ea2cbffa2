"""A bounded pool of native threads: C functions run on it without the GIL, and Python callables beside them.

    import workerpool as wp

    crc32 = wp.native("libz.so.1:crc32", "unsigned long (unsigned long, const void *, unsigned int)")
    with wp.WorkerPool(max_workers=8, queue_size=1000) as pool:
        future = pool.submit(crc32, 0, data, len(data))
        print(future.result())

See WorkerPool for the pool, native for C functions, and ThreadPoolExecutor for the drop-in.
"""

from __future__ import annotations

from pathlib import Path as _Path

try:
    from ._core import (
        BrokenPool,
        CancelToken,
        DeadlockError,
        Error,
        Future,
        Job,
        JobExpired,
        JobTimeout,
        NativeError,
        NativeFunction,
        QueueFull,
        Result,
        Results,
        SignatureError,
        SubmitTimeout,
        ThreadsCallback,
        current_job,
    )
except ModuleNotFoundError as _error:
    if _error.name != "workerpool._core":
        raise
    from ._unbuilt import explanation as _explanation

    raise ModuleNotFoundError(_explanation(), name=_error.name) from None
from ._native import native
from ._pool import Lane, LaneStats, PoolStats, ThreadPoolExecutor, View, WorkerPool

__version__ = "0.1.0"

__all__ = [
    "BrokenPool",
    "CancelToken",
    "DeadlockError",
    "Error",
    "Future",
    "Job",
    "JobExpired",
    "JobTimeout",
    "Lane",
    "LaneStats",
    "NativeError",
    "NativeFunction",
    "PoolStats",
    "QueueFull",
    "Result",
    "Results",
    "SignatureError",
    "SubmitTimeout",
    "ThreadPoolExecutor",
    "ThreadsCallback",
    "View",
    "WorkerPool",
    "__version__",
    "current_job",
    "get_include",
    "native",
]


def get_include() -> str:
    """Return the folder of workerpool.h and workerpool_api.h, for a C compiler's -I.

    workerpool.h is for C code that runs as a job, workerpool_api.h for extension modules that use pools; Cython has
    both as `from workerpool cimport capi`. See docs/capi.md. Nothing needs to be linked.
    """
    return str(_Path(__file__).parent / "include")


def _imported_from_c() -> None:
    """Import what the compiled part imports by itself, some of it when it is first needed.

    Never called: it shows these modules to tools that collect a program's imports, as PyInstaller does.
    """
    import concurrent.futures.thread
    import ctypes
    import logging
    import os
    import threading

    from . import _aio, _green, _signals
    from ._toolchains import arguments

    del concurrent, ctypes, logging, os, threading, _aio, _green, _signals, arguments
