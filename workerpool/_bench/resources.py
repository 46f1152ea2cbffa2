"""What a pool takes when it waits: memory for each job, time for each of very many, nothing when it is idle."""

from __future__ import annotations

from .alone import in_process
from .bench import OURS, TPE, Bench, Catalogue
from .machine import has_schedstat

IDLE_WORKERS = 64
FLAT_KB = 1000  # Ten million jobs that leave one byte each would come to ten times as much.


def add_cases(catalogue: Catalogue) -> None:
    case = catalogue.case
    case(
        "memory",
        "memory for each waiting job, its future included",
        jobs=1_000_000,
        quick_jobs=20_000,
        rounds=3,
        figure="bytes",
    )(memory)
    case(
        "ten-million",
        "time of a job, of 10 million and of 100,000, and memory meanwhile",
        jobs=0,
        quick_jobs=0,
        rounds=5,
    )(ten_million)
    case("idle", "64 workers that have nothing to do for 10 s", jobs=0, quick_jobs=0, rounds=2, figure="idle_cpu_us")(
        idle
    )


def memory(bench: Bench) -> None:
    for work in ("C", "Python"):
        bench.new_group()
        names = {executor: f"{executor} ({work} function)" for executor in (OURS, TPE)}
        for executor, name in names.items():
            arguments = {"executor": executor, "work": work, "jobs": bench.jobs, "workers": bench.workers}
            bench.add_measured(name, in_process("waiting_jobs", **arguments), warm=False)
        bench.at_least(8, of=names[OURS], over=names[TPE], figure="bytes")


def ten_million(bench: Bench) -> None:
    many, few, times = (200_000, 20_000, 2) if bench.quick else (10_000_000, 100_000, 20)
    for how in ("map", "submit", "results"):
        bench.new_group()
        names = {jobs: f"{OURS}, {how} of {jobs:,}" for jobs in (few, many)}
        for jobs, name in names.items():
            repeat = times if jobs == few else 1
            arguments = {"how": how, "jobs": jobs, "times": repeat, "workers": bench.workers}
            bench.add_measured(name, in_process("many_jobs", **arguments), warm=False)
        bench.at_least(1 / 1.15, of=names[many], over=names[few])
        bench.at_most(FLAT_KB, of=names[many], figure="grown_kb")


def idle(bench: Bench) -> None:
    for executor in (OURS, TPE):
        if not has_schedstat():
            bench.leave_out(executor, "the system does not say what each thread uses; Linux does, in /proc")
            continue
        seconds = 1 if bench.quick else 10
        measure = in_process("idle", executor=executor, workers=IDLE_WORKERS, seconds=seconds)
        bench.add_measured(executor, measure, warm=False)
    bench.at_most(0, of=OURS, figure="idle_cpu_us")
    bench.at_most(0, of=OURS, figure="idle_switches")
