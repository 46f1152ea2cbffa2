"""Jobs that a coroutine waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from .. import WorkerPool
from .bench import OURS, TPE, Bench, Catalogue
from .functions import double_function, nothing

VIA_LOOP = f"run_in_executor on {TPE}"


def add_cases(catalogue: Catalogue) -> None:
    case = catalogue.case
    case("await-c", "await pool.run(...), 2,000 gathered, C function", jobs=2000, quick_jobs=500)(await_c)
    case("await-py", "await pool.run(...), 2,000 gathered, Python function", jobs=2000, quick_jobs=500)(await_python)


def await_c(bench: Bench) -> None:
    fabs = double_function("fabs")
    _add_contenders(bench, (fabs.native, -2.5), (fabs.plain, -2.5), expect=[2.5] * bench.jobs)


def await_python(bench: Bench) -> None:
    _add_contenders(bench, (nothing,), (nothing,), expect=[None] * bench.jobs)


def _add_contenders(bench: Bench, ours: tuple[Any, ...], theirs: tuple[Any, ...], expect: list[Any]) -> None:
    loop = asyncio.new_event_loop()
    bench.at_end(loop.close)
    pool, executor = bench.pool(), bench.executor()

    def gathered(start: Callable[..., Awaitable[Any]], call: tuple[Any, ...]) -> Callable[[], object]:
        async def gather() -> list[Any]:
            return await asyncio.gather(*(start(*call) for _ in range(bench.jobs)))

        return lambda: loop.run_until_complete(gather())

    def in_executor(of: Any) -> Callable[..., Awaitable[Any]]:
        return lambda function, *arguments: loop.run_in_executor(of, function, *arguments)

    run = getattr(pool, "run", None)
    if run is None:
        bench.leave_out(OURS, f"{WorkerPool.__name__} has no run() in this version")
    else:
        bench.add(OURS, gathered(run, ours), expect=expect)
    bench.add(VIA_LOOP, gathered(in_executor(executor), theirs), expect=expect)
    bench.add(f"run_in_executor on {OURS}", gathered(in_executor(pool), ours), expect=expect)
    bench.at_least(5, over=VIA_LOOP)
