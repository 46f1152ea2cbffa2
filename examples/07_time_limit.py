"""Go pattern: `context.WithTimeout` for each job.

See three outcomes: a job that is quick; one that runs too long, sees that its time is over and stops (JobTimeout); and
one that waits too long in the queue and never begins (JobExpired). No thread is killed: a job has to look.
"""

from time import perf_counter, sleep

import workerpool as wp

RUN_TIMEOUT = 0.05


def work(steps: int) -> str:
    job = wp.current_job()
    for _ in range(steps):
        job.raise_if_cancelled()  # Go: case <-ctx.Done(): return ctx.Err()
        sleep(0.001)
    return f"{steps} steps done"


def main() -> None:
    with wp.WorkerPool(max_workers=1) as pool:
        limited = pool.options(run_timeout=RUN_TIMEOUT)
        print("quick:", limited.submit(work, 1).result())

        start = perf_counter()
        slow = limited.submit(work, 10_000)
        waiting = pool.options(queue_timeout=0.01).submit(work, 1)
        for name, future in (("waiting", waiting), ("slow", slow)):
            try:
                future.result()
            except wp.JobExpired:
                print(f"{name}: JobExpired, it never began")
            except wp.JobTimeout:
                print(f"{name}: JobTimeout, stopped itself early: {perf_counter() - start < 5}")


if __name__ == "__main__":
    main()
