"""Go pattern: the number of workers is one variable; change it and the same program takes another time.

See: 20 jobs that each wait 10 ms (as for a network) take about 200 ms with one worker, 100 ms with two, and so on.
Give other numbers on the command line: `python 02_number_of_workers.py 1 4 20`.
"""

import sys
from time import perf_counter, sleep

import workerpool as wp

JOBS = 20
SECONDS = 0.01


def fetch(number: int) -> int:
    sleep(SECONDS)
    return number


def main() -> None:
    for workers in map(int, sys.argv[1:] or ("1", "2", "5", "10")):
        with wp.WorkerPool(max_workers=workers) as pool:  # Go: for w := 1; w <= workers; w++ { go worker(...) }
            start = perf_counter()
            done = sum(1 for _ in pool.map(fetch, range(JOBS), chunksize=1))
            seconds = perf_counter() - start
        print(f"{workers:2} workers: {done} jobs in {seconds * 1000:3.0f} ms")


if __name__ == "__main__":
    main()
