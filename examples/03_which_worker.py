"""Go pattern: `func worker(id int, jobs <-chan int, results chan<- int)`, where each worker says what it does.

See: each result knows the index of its worker; a running Python job asks `current_job()` for it. The two agree, and
every worker has done something, because each job waits until all workers have one.
"""

import threading
from collections import defaultdict

import workerpool as wp

WORKERS = 3
everyone = threading.Barrier(WORKERS)


def work(_number: int) -> int | None:
    everyone.wait()
    return wp.current_job().worker


def main() -> None:
    jobs_of = defaultdict(list)
    with wp.WorkerPool(WORKERS) as pool, pool.results() as results:
        for number in range(12):
            results.submit(work, number)
        results.close()
        for result in results:
            assert result.worker == result.unwrap(), "the job and its result name the same worker"
            jobs_of[result.worker].append(result.index)
    for worker, jobs in sorted(jobs_of.items()):
        print(f"worker {worker} did {len(jobs)} jobs: {sorted(jobs)}")


if __name__ == "__main__":
    main()
